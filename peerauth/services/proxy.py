"""A service that speaks HTTP: requests of admitted peers, read, judged, and asked anew of a program behind the door.

What a peer says is parsed (http/request.py) and written again, and so is what the program answers (http/response.py,
services/backend.py); only bodies pass through as they are. One request at a time: what comes ahead of its turn waits,
bounded. A body that broke off never looks complete: whoever gets the other half of it sees a reset.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Final

from peerauth.http.body import BadBody, Body, Sized, passed_on
from peerauth.http.errors import BadRequest
from peerauth.http.introduction import Introduction
from peerauth.http.request import About, Request, check_beginning, read_request
from peerauth.http.response import own_answer
from peerauth.net.sockets import taken
from peerauth.services.backend import KEPT
from peerauth.services.front import Front
from peerauth.services.guest import Guest, Serve
from peerauth.services.relay import Relay
from peerauth.services.visit import IDLE, Visit
from peerauth.tls.alerts import Truncated
from peerauth.tls.scratch import Scratch
from peerauth.tls.session import RECORD, Goodbye, Stop, Wait
from peerauth.trust.decision import Admitted

HEAD: Final = 10.0  # seconds from the first byte of a request to the end of its header
AHEAD: Final = 64 << 10  # bytes that may wait for their turn before no more is read


def proxy_service(front: Front) -> Serve:
    """The HTTP service that has this front."""
    return lambda guest: Proxy(guest, front)


class Proxy(Visit):
    """One admitted connection, and the requests that come over it."""

    __slots__ = (
        "_body", "_buffer", "_heard_all", "_introduced", "_introduction", "_last", "_request", "_said", "_taken_before",
    )  # fmt: skip

    def __init__(self, guest: Guest, front: Front) -> None:
        super().__init__(guest, front)
        self._buffer = guest.buffer
        self._said: About | None = None  # by the request before
        self._request: Request | None = None  # which is being answered
        self._body: Body | None = None  # of it, of which more is to come
        self._heard_all = False  # the peer sends nothing more
        self._last = False  # nothing is answered after what is under way
        self._taken_before = 0  # bytes, by both sides, when it was looked at last
        self._introduced: Admitted | None = None
        self._introduction: Introduction

    # From the peer

    def _readable(self) -> None:
        try:
            size, stop = self._near.fill(self._buffer)
            if size:
                self._hear(size)
            if stop is not None:
                self._stopped(stop)
        except Exception:  # never a connection that nobody serves and nobody ends
            self.abort()
            raise

    def _hear(self, size: int) -> None:
        body = self._body
        if body.__class__ is Sized and size <= body.left and not self._came and self._backend.takes:
            body.left -= size  # nothing to be looked at
            self._hurry()
            self._backend.more_from(self._buffer, size)
            self._went(complete=not body.left)
            return
        self._came += self._buffer.view[:size]
        self._go_on()

    def _go_on(self) -> None:
        """Do what can be done with what has come."""
        if self._leaving or self._closed:
            return
        if self._body is not None:
            self._more(self._body)
        elif self._request is None and not self._out.busy:
            self._next()
        elif len(self._came) > AHEAD:
            self._near.when_readable(None)

    def _next(self) -> None:
        """Read the head of the next request, and ask."""
        came, front = self._came, self._front
        start = 2 if came.startswith(b"\r\n") else 0  # one empty line is no request (RFC 9112 section 2.2)
        end = came.find(b"\r\n\r\n", start) + 4
        try:
            if end == 3:
                if self._heard_all:
                    self._leave()
                elif len(came) > start:
                    check_beginning(came)
                    self.deadline = min(self.deadline, self._front.patience.now + HEAD)
                return
            request = read_request(came[start:end], routed=front.routed, last=self._said)
            about = request.about
            self._said = about if end < KEPT else None
            self._request = request
            request.close |= self._last
            if self._introduced is not self.admitted:
                self._introduced = self.admitted
                self._introduction = front.introduce(self.admitted, self.session, self._near.sock)
            question = request.written(front.host, self._introduction.lines(about.host))
            rest: bytes | None = came[end:]
            if front.routed and (denied := front.judge(request, self.admitted, self._near.sock)) is not None:
                self._came = came[end:]
                self._say(403, denied.rule, close=request.close or about.has_body)
                return
            front.end_circle(about)
            if about.has_body:
                self._body = request.body()
                piece, rest = self._taken(self._body, came[end:])
                question += piece
        except BadRequest as error:
            self._say(error.status, error.reason, close=True)
            return
        self._came = b"" if rest is None else rest
        self._hurry()
        self._backend.ask(request, question)
        self._went(complete=rest is not None)
        if len(question) < RECORD:
            self._guest.awake.stay(id(self))

    def _more(self, body: Body) -> None:
        """Pass on what of this is the request's body, if the program takes it."""
        if not self._backend.takes:
            self._near.when_readable(None)
            return
        try:
            piece, rest = self._taken(body, self._came)
        except BadRequest as error:
            self._backend.close(reset=True)
            if self._backend.began:
                self._finish(reset=True)
            else:
                self._say(error.status, error.reason, close=True)
            return
        self._came = b"" if rest is None else rest
        self._hurry()
        self._backend.more(piece)
        self._went(complete=rest is not None)

    @staticmethod
    def _taken(body: Body, data: bytes) -> tuple[bytes, bytes | None]:
        """What of this goes to the program, as it goes; and what comes after the body."""
        try:
            return passed_on(body, data)
        except BadBody as error:
            raise BadRequest(f"the body is malformed: {error}") from None

    def _went(self, *, complete: bool) -> None:
        """More of the request is on its way to the program."""
        if complete:
            self._body = None
        elif not self._backend.takes:
            self._near.when_readable(None)

    def _stopped(self, stop: Stop) -> None:
        if self._closed or self._leaving:
            return
        if isinstance(stop, Goodbye):
            self._near.when_readable(None)
            self._heard_all = True
            if self._body is not None:
                self._finish(reset=True)  # the program must not take half of it for the whole
            else:
                self._go_on()  # what has come ahead of its turn is still answered
        elif isinstance(stop, Exception):
            self._finish(reset=True, near_reset=not isinstance(stop, Truncated))
        elif stop is Wait.WRITABLE:  # TLS has something of its own to send before it reads on
            self._near.when_readable(None)
            self._near.when_writable(self._listen)

    def _listen(self) -> None:
        if not (self._heard_all or self._leaving):
            self._near.when_readable(self._readable)

    def _hurry(self) -> None:
        """Somebody has said something; the next to do so has its time from now."""
        self.deadline = self._front.patience.now + self._front.timeout

    # From the program, as Asker

    def will_close(self) -> bool:
        """As Asker.will_close."""
        if self._request is None:
            return True
        self._request.close |= self._body is not None
        return self._request.close

    def will_send_more(self) -> bool:
        """As Asker.will_send_more."""
        return self._body is not None

    def answer(self, data: bytes) -> None:
        """As Asker.answer."""
        self._hurry()
        try:
            self._out.send(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, the peer hears nothing more
            self._deaf(error)
            return
        if self._out.busy:
            self._backend.listen(on=False)
        elif len(data) < RECORD:
            self._guest.awake.stay(id(self))

    def answer_from(self, buffer: Scratch, size: int) -> None:
        """As Asker.answer_from."""
        self._hurry()
        try:
            self._out.pass_on(buffer, size)
        except Exception as error:  # noqa: BLE001 - as above
            self._deaf(error)
            return
        if self._out.busy:
            self._backend.listen(on=False)

    def answered(self) -> None:
        """As Asker.answered."""
        if self._closed or self._request is None:
            return
        close = self._request.close or self._body is not None
        self._request = None
        if close:
            self._leave()
        else:
            self._ready()

    def no_answer(self, status: int, why: str, error: Exception | None) -> None:
        """As Asker.no_answer."""
        if error is None:  # otherwise the log has it
            self._front.complain(why)
        self._say(status, why, close=self.will_close())

    def cut(self) -> None:
        """As Asker.cut."""
        self._finish(reset=True)

    def takes_more(self) -> None:
        """As Asker.takes_more."""
        self._hurry()
        if self._body is not None:
            self._listen()
            if self._came:
                self._go_on()

    def upgraded(self, head: bytes, rest: bytes) -> None:
        """As Asker.upgraded: what follows is no HTTP, and goes both ways as it comes."""
        if self._out.busy:  # with an interim answer, of all things
            self._finish(reset=True)
            return
        self._near.leave()
        self._front.patience.discard(self)
        self._relay = Relay(dataclasses.replace(self._guest, lost=lambda _: self._lost()), self._front.targets)
        said, self._came = self._came, b""
        self._relay.join(self._backend.release(), said, head + rest)

    def denied(self) -> str | None:
        """As Served.denied. A request that has changed the protocol is under way until the connection ends."""
        return None if self._request is None else self._front.closed(self._request, self.peer)

    # The end

    def _ready(self) -> None:
        """For the next request, which may be there already."""
        if self._last and not self._came:
            self._leave()
            return
        self.deadline = self._front.patience.now + IDLE
        if self._came or self._heard_all:
            self._guest.loop.call_soon(self._go_on)
        self._listen()

    def _free(self) -> None:
        """The peer has taken everything."""
        if self._leaving:
            self._leave()
            return
        if self._request is not None:
            self._hurry()
            self._backend.listen(on=True)
        else:
            self._backend.listen(on=True)
            self._ready()

    def wind_down(self) -> None:
        """As Waiting.wind_down. A request that has come by now is answered: nobody could know whether it was done."""
        if self._request is None and not (self._heard_all or self._leaving):
            with contextlib.suppress(Exception):  # it has ended then
                self._readable()
        self._last = True
        if self._request is not None:
            self._request.close = True
        elif not (self._out.busy or self._came.strip() or self._closed or self._leaving):
            self._leave()

    def _say(self, status: int, text: str, *, close: bool) -> None:
        """Answer this ourselves."""
        head_only = self._request is not None and self._request.method == b"HEAD"
        self._request = self._body = None
        try:
            self._out.send(own_answer(status, text, close=close, head_only=head_only))
        except Exception as error:  # noqa: BLE001 - as above
            self._deaf(error)
            return
        if close:
            self._leave()
        else:
            self._ready()

    def expired(self) -> None:
        """As Waiting.expired."""
        moved, self._taken_before = self._taken_before, taken(self._near.sock) + self._backend.taken
        if (self._out.busy or self._backend.waiting) and self._taken_before != moved:
            self._hurry()  # slow, and not stuck: OpenSSL and the kernel hold what we see as one piece
        elif self._request is None:
            if self._leaving or self._out.busy:
                self._finish(reset=True)
            elif self._came.strip():
                self._say(408, "the header of the request did not come in time", close=True)
            else:
                self._leave()
        elif self._backend.began or self._out.busy:
            self._finish(reset=True)
        elif self._body is not None and self._backend.takes:
            self._backend.close(reset=True)
            self._say(408, "the body of the request did not come in time", close=True)
        else:
            self._backend.close(reset=True)
            self._front.complain("the program behind this door did not answer in time")
            self._say(504, "the program behind this door did not answer in time", close=self.will_close())

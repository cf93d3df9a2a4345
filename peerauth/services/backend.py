"""The connection of a proxy to the program behind the door: one for each peer's connection, and nobody else's.

What was answered to one peer can so never reach another. The connection is kept from one request to the next. Where the
program has closed it meanwhile, a request is asked again on a new one if nothing of it was sent, or if asking twice is as
good as asking once (RFC 9110 section 9.2.2).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

from peerauth.address import Address
from peerauth.http.body import BadBody, Body, Chunked, Sized, UntilEnd, chunk, end_of_chunks
from peerauth.http.request import Request
from peerauth.http.response import LONGEST_HEAD, BadResponse, Response, check_begun, read_response
from peerauth.net.sockets import taken
from peerauth.services.asker import Asker
from peerauth.services.ends import Plain
from peerauth.services.outlet import Outlet
from peerauth.services.targets import Targets
from peerauth.tls.scratch import Scratch
from peerauth.tls.session import Stop, Wait

KEPT: Final = 4096  # bytes: no longer head is kept to be compared with the next


class Backend:
    """At most one request at a time: `ask`, then `more` of its body."""

    __slots__ = (
        "_asker",
        "_body",
        "_buffer",
        "_came",
        "_chunked",
        "_dialling",
        "_end",
        "_ends",
        "_loop",
        "_out",
        "_question",
        "_request",
        "_reused",
        "_said",
        "_targets",
        "began",
    )

    def __init__(self, asker: Asker, loop: asyncio.AbstractEventLoop, buffer: Scratch, targets: Targets) -> None:
        self._asker = asker
        self._loop = loop
        self._buffer = buffer
        self._targets = targets
        self._dialling: asyncio.Task[None] | None = None
        self._end: Plain | None = None
        self._out: Outlet | None = None  # None: the program takes nothing more
        self._request: Request | None = None
        self._question = b""  # how it began, as long as it may have to be asked again
        self._reused = False
        self._came = b""  # of the head of the answer
        self._said: Response | None = None  # the head before, which most programs say again
        self._body: Body | None = None
        self._chunked = False  # the answer goes on in chunks
        self._ends = False
        self.began = False  # the answer, towards the peer

    @property
    def takes(self) -> bool:
        """Whether more of the request can be sent now."""
        return self._dialling is None and not (self._out is not None and self._out.busy)

    @property
    def waiting(self) -> int:
        """How many bytes are held here because the program does not take them."""
        return (self._out.waiting if self._out is not None else 0) + len(self._came)

    @property
    def taken(self) -> int:
        """How many bytes the program has taken so far on this connection."""
        return taken(self._end.sock) if self._end is not None else 0

    @property
    def is_broken(self) -> bool:
        """Whether it is broken in the middle of a request, and nobody has been told."""
        return self._request is not None and self._end is not None and self._end.is_broken

    def ask(self, request: Request, question: bytes) -> None:
        """Send this request; `question` is its head and what is there of its body."""
        self._request = request
        self._question = question
        self.began = False
        if self._end is not None and not request.is_safe_to_repeat and self._is_closed(self._end):
            self._drop()
        if self._end is None:
            self._connect()
            return
        self._reused = True
        self._send(question)

    def more(self, data: bytes) -> None:
        """Send more of the body. Where the program takes none any more, what it answers counts."""
        self._question = b""
        if self._out is not None:
            try:
                self._out.send(data)
            except OSError:
                self._out = None

    def more_from(self, buffer: Scratch, size: int) -> None:
        """The same for the first `size` bytes of `buffer`."""
        self._question = b""
        if self._out is not None:
            try:
                self._out.pass_on(buffer, size)
            except OSError:
                self._out = None

    def listen(self, *, on: bool) -> None:
        """Whether to read what is answered."""
        if self._end is not None:
            self._end.when_readable(self._readable if on else None)

    def close(self, *, reset: bool = False) -> None:
        """End the connection."""
        self._request = None
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None
        self._drop(reset=reset)

    def release(self) -> socket.socket:
        """The connection itself, which is somebody else's from now on."""
        assert self._end is not None
        self._end.leave()
        sock, self._end, self._out, self._request = self._end.sock, None, None, None
        return sock

    # The connection

    def _connect(self) -> None:
        self._reused = False
        turn = self._targets.turn()
        sock = self._targets.at_once(turn)
        if sock is not None:
            self._connected(sock)
        else:
            self._dialling = self._loop.create_task(self._dial(turn))

    async def _dial(self, turn: tuple[Address, ...]) -> None:
        try:
            sock = await self._targets.reach(turn)
        except (OSError, UnicodeError) as error:  # and the log has it
            self._dialling = None
            status = 504 if isinstance(error, TimeoutError) else 502
            self._asker.no_answer(status, "the program behind this door cannot be reached", error)
            return
        except Exception:  # never a connection that nobody serves and nobody ends
            self._asker.abort()
            raise
        self._dialling = None
        self._connected(sock)
        self._asker.takes_more()

    def _connected(self, sock: socket.socket) -> None:
        self._end = end = Plain(self._loop, sock)
        self._out = Outlet(end, self._asker.takes_more, self._deaf)
        end.when_readable(self._readable)
        self._send(self._question)

    def _send(self, question: bytes) -> None:
        """The beginning of a request. If not even that goes, it was not asked, and asks again on a new connection."""
        assert self._out is not None
        try:
            self._out.send(question)
        except OSError:
            if self._reused:
                self._drop()
                self._connect()
            else:
                self._out = None  # what it says about that is read as its answer

    def _deaf(self, _: Exception) -> None:
        """The program takes nothing more; it may have answered nevertheless."""
        self._out = None
        self._asker.takes_more()

    @staticmethod
    def _is_closed(end: Plain) -> bool:
        with contextlib.suppress(OSError):
            try:
                end.sock.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return False
        return True  # or something was said that nobody has asked for

    def _drop(self, *, reset: bool = False) -> None:
        self._came, self._body = b"", None
        if self._end is not None:
            self._end.close(reset=reset)
            self._end = self._out = None

    # The answer

    def _readable(self) -> None:
        try:
            self._read()
        except (BadResponse, BadBody) as error:
            self._failed(f"the program behind this door gave an answer that is not HTTP as it should be: {error}")
        except Exception:
            self._asker.abort()
            raise

    def _read(self) -> None:
        assert self._end is not None
        size, stop = self._end.fill(self._buffer)
        body = self._body
        if not size:
            self._stopped(stop)
        elif body.__class__ is Sized and size <= body.left:  # nothing to be looked at
            body.left -= size
            self._asker.answer_from(self._buffer, size)
            if not body.left:
                self._complete(b"")
        elif self._request is None:
            self._drop()  # nobody has asked
        elif body is None:
            self._came += self._buffer.view[:size]
            self._read_head()
        else:
            self._pass(b"", body, bytes(self._buffer.view[:size]))

    def _read_head(self) -> None:
        """The head of the answer, and the interim answers before it."""
        while self._request is not None:
            response = self._said
            if response is None or not self._came.startswith(response.head):
                end = self._came.find(b"\r\n\r\n") + 4
                if end > LONGEST_HEAD or (end == 3 and len(self._came) > LONGEST_HEAD):
                    raise BadResponse("its header is longer than 64 KB")
                if end == 3:
                    check_begun(self._came)
                    return
                response = read_response(self._came[:end])
                self._said = response if end < KEPT else None
            rest = self._came[len(response.head) :]
            if response.is_interim:
                self._came, self._question = rest, b""
                if not self._request.old:  # RFC 9110 section 15.2
                    self._asker.answer(response.written(chunked=False, close=False))
                continue
            self._came = b""
            self._begin(response, self._request, rest)
            return

    def _begin(self, response: Response, request: Request, rest: bytes) -> None:
        if response.status == 101:
            if not (request.websocket and response.websocket):
                raise BadResponse("it changes to a protocol that nobody has asked for")
            self._asker.upgraded(response.written(chunked=False, close=False), rest)
            return
        body = response.body(request.method)
        self._ends = response.ends or body.__class__ is UntilEnd
        if body is None:
            self._chunked = False
            self.began = True
            self._asker.answer(response.written(chunked=False, close=self._asker.will_close()))
            self._complete(rest)
            return
        self._body = body
        self._chunked = not request.old and body.__class__ is not Sized
        self._pass(response.written(chunked=self._chunked, close=self._asker.will_close()), body, rest)

    def _pass(self, before: bytes, body: Body, data: bytes) -> None:
        """Pass on what of this is the body's."""
        payload, rest = body.feed(data)
        if self._chunked:
            payload = chunk(payload)
            if rest is not None:
                payload += end_of_chunks(body.trailers if isinstance(body, Chunked) else b"")
        self.began = True
        self._asker.answer(before + payload if before else payload)
        if rest is not None:
            self._complete(rest)

    def _complete(self, rest: bytes) -> None:
        if self._request is None:
            return  # the peer took it no more
        if self._ends or rest or self._out is None or self._asker.will_send_more():
            self._drop()
        self._request = self._body = None
        self._question = b""
        self._asker.answered()

    def _stopped(self, stop: Stop) -> None:
        if stop is None or isinstance(stop, Wait):
            return
        if self._request is None:
            self._drop()
        elif self.began:
            body, ended = self._body, not isinstance(stop, OSError)
            if ended and isinstance(body, UntilEnd):
                self._asker.answer(end_of_chunks(b"") if self._chunked else b"")
                self._complete(b"")
            else:
                self._asker.cut()
        elif self._reused and self._question and self._request.is_safe_to_repeat and not self._came:
            self._drop()
            self._connect()
        else:
            self._failed("the program behind this door closed the connection without an answer")

    def _failed(self, why: str) -> None:
        if self.began:
            self._asker.cut()
            return
        self._drop()
        self._asker.no_answer(502, why, None)

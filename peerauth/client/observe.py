"""What a server shows of itself to a client that presents our certificate and trusts nobody: measured, not judged.

A node is asked `check` under peerauth/1. Of any other server the judgement on our certificate is waited for: in TLS 1.3 it
comes after the handshake, as an alert, as an end without a word, or as an answer of HTTP. Nothing is sent but an empty
question: `check`, or, where ALPN has chosen HTTP, a request for the headers of `/`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from time import perf_counter
from typing import Any

from peerauth.address import Address
from peerauth.client.reaching import unreachable
from peerauth.control.line import Line
from peerauth.control.messages import Check, Checked
from peerauth.errors import ConnectFailed, PeerAuthError, printable
from peerauth.net.reach import reach
from peerauth.tls.context import CONTROL, HTTP_1_1, MinimumVersion, probing_context
from peerauth.tls.probe import NO_APPLICATION_PROTOCOL, Probe
from peerauth.tls.session import RECORD, Wait
from peerauth.tls.waiting import ready
from peerauth.trust.identity import Identity

LATE = 2.0  # seconds that a server has for its judgement, once the handshake is done
SETTLE = 0.3  # the same, once its TLS has gone on: some programs look at the certificate after that
_ALPN = (CONTROL, *HTTP_1_1)
_MOST = 16 << 10  # bytes of an answer of HTTP
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: ([^\r\n]*))?\r?\n")
_ABOUT_CERTIFICATES = re.compile(rb"[^<>\r\n]{0,80}certificate[^<>\r\n]{0,80}", re.IGNORECASE)
_EXPLAINED = (400, 401, 403)  # whose text is worth a second request


class End(StrEnum):
    """How the conversation went on after the handshake."""

    ANSWERED = "answered"
    SPOKE = "spoke"  # of its own accord
    QUIET = "quiet"  # it waits for us to speak
    CLOSED = "closed"  # it hung up and did not say why
    ALERT = "alert"


@dataclass(frozen=True, slots=True)
class Observation:
    """One server. Times in seconds; texts of the server are escaped; what is not known is None or empty.

    `asked`: it wants a certificate; `presented`: we had one that it takes; `accepted`: its TLS has gone on after that.
    """

    certificate: bytes  # DER, its key proven
    protocol: str
    version: str
    group: str
    cipher: str
    asked: bool
    presented: bool
    accepted: bool
    connecting: float
    handshake: float
    end: End = End.QUIET
    alert: int | None = None
    refusal: str = ""
    answer: Checked | None = None
    round_trip: float | None = None
    trouble: PeerAuthError | None = None  # what else came in between
    skew: float | None = None  # its clock minus ours
    status: int | None = None
    phrase: str = ""
    complaint: str = ""  # what an answer of HTTP says about certificates


async def observe(identity: Identity, address: Address, deadline: float, min_tls: MinimumVersion = "1.3") -> Observation:
    """Look at the server until `deadline`, by the loop's clock, at the latest. Raises ConnectFailed or PeerAuthError."""
    seen = await _meet(identity, address, deadline, min_tls)
    if seen.end is End.CLOSED and not seen.protocol:
        # A node that is offered peerauth/1 and speaks another version serves nothing: ask as any client does.
        with contextlib.suppress(PeerAuthError):
            again = await _meet(identity, address, deadline, min_tls, alpn=())
            seen = seen if again.end is End.CLOSED else again
    elif seen.status in _EXPLAINED:
        with contextlib.suppress(PeerAuthError):
            again = await _meet(identity, address, deadline, min_tls, method="GET")
            seen = replace(seen, complaint=again.complaint)
    return seen


async def _meet(
    identity: Identity,
    address: Address,
    deadline: float,
    min_tls: MinimumVersion,
    *,
    alpn: tuple[bytes, ...] = _ALPN,
    method: str = "HEAD",
) -> Observation:
    began = perf_counter()
    async with _connected(identity, address, deadline, min_tls, alpn) as meeting:
        connected = perf_counter()
        try:
            await meeting.shake_hands()
        except (OSError, PeerAuthError) as error:
            if meeting.probe.alert == NO_APPLICATION_PROTOCOL and alpn:
                meeting.sock.close()
                return await _meet(identity, address, deadline, min_tls, alpn=(), method=method)
            return meeting.ended(meeting.seen(connected - began, perf_counter() - connected), error)
        seen = meeting.seen(connected - began, perf_counter() - connected)
        try:
            if seen.protocol == CONTROL.decode():
                return await meeting.ask(seen)
            if seen.protocol == HTTP_1_1[0].decode():
                return await meeting.request(seen, method)
            return await meeting.hear_out(seen)
        except (OSError, PeerAuthError) as error:
            return meeting.ended(seen, error)


@contextlib.asynccontextmanager
async def _connected(
    identity: Identity, address: Address, deadline: float, min_tls: MinimumVersion, alpn: tuple[bytes, ...]
) -> AsyncIterator[_Meeting]:
    try:
        async with asyncio.timeout_at(deadline):
            sock = await reach(asyncio.get_running_loop(), address)
        try:
            probe = Probe(probing_context(identity, min_tls=min_tls, alpn=alpn), sock, server_name=address.server_name)
        except BaseException:
            sock.close()
            raise
    except (OSError, UnicodeError) as error:
        raise unreachable(error, address) from error
    try:
        yield _Meeting(probe, sock, address, deadline)
        with contextlib.suppress(PeerAuthError, OSError):
            probe.say_goodbye()
    finally:
        sock.close()


@dataclass(frozen=True)
class _Meeting:
    """One connection that is being looked at."""

    probe: Probe
    sock: socket.socket
    address: Address
    deadline: float

    async def shake_hands(self) -> None:
        """The whole handshake. Raises ConnectFailed, TrustRefused or OSError."""
        try:
            while (wait := self.probe.handshake()) is not Wait.NOTHING:
                await self._ready(wait)
        except TimeoutError as error:
            text = f"{self.address} accepts connections, and says nothing with which TLS could go on"
            raise ConnectFailed("timeout", text, "is it the right port?") from error

    def seen(self, connecting: float, handshake: float) -> Observation:
        """What the handshake has shown so far."""
        probe = self.probe
        return Observation(
            probe.certificate or b"",
            probe.alpn.decode("ascii", "replace"),
            probe.version,
            probe.group,
            probe.cipher,
            probe.asked,
            probe.presented,
            probe.accepted,
            connecting,
            handshake,
        )

    def ended(self, seen: Observation, error: OSError | PeerAuthError) -> Observation:
        """How it ended before its time. Raises where the server had not shown who it is by then."""
        if not self.probe.proven:
            if isinstance(error, OSError):
                raise unreachable(error, self.address) from error
            if str(self.address) not in error.message:
                error.message = f"{self.address}: {error.message}"
            raise error
        if self.probe.alert is not None and isinstance(error, PeerAuthError):
            return self._now(seen, end=End.ALERT, alert=self.probe.alert, refusal=error.message)
        if isinstance(error, TimeoutError):
            return self._now(seen, trouble=ConnectFailed("timeout", f"{self.address} did not answer in time"))
        if isinstance(error, OSError):
            return self._now(seen, end=End.CLOSED)
        return self._now(seen, trouble=error)

    async def ask(self, seen: Observation) -> Observation:
        """Ask a node what we are to it."""
        line = Line(self.sock, self.probe)
        async with asyncio.timeout_at(self.deadline):
            asked, when = perf_counter(), datetime.now(UTC)
            await line.send(Check())
            answer = await line.receive(Checked)
            took = perf_counter() - asked
        skew = None
        if answer.time is not None:  # it is cut off to the second, so half a second is missing on average
            skew = (answer.time - when).total_seconds() + 0.5 - took / 2
        return self._now(seen, end=End.ANSWERED, answer=answer, round_trip=took, skew=skew)

    async def request(self, seen: Observation, method: str) -> Observation:
        """Ask a server of HTTP for its front page, and hear whether that is for us."""
        # Whoever refuses us closes, and then our request would be answered by a reset, which can overtake the alert.
        heard = await self._first_word(SETTLE, 0) or b""
        began, took = perf_counter(), None
        try:
            await self._write(self._request(method))
            while len(heard) < _MOST and (method != "HEAD" or b"\r\n\r\n" not in heard):
                piece = await self._read()
                took = took or perf_counter() - began
                if not piece:
                    break
                heard += piece
        except (OSError, PeerAuthError):
            if not heard:
                raise
        found = _STATUS.match(heard)
        if found is None:
            return self._now(seen, end=End.SPOKE if heard else End.CLOSED)
        about = _ABOUT_CERTIFICATES.search(heard)
        return self._now(
            seen,
            end=End.ANSWERED,
            round_trip=took,
            status=int(found[1]),
            phrase=printable((found[2] or b"").decode("latin-1"), 60),
            complaint=printable(about[0].decode("utf-8", "replace").strip(), 160) if about else "",
        )

    def _request(self, method: str) -> bytes:
        host = "localhost" if self.address.path is not None else str(self.address)
        lines = (f"{method} / HTTP/1.1", f"Host: {host}", "User-Agent: peerauth", "Accept: */*", "Connection: close", "", "")
        return "\r\n".join(lines).encode()

    async def hear_out(self, seen: Observation) -> Observation:
        """Wait for what the server says to our certificate, or for its silence."""
        word = await self._first_word(LATE, SETTLE)
        return self._now(seen, end=End.QUIET if word is None else End.SPOKE if word else End.CLOSED)

    async def _first_word(self, late: float, settle: float) -> bytes | None:
        """What the server says of its own accord, empty at its end.

        None when it has said nothing for `late` seconds, or for `settle` seconds since its TLS has gone on.
        """
        clock = asyncio.get_running_loop().time
        until, settling = min(clock() + late, self.deadline), False
        while isinstance(piece := self.probe.read(RECORD), Wait):
            if not settling and (self.probe.accepted or not self.probe.asked):
                until, settling = min(clock() + settle, until), True
            if clock() >= until:
                return None
            with contextlib.suppress(TimeoutError):
                await self._ready(piece, until)
        return piece

    async def _write(self, data: bytes) -> None:
        """Send it all, or find that the server has left: what it said before that is still to be read."""
        with contextlib.suppress(ConnectionError):
            while data:
                taken = self.probe.write(data)
                if isinstance(taken, Wait):
                    await self._ready(taken)
                else:
                    data = data[taken:]
            while not self.probe.flush():
                await self._ready(Wait.WRITABLE)

    async def _read(self) -> bytes:
        while isinstance(piece := self.probe.read(RECORD), Wait):
            await self._ready(piece)
        return piece

    async def _ready(self, wait: Wait, until: float | None = None) -> None:
        async with asyncio.timeout_at(self.deadline if until is None else until):
            await ready(asyncio.get_running_loop(), self.sock, wait)

    def _now(self, seen: Observation, **changes: Any) -> Observation:  # noqa: ANN401 - fields of an observation
        return replace(seen, accepted=self.probe.accepted, **changes)

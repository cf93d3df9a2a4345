"""A local door to a peer: plain connections taken here, each carried to the peer through a pinned one.

The rules:
1. The peer is reached when somebody comes, and not before.
2. While it cannot be reached, whoever has come waits for a bounded time, and is tried for again and again. Nothing is read
   of them until then: what waits here is a bounded number of sockets. A refusal is another thing, and not tried again.
3. A connection that breaks is a reset for who is here, so that cut-off data never looks complete.
4. So is what leads to somebody who is no peer any more, at once (client/admissions.py).
5. The same trouble is said once, until it is over, or a minute has passed.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import time
from collections.abc import Callable
from typing import Final

from peerauth.client.admissions import Admissions, follow
from peerauth.client.dial import Dialer
from peerauth.client.reaching import TIMEOUT
from peerauth.client.target import Target
from peerauth.errors import ConnectFailed, PeerAuthError
from peerauth.net.sockets import close_listener
from peerauth.net.splice import Side, reset, reset_socket
from peerauth.tls.session import NotAdmitted
from peerauth.tls.transport import TlsTransport
from peerauth.trust.decision import Refused

MOST_WAITING: Final = 128  # for a peer that cannot be reached, in each process
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two tries
_PASSING: Final = {"connection-refused", "timeout", "closed", "closed-unanswered", "unreachable", "no-such-host"}
_AT_ONCE: Final = 64
_REST: Final = 0.02  # seconds without accepting when there is no room, or no descriptor is left
_MOST_TROUBLES: Final = 16
_SAID_AGAIN: Final = 60.0  # seconds

Told = Callable[[BaseException | None], None]  # why somebody could not be carried; None: that is over


class Lead:
    """What stands between some listening sockets and a peer. `target` says who and where, each time; it may raise."""

    def __init__(self, dialer: Dialer, target: Callable[[], Target], wait: float, told: Told) -> None:
        self._loop = asyncio.get_running_loop()
        self._dialer = dialer
        self._target = target
        self._wait = wait
        self._told = told
        self._admissions = Admissions(dialer.peers)
        self._said: dict[str, float] = {}  # the troubles that there are, and when they were said
        self._sockets: list[socket.socket] = []
        self._coming: set[asyncio.Task[None]] = set()
        self._pairs: set[_Near] = set()
        self._none_left = asyncio.Event()

    def __len__(self) -> int:
        """How many local connections are carried, or wait to be."""
        return len(self._pairs) + len(self._coming)

    def open(self, sockets: list[socket.socket]) -> None:
        """Begin to accept at these sockets."""
        self._sockets += sockets
        for sock in sockets:
            self._loop.add_reader(sock.fileno(), self._accept, sock)

    def shut(self) -> None:
        """Accept no more. The sockets stay open, and so do the connections."""
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            self._loop.remove_reader(sock.fileno())

    async def stop(self, drain: float) -> None:
        """Accept no more, give what has begun so many seconds to end, and then end it."""
        self.shut()
        try:
            async with asyncio.timeout(drain):
                while self._coming or self._pairs:
                    self._none_left.clear()
                    await self._none_left.wait()
        except TimeoutError:
            pass
        finally:
            for task in self._coming:
                task.cancel()
            for near in list(self._pairs):
                near.end()

    def review(self) -> None:
        """The list has changed: end what leads to somebody who is no peer any more, or another."""
        self._admissions.review()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            if len(self._coming) >= MOST_WAITING and not self._said:  # a crowd, and no trouble: each in turn
                self._pause(listening)
                return
            try:
                sock, _where = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptors left
                self._pause(listening)
                return
            sock.setblocking(False)
            if len(self._coming) >= MOST_WAITING:
                reset_socket(sock)
                self._say(PeerAuthError("tunnel-full", f"{MOST_WAITING} local connections wait already, and no more may"))
                continue
            task = self._loop.create_task(self._carry(sock))
            self._coming.add(task)
            task.add_done_callback(self._came)

    def _pause(self, listening: socket.socket) -> None:
        self._loop.remove_reader(listening.fileno())
        self._loop.call_later(_REST, self._go_on, listening)

    def _go_on(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _came(self, task: asyncio.Task[None]) -> None:
        self._coming.discard(task)
        self._see_whether_any()

    def _ended(self, near: _Near) -> None:
        self._pairs.discard(near)
        if isinstance(near.other.transport, TlsTransport):
            self._admissions.discard(near.other.transport)
        self._see_whether_any()

    def _see_whether_any(self) -> None:
        if not self._coming and not self._pairs:
            self._none_left.set()

    async def _carry(self, sock: socket.socket) -> None:
        try:
            far, target = await self._reached()
        except PeerAuthError as error:
            self._say(error)
            reset_socket(sock)
            return
        except BaseException:
            reset_socket(sock)
            raise
        near = _Near(far, self._ended)
        try:
            await self._loop.connect_accepted_socket(lambda: near, sock)
        except BaseException:
            reset_socket(sock)
            if far.transport is not None:
                reset(far.transport)
            raise
        assert near.transport is not None
        if far.lost or near.transport.is_closing():
            near.end()
            return
        self._pairs.add(near)
        if isinstance(far.transport, TlsTransport):
            self._admissions.add(far.transport, functools.partial(self._not_admitted, near, target))
            far.transport.resume_reading()

    def _not_admitted(self, near: _Near, target: Target, refused: Refused) -> None:
        near.end()
        self._say(self._dialer.explained(NotAdmitted(refused), target))

    async def _reached(self) -> tuple[_Far, Target]:
        """The far side, connected, and who was meant. Raises PeerAuthError when it is not to be reached, or not in time."""
        give_up, pause = time.monotonic() + self._wait, _FIRST_PAUSE
        while True:
            target = self._target()
            self._renew()
            dialer = self._dialer
            far = _Far(functools.partial(self._refused, dialer, target), self._recovered)
            left = give_up - time.monotonic()
            try:
                await dialer.connect(target, far, timeout=min(TIMEOUT, max(left, 0.5)) if self._wait else TIMEOUT)
            except ConnectFailed as error:
                left = give_up - time.monotonic()
                if error.code not in _PASSING or left <= 0:
                    raise
                self._say(error)
                await asyncio.sleep(min(pause, left))
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return far, target

    def _renew(self) -> None:
        try:
            self._dialer = self._dialer.renewed()
        except PeerAuthError as error:
            self._say(error)

    def _say(self, error: BaseException) -> None:
        now = time.monotonic()
        if now - self._said.get(str(error), -_SAID_AGAIN) >= _SAID_AGAIN:
            if len(self._said) >= _MOST_TROUBLES:
                self._said.clear()
            self._said[str(error)] = now
            self._told(error)

    def _refused(self, dialer: Dialer, target: Target, error: Exception) -> None:
        self._say(dialer.explained(error, target))

    def _recovered(self) -> None:
        if self._said:
            self._said.clear()
            self._told(None)


class _Far(Side):
    """The far side; nothing is read of it before the near one is there. It says why, when the peer refuses us late."""

    def __init__(self, broken: Callable[[Exception], None], heard: Callable[[], None]) -> None:
        super().__init__()
        self._broken = broken
        self._heard: Callable[[], None] | None = heard
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if self._heard is not None:  # in TLS 1.3 it may still have refused us until now
            self._heard()
            self._heard = None
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if isinstance(exc, PeerAuthError):
            self._broken(exc)
        super().connection_lost(exc)


class _Near(Side):
    """The local side, joined to the far one."""

    def __init__(self, far: _Far, ended: Callable[[_Near], None]) -> None:
        super().__init__()
        self.other: Side = far
        far.other = self
        self._ended = ended

    def end(self) -> None:
        """End both sides so that they see that it broke."""
        for side in (self, self.other):
            if side.transport is not None and not side.transport.is_closing():
                reset(side.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._ended(self)


async def tunnel(
    dialer: Dialer, target: Target, sockets: list[socket.socket], failed: Callable[[BaseException], None]
) -> None:
    """Serve the local listening sockets until cancelled; `failed` is told why a connection was not carried, or not on.

    Each connection presents the identity that is on disk when it begins, and ends when its peer is removed. Nobody waits for
    a peer that cannot be reached.
    """

    def told(error: BaseException | None) -> None:
        if error is not None:
            failed(error)

    lead = Lead(dialer, lambda: target, 0.0, told)
    lead.open(sockets)
    try:
        await follow(dialer.directory, lead.review)
    finally:
        await lead.stop(0)
        for sock in sockets:
            close_listener(sock)

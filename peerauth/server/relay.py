"""A TCP service: an admitted peer's connection joined to a target in the clear.

A goodbye is passed on as a half-close, a broken connection as a reset, so that cut-off data never looks complete.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from peerauth.address import Address
from peerauth.net.reach import CONNECT_TIMEOUT, connected_at_once, reach
from peerauth.server.ends import Plain, Tls
from peerauth.server.flow import Flow
from peerauth.server.guest import Guest, Serve
from peerauth.tls.alerts import Truncated
from peerauth.tls.linger import linger
from peerauth.tls.session import Session
from peerauth.trust.decision import Admitted
from peerauth.trust.peers import Peer


def relay_to(target: Address, failed: Callable[[OSError], None]) -> Serve:
    """The service that leads to `target`; `failed` is told when that cannot be reached."""
    return lambda guest: Relay(guest, target, failed)


class Relay:
    """One admitted connection and its target. Nothing is read of the peer until the target is reached."""

    __slots__ = (
        "_closed",
        "_dialling",
        "_down",
        "_ended",
        "_failed",
        "_far",
        "_guest",
        "_near",
        "_target",
        "_up",
        "admitted",
    )

    def __init__(self, guest: Guest, target: Address, failed: Callable[[OSError], None]) -> None:
        self._guest = guest
        self.admitted: Admitted = guest.admitted
        self._target = target
        self._failed = failed
        self._near = Tls(guest.loop, guest.sock, guest.session)
        self._dialling: asyncio.Task[None] | None = None
        self._far: Plain | None = None
        self._up: Flow | None = None
        self._down: Flow | None = None
        self._ended = 0  # directions
        self._closed = False

    @property
    def peer(self) -> Peer:
        """Who is on the near side, by the latest decision."""
        return self.admitted.peer

    @property
    def session(self) -> Session:
        """The near side's TLS."""
        return self._guest.session

    @property
    def waiting(self) -> int:
        """How many bytes are held here because one of the two does not take them; 512 KB at most."""
        return sum(len(flow.pending) for flow in (self._up, self._down) if flow is not None)

    def start(self) -> None:
        """Reach the target and join the two."""
        sock = connected_at_once(self._target)
        if sock is not None:
            self._join(sock)
        else:
            self._dialling = self._guest.loop.create_task(self._dial())

    async def _dial(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                sock = await reach(self._guest.loop, self._target)
        except OSError as error:  # TimeoutError is one
            self._failed(error)
            self.abort()
            return
        self._dialling = None
        self._join(sock)

    def _join(self, sock: socket.socket) -> None:
        self._far = far = Plain(self._guest.loop, sock)
        ended, buffer = self._on_end, self._guest.buffer
        self._up = Flow(buffer, self._near, far, ended=ended, lost=self._on_near_lost, deaf=self._on_far_deaf)
        self._down = Flow(buffer, far, self._near, ended=ended, lost=self._on_far_lost, deaf=self._on_near_deaf)
        for flow in (self._up, self._down):
            flow.start()

    def _on_end(self) -> None:
        self._ended += 1
        if self._ended == 2:
            self._finish(self._near.close)

    def _on_near_lost(self, error: Exception) -> None:
        self._finish(lambda: self._near.close(reset=not isinstance(error, Truncated)), reset=True)

    def _on_far_lost(self, _: Exception) -> None:
        self._finish(lambda: self._near.close(reset=True))

    def _on_near_deaf(self, _: Exception) -> None:
        """The peer takes nothing more; what it said before goes to the target still."""
        if self._up is not None:
            self._up.last_words()
        self._finish(lambda: self._near.close(reset=True), reset=True)

    def _on_far_deaf(self, _: Exception) -> None:
        """The target takes nothing more; what it said before goes to the peer still, without a goodbye."""
        if self._down is not None:
            self._down.last_words()
        self._finish(self._cut_near)

    def _cut_near(self) -> None:
        self._near.leave()
        linger(self._guest.loop, self._near.sock)

    def abort(self) -> None:
        """End both connections at once, so that both sides see that they broke."""
        self._finish(lambda: self._near.close(reset=True), reset=True)

    def _finish(self, close_near: Callable[[], None], *, reset: bool = False) -> None:
        if self._closed:
            return
        self._closed = True
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None
        close_near()
        if self._far is not None:
            self._far.close(reset=reset)
        self._up = self._down = None  # they know us: without this only the garbage collector would part us
        self._guest.lost(self)

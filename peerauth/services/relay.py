"""A TCP service: an admitted peer's connection joined to a target in the clear.

A goodbye is passed on as a half-close, a broken connection as a reset, so that cut-off data never looks complete.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from peerauth.address import Address
from peerauth.services.ends import Plain, Tls
from peerauth.services.flow import Flow
from peerauth.services.guest import Guest, Serve
from peerauth.services.targets import Targets
from peerauth.tls.alerts import Truncated
from peerauth.tls.linger import linger
from peerauth.trust.decision import Admitted
from peerauth.trust.peers import Peer

Introduce = Callable[[Guest], bytes]


def relay_service(targets: Targets, introduce: Introduce | None = None) -> Serve:
    """The service that leads to one of these; `introduce` says what such a one hears first."""
    if introduce is None:
        return lambda guest: Relay(guest, targets)
    return lambda guest: Relay(guest, targets, introduce(guest))


class Relay:
    """One admitted connection and its target. Nothing is read of the peer until the target is reached.

    `first` is what the target hears before the peer.
    """

    __slots__ = (
        "_awake",
        "_buffer",
        "_closed",
        "_dialling",
        "_down",
        "_ended",
        "_far",
        "_first",
        "_loop",
        "_lost",
        "_near",
        "_targets",
        "_up",
        "admitted",
        "session",
    )

    def __init__(self, guest: Guest, targets: Targets, first: bytes = b"") -> None:
        self._loop = guest.loop
        self._awake = guest.awake
        self._buffer = guest.buffer
        self._lost = guest.lost
        self.session = guest.session
        self.admitted: Admitted = guest.admitted
        self._targets = targets
        self._first = first
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
    def waiting(self) -> int:
        """How many bytes are held here because one of the two does not take them; 512 KB at most."""
        return sum(len(flow.pending) for flow in (self._up, self._down) if flow is not None)

    def start(self) -> None:
        """Reach the target and join the two."""
        turn = self._targets.turn()
        sock = self._targets.at_once(turn)
        if sock is not None:
            self.join(sock)
        else:
            self._dialling = self._loop.create_task(self._dial(turn))

    async def _dial(self, turn: tuple[Address, ...]) -> None:
        try:
            sock = await self._targets.reach(turn)
        except (OSError, UnicodeError):  # and the log has it
            self.abort()
            return
        except Exception:  # never a connection that nobody serves and nobody ends
            self.abort()
            raise
        self._dialling = None
        self.join(sock)

    def join(self, sock: socket.socket, said: bytes = b"", heard: bytes = b"") -> None:
        """Join the peer and a target that is reached; what was `said` by the peer and `heard` of the target goes first."""
        self._far = far = Plain(self._loop, sock)
        self._up = up = Flow(self, self._buffer, self._near, far, self._awake.stay)
        self._down = down = Flow(self, self._buffer, far, self._near, self._awake.stay)
        first, self._first = self._first or said, b""
        down.start(heard)
        if self._up is not None:  # what was heard first may not have gone
            up.start(first)

    def ended(self, flow: Flow) -> None:
        """As Owner.ended."""
        del flow
        self._ended += 1
        if self._ended == 2:
            self._finish(self._near.close)

    def lost(self, flow: Flow, error: Exception) -> None:
        """As Owner.lost."""
        if flow is self._up:
            self._finish(lambda: self._near.close(reset=not isinstance(error, Truncated)), reset=True)
        else:
            self._finish(lambda: self._near.close(reset=True))

    def deaf(self, flow: Flow, error: Exception) -> None:
        """As Owner.deaf: what the one that takes nothing more has said before goes to the other still."""
        del error
        if flow is self._up and self._down is not None:  # the target; without a goodbye to the peer
            self._down.last_words()
            self._finish(self._cut_near)
        elif flow is self._down and self._up is not None:
            self._up.last_words()
            self._finish(lambda: self._near.close(reset=True), reset=True)

    def _cut_near(self) -> None:
        self._near.leave()
        linger(self._loop, self._near.sock)

    def abort(self) -> None:
        """End both connections at once, so that both sides see that they broke."""
        self._finish(lambda: self._near.close(reset=True), reset=True)

    def denied(self) -> None:
        """As Served.denied: there are no rules."""

    def look(self) -> None:
        """As Served.look."""
        if self._near.is_broken or (self._far is not None and self._far.is_broken):
            self.abort()

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
        self._lost(self)

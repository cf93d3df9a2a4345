"""A peer's connection to a proxy, apart from HTTP: its two sides, and how they part.

With a goodbye where everything was said; with a reset where something broke off, so that it does not look complete.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Final

from peerauth.services.asker import Asker
from peerauth.services.backend import Backend
from peerauth.services.ends import Tls
from peerauth.services.front import Front
from peerauth.services.guest import Guest
from peerauth.services.outlet import Outlet
from peerauth.services.relay import Relay
from peerauth.tls.linger import linger
from peerauth.trust.decision import Admitted
from peerauth.trust.peers import Peer

IDLE: Final = 75.0  # seconds between two requests
LEAVE: Final = 5.0  # seconds to take the last answer


class Visit(Asker):
    """One admitted connection."""

    __slots__ = (
        "_backend",
        "_came",
        "_closed",
        "_front",
        "_guest",
        "_leaving",
        "_near",
        "_out",
        "_relay",
        "admitted",
        "deadline",
        "session",
    )

    def __init__(self, guest: Guest, front: Front) -> None:
        self._guest = guest
        self.session = guest.session
        self.admitted: Admitted = guest.admitted
        self._front = front
        self._near = Tls(guest.loop, guest.sock, guest.session)
        self._out = Outlet(self._near, self._free, self._deaf)
        self._backend = Backend(self, guest.loop, guest.buffer, front.targets)
        self._came = b""  # what is not read yet
        self._leaving = False
        self._closed = False
        self._relay: Relay | None = None  # it is no HTTP any more
        self.deadline = math.inf

    @property
    def peer(self) -> Peer:
        """Who is on the near side, by the latest decision."""
        return self.admitted.peer

    @property
    def waiting(self) -> int:
        """How many bytes are held here because it is not their turn, or because one side does not take them."""
        return len(self._came) + self._out.waiting + self._backend.waiting

    def start(self) -> None:
        """Listen for the first request."""
        self._front.patience.add(self)
        self.deadline = self._front.patience.now + IDLE
        self._near.when_readable(self._readable)

    def abort(self) -> None:
        """End both connections at once, so that both sides see that they broke."""
        if self._relay is not None:
            self._relay.abort()
        else:
            self._finish(reset=True)

    def look(self) -> None:
        """As Served.look."""
        if self._relay is not None:
            self._relay.look()
        elif self._near.is_broken or self._backend.is_broken:
            self._finish(reset=True)

    @abstractmethod
    def denied(self) -> str | None:
        """As Served.denied."""

    @abstractmethod
    def _readable(self) -> None:
        """The peer has said something."""

    @abstractmethod
    def _free(self) -> None:
        """The peer has taken everything."""

    @abstractmethod
    def expired(self) -> None:
        """As Waiting.expired."""

    @abstractmethod
    def wind_down(self) -> None:
        """As Waiting.wind_down."""

    def _leave(self) -> None:
        """Say goodbye when everything has gone, and read on for a moment so that it arrives."""
        if self._closed:
            return
        if not self._leaving:
            self._leaving = True
            self._near.when_readable(None)
            self._backend.close()
            self.deadline = self._front.patience.now + LEAVE
        if self._out.busy:
            return
        try:
            if not self._near.end():
                self._near.when_writable(self._leave)
                return
        except Exception as error:  # noqa: BLE001 - whatever it is, the peer hears nothing more
            self._deaf(error)
            return
        self._near.leave()
        linger(self._guest.loop, self._near.sock)
        self._lost()

    def _deaf(self, _: Exception) -> None:
        """The peer takes nothing more: nobody needs the answer."""
        self._finish(reset=True)

    def _finish(self, *, reset: bool, near_reset: bool | None = None) -> None:
        if self._closed:
            return
        self._near.close(reset=reset if near_reset is None else near_reset)
        self._backend.close(reset=reset)
        self._lost()

    def _lost(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._came = b""
        self._front.patience.discard(self)
        self._relay = None
        self._guest.lost(self)

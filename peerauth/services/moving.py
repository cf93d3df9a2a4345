"""A transport whose peer has to take what waits for it, however slowly: who takes nothing for a minute is cut off.

What waits costs memory, and for a download an open file. Whether it moves is asked of the system: what we see as one piece
is in the hands of OpenSSL and the kernel, and grows smaller there.
"""

from __future__ import annotations

import asyncio
import math

from peerauth.net.sockets import taken
from peerauth.services.guest import Guest
from peerauth.services.patience import Patience
from peerauth.tls.transport import TlsTransport

STALL = 60.0  # seconds in which nothing is taken; it may be twice as long until that is seen


class MovingTransport(TlsTransport):
    """As TlsTransport. `patience` looks at it while something waits."""

    def __init__(self, guest: Guest, protocol: asyncio.Protocol, patience: Patience) -> None:
        super().__init__(
            guest.loop, guest.sock, guest.session, guest.admitted, protocol, buffer=guest.buffer, on_lost=guest.lost
        )
        self._patience = patience
        self._taken_before = 0
        self.deadline = math.inf

    def expired(self) -> None:
        """As Waiting.expired."""
        before, self._taken_before = self._taken_before, taken(self._sock)
        if self._taken_before == before:
            self.abort()
        else:
            self.deadline = self._patience.now + STALL

    def wind_down(self) -> None:
        """As Waiting.wind_down: the protocol is told by others."""

    def _want_writable(self) -> None:
        if not self._writing and not self._lost:
            self._patience.add(self)
            self.deadline = self._patience.now + STALL
            self._taken_before = taken(self._sock)
        super()._want_writable()

    def _stop_writer(self) -> None:
        if self._writing:
            self._patience.discard(self)
            self.deadline = math.inf
        super()._stop_writer()

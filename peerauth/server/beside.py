"""What goes on beside a server's own doors: tunnels, which are the client's (client/tunnels.py), as the server sees them."""

from __future__ import annotations

import socket
from typing import Protocol

from peerauth.store.tunnels import Tunnel


class Tunnels(Protocol):
    """What carries local connections to peers, in the running loop of one process."""

    def open(self, tunnel: Tunnel, sockets: list[socket.socket]) -> None:
        """Take local connections at these sockets."""

    def close(self, tunnel: Tunnel, drain: float) -> list[socket.socket]:
        """Take no more, and give those that are open so many seconds to end; the sockets, which stay open."""

    def review(self) -> None:
        """The list has changed: end what leads to somebody who is no peer any more."""

    def shut(self) -> list[socket.socket]:
        """Take no more, anywhere; every socket, still open."""

    async def stop(self, drain: float) -> None:
        """Take no more, and end all of it, within so many seconds."""

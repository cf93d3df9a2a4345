"""The tunnels of config.toml, in one process: each a `Lead`, opened, closed and reviewed by what is configured."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from peerauth.address import DEFAULT_PORT, parse_address
from peerauth.client.dial import Dialer
from peerauth.client.target import NOTE_ADDRESS, Target, find_peer
from peerauth.client.tunnel import Lead
from peerauth.errors import BadInput
from peerauth.store.tunnels import Tunnel
from peerauth.trust.peers import PeerSet

Told = Callable[[Tunnel, BaseException | None], None]  # as of a Lead


def target_of(tunnel: Tunnel, peers: PeerSet) -> Target:
    """Who is meant and where, by the list as it is now. Raises BadInput: `no-such-peer`, `no-address`."""
    peer = find_peer(tunnel.peer, peers)
    if tunnel.address is not None:
        return Target(peer, tunnel.address)
    if peer.address is None:
        raise BadInput("no-address", f"it is not noted where {peer.name} is to be reached", NOTE_ADDRESS)
    return Target(peer, parse_address(peer.address, default_port=DEFAULT_PORT))


class Leads:
    """Every tunnel of a process, in the running loop."""

    def __init__(self, dialer: Dialer, told: Told) -> None:
        self._dialer = dialer
        self._told = told
        self._open: dict[Tunnel, tuple[Lead, list[socket.socket]]] = {}
        self._ending: dict[asyncio.Task[None], Lead] = {}

    def open(self, tunnel: Tunnel, sockets: list[socket.socket]) -> None:
        """Take local connections at these sockets."""
        lead = Lead(
            self._dialer,
            lambda: target_of(tunnel, self._dialer.peers()),
            tunnel.wait,
            lambda error: self._told(tunnel, error),
        )
        lead.open(sockets)
        self._open[tunnel] = lead, sockets

    def close(self, tunnel: Tunnel, drain: float) -> list[socket.socket]:
        """Take no more, and give those that are open so many seconds to end; the sockets, which stay open."""
        lead, sockets = self._open.pop(tunnel)
        lead.shut()
        task = asyncio.get_running_loop().create_task(lead.stop(drain))
        self._ending[task] = lead
        task.add_done_callback(self._ending.pop)
        return sockets

    def review(self) -> None:
        """The list has changed: end what leads to somebody who is no peer any more."""
        for lead in (*(lead for lead, _ in self._open.values()), *self._ending.values()):
            lead.review()

    def shut(self) -> list[socket.socket]:
        """Take no more, anywhere; every socket, still open."""
        for lead, _ in self._open.values():
            lead.shut()
        return [sock for _, sockets in self._open.values() for sock in sockets]

    async def stop(self, drain: float) -> None:
        """Take no more, and end all of it, within so many seconds."""
        for tunnel in list(self._open):
            self.close(tunnel, drain)
        if self._ending:
            await asyncio.wait(self._ending, timeout=drain)
        for task in list(self._ending):
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)

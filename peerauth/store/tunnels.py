"""A tunnel: a local address that leads to a peer, as a `[[tunnel]]` block of config.toml describes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from peerauth.address import Address
from peerauth.store.schema import Table, read_address
from peerauth.store.socketfile import SocketFile, read_socket_file
from peerauth.trust.peers import PeerSet, check_name

WAIT: Final = 10.0  # seconds
LONGEST_WAIT: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Plain connections taken at `listen`, each carried to `peer` through a pinned one.

    `address`: where the peer is, or None where its own notes say; `wait`: how many seconds a local client waits while the
    peer cannot be reached; `file`: whose the file of a Unix socket is.
    """

    name: str
    listen: Address
    peer: str
    address: Address | None = None
    wait: float = WAIT
    file: SocketFile = field(default_factory=SocketFile)

    def __str__(self) -> str:
        """What it does, as in "127.0.0.1:5432 leads to db-1"."""
        return f"leads to {self.peer}" if self.address is None else f"leads to {self.peer} at {self.address}"


def read_tunnel(table: Table) -> Tunnel | None:
    """What a `[[tunnel]]` block says. Raises BadInput("bad-setting"); None where mistakes are gathered and one was."""
    listen = table.attempt(lambda: read_address(table, "listen"))
    if listen is None:
        table.wrong("listen", "is missing", 'for instance: listen = "127.0.0.1:5432"')
    peer = table.attempt(lambda: _name(table, "peer"))
    if peer is None:
        table.wrong("peer", "is missing", 'whom it leads to: peer = "NAME"; to see the names: peerauth peer list')
    address = table.attempt(lambda: read_address(table, "address"))
    name = table.attempt(lambda: _name(table, "name"))
    wait = table.seconds("wait", WAIT, 0, LONGEST_WAIT)
    file = table.attempt(lambda: read_socket_file(table, listen or Address(path="/")))
    table.done()
    if listen is None or peer is None or file is None:
        return None
    return Tunnel(name or peer, listen, peer, address, wait, file)


def _name(table: Table, key: str) -> str | None:
    text = table.text(key)
    if text is None:
        return None
    with table.about(key):
        return check_name(text)


def doubts(tunnel: Tunnel, peers: PeerSet) -> list[tuple[str, str | None]]:
    """What may be meant so, and may be a slip: each with what to type."""
    found: list[tuple[str, str | None]] = []
    peer = peers.get(tunnel.peer)
    if peer is None:
        add = f"peerauth peer add FILE --name {tunnel.peer}"
        found.append((f"the tunnel '{tunnel.name}' leads to {tunnel.peer}, who is not pinned", add))
    elif tunnel.address is None and peer.address is None:
        text = f"the tunnel '{tunnel.name}' leads to {tunnel.peer}, and it is not noted where that is to be reached"
        found.append((text, 'write: address = "HOST:PORT"'))
    if not tunnel.listen.is_loopback:
        text = f"whoever can reach {tunnel.listen} reaches {tunnel.peer} as this node"
        found.append((text, "listen on 127.0.0.1 instead"))
    return found

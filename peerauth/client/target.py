"""Who is meant, and where: from what a person typed to a peer's name and an address (promise 9: names are earned)."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from peerauth.address import DEFAULT_PORT, Address, parse_address
from peerauth.errors import BadInput
from peerauth.trust.peers import NAME, Peer, PeerSet, no_such_peer

NOTE_ADDRESS = "to note where it is, add its certificate once more: peerauth peer add FILE --address HOST:PORT"


@dataclass(frozen=True, slots=True)
class Target:
    """A peer and the address where it is to be reached."""

    peer: Peer
    address: Address


def find_peer(name: str, peers: PeerSet) -> Peer:
    """The peer of this name. Raises BadInput("no-such-peer")."""
    peer = peers.get(name)
    if peer is None:
        raise no_such_peer(name, peers)
    return peer


def resolve(text: str, peers: PeerSet, meant: str | None = None, *, default_port: int | None = None) -> Target:
    """The target for `text`, a peer's name or HOST:PORT or unix:PATH; `meant` names the peer where `text` does not.

    A port after a peer's name goes with the host of its noted address. Raises BadInput: `no-such-peer`, `no-address`,
    `who-is-meant`, `bad-address`.
    """
    peer, address = locate(text, peers, meant, default_port=default_port)
    if peer is not None:
        return Target(peer, address)
    if address.server_name and difflib.get_close_matches(address.server_name, list(peers.peers), 1):
        raise no_such_peer(address.host, peers)
    names = ", ".join(list(peers.peers)[:5])
    scan = f"nobody is pinned yet; to pin whoever answers: peerauth peer scan {address} --add NAME"
    hint = f"say it with --peer NAME (known: {names})" if names else scan
    raise BadInput("who-is-meant", f"which peer is meant at {address}?", hint)


def locate(
    text: str, peers: PeerSet, meant: str | None = None, *, default_port: int | None = None
) -> tuple[Peer | None, Address]:
    """The same for an address at which nobody in particular has to be: then the peer is None. Raises BadInput."""
    named = _peer_in(text, peers)
    if named is not None and meant in (None, named.name):
        return named, _address_of(named, text, default_port)
    try:
        address = parse_address(text, default_port=default_port)
    except BadInput as error:
        if meant is None and NAME.fullmatch(text):
            unknown = no_such_peer(text, peers)
            if "." in text and not difflib.get_close_matches(text, list(peers.peers), 1):
                unknown.hint = f"an address has a port, for instance {text}:{DEFAULT_PORT}"
            raise unknown from error
        raise
    if meant is not None:
        return find_peer(meant, peers), address
    there = [peer for peer in peers if peer.address == str(address)]
    return (there[0] if len(there) == 1 else None), address


def _peer_in(text: str, peers: PeerSet) -> Peer | None:
    """The peer whose name is `text`, with or without a port behind it."""
    whole = peers.get(text)
    if whole is not None:
        return whole
    host, colon, port = text.rpartition(":")
    return peers.get(host) if colon and port.isdigit() else None


def everybody(peers: PeerSet) -> list[tuple[Peer, Address]]:
    """Every peer of whom it is noted where it is. Raises BadInput("no-address") when there is none."""
    found = [(peer, _address_of(peer, peer.name, None)) for peer in peers if peer.address is not None]
    if not found:
        if not peers.peers:
            raise BadInput("no-address", "nobody is pinned yet", "to pin a server: peerauth peer scan HOST:PORT --add NAME")
        raise BadInput("no-address", "it is not noted of any peer where it is to be reached", NOTE_ADDRESS)
    return found


def _address_of(peer: Peer, text: str, default_port: int | None) -> Address:
    port = text.removeprefix(peer.name).removeprefix(":")
    if peer.address is not None:
        noted = parse_address(peer.address, default_port=DEFAULT_PORT)
        return (
            parse_address(f"{'[' + noted.host + ']' if ':' in noted.host else noted.host}:{port}")
            if port and noted.path is None
            else noted
        )
    if port:
        return parse_address(text)
    if default_port is not None:
        return Address(peer.name, default_port)
    raise BadInput(
        "no-address",
        f"it is not noted where {peer.name} is to be reached",
        NOTE_ADDRESS,
    )

"""Peers and the peer set: the allow-list as an immutable snapshot.

A set is replaced whole, never edited. Looking a certificate up costs one hash and one dictionary access, whatever the size.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import Literal

from peerauth.errors import BadInput, printable
from peerauth.trust.certificate import Certificate
from peerauth.trust.fingerprint import Fingerprint

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
Network = IPv4Network | IPv6Network


def check_name(text: str) -> str:
    """The only way from text to a peer's name, and so to a path. Raises BadInput("bad-name")."""
    if NAME.fullmatch(text) is None:
        raise BadInput(
            "bad-name",
            f"'{printable(text, 80)}' cannot be a name: it must match [a-z0-9][a-z0-9._-]{{0,63}}",
            f"for instance: {suggest_name(text)}",
        )
    return text


def suggest_name(text: str) -> str:
    """The nearest name to `text`: lower case, other characters as hyphens."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", text.lower()[:200]).lstrip("._-")[:64].rstrip("._-")
    return plain or "peer"


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """What a peer's `.toml` adds to its certificate. Everything is optional."""

    note: str = ""
    tags: tuple[str, ...] = ()
    address: str | None = None
    pin: Literal["cert", "key"] = "cert"
    sources: tuple[Network, ...] = ()
    until: datetime | None = None
    max_connections: int | None = None


NO_SETTINGS = PeerSettings()


@dataclass(frozen=True, slots=True)
class Peer:
    """A node that this node knows: a name, one or more pins, and what was noted about it.

    `keys` holds the fingerprints of the public keys and is filled only where `settings.pin` is "key".
    """

    name: str
    pins: tuple[Fingerprint, ...]
    settings: PeerSettings = NO_SETTINGS
    keys: tuple[Fingerprint, ...] = ()

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags, for `allow = ["tag:..."]`."""
        return self.settings.tags

    @property
    def address(self) -> str | None:
        """HOST:PORT or unix:PATH where this peer serves, if noted."""
        return self.settings.address


@dataclass(frozen=True)
class PeerSet:
    """Every pin with its peer. Two peers with the same pin: the first by name has it."""

    peers: Mapping[str, Peer] = field(default_factory=lambda: MappingProxyType({}))
    _by_pin: Mapping[bytes, Peer] = field(default_factory=dict, repr=False, compare=False)
    _by_key: Mapping[bytes, Peer] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, peers: Iterable[Peer]) -> PeerSet:
        """A set of these peers."""
        by_name = {peer.name: peer for peer in sorted(peers, key=lambda peer: peer.name)}
        by_pin: dict[bytes, Peer] = {}
        by_key: dict[bytes, Peer] = {}
        for peer in by_name.values():
            for pin in peer.pins:
                by_pin.setdefault(pin.digest, peer)
            for key in peer.keys:
                by_key.setdefault(key.digest, peer)
        return cls(MappingProxyType(by_name), by_pin, by_key)

    def __len__(self) -> int:
        return len(self.peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self.peers.values())

    def __contains__(self, name: object) -> bool:
        return name in self.peers

    def get(self, name: str) -> Peer | None:
        """The peer of this name."""
        return self.peers.get(name)

    def holder(self, fingerprint: Fingerprint) -> Peer | None:
        """The peer that has this very certificate pinned."""
        return self._by_pin.get(fingerprint.digest)

    def key_holder(self, certificate: Certificate) -> Peer | None:
        """The peer that is pinned by this certificate's public key."""
        return self._by_key.get(certificate.key_fingerprint.digest) if self._by_key else None

    @property
    def pins_keys(self) -> bool:
        """Whether any peer is pinned by its key."""
        return bool(self._by_key)

    def only(self, name: str) -> PeerSet:
        """The set for reaching this peer alone (promise 9); empty when there is no such peer.

        Its `from` is left out: that says where it may come from, not where it is.
        """
        peer = self.peers.get(name)
        return PeerSet.of([replace(peer, settings=replace(peer.settings, sources=()))] if peer else [])

    def narrowed_by(self, newer: PeerSet) -> bool:
        """Whether `newer` takes anything away from what this set admits: a peer gone, or any peer changed."""
        return any(newer.peers.get(name) != peer for name, peer in self.peers.items())


def no_such_peer(name: str, peers: PeerSet) -> BadInput:
    """The error for a name that nobody has, with the nearest that somebody has."""
    near = difflib.get_close_matches(name, list(peers.peers), 1)
    hint = f"did you mean {near[0]}?" if near else "to see who is pinned: peerauth peer list"
    return BadInput("no-such-peer", f"there is no peer {printable(name, 80)}", hint)

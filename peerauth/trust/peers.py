"""Peers and the peer set: the allow-list as an immutable snapshot.

A set is replaced whole, never edited. Looking a certificate up costs a hash and a few steps in dictionaries, whatever the
size.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import Literal, TypeVar

from peerauth.errors import BadInput, printable
from peerauth.trust.certificate import Certificate
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.layers import Layered

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
Network = IPv4Network | IPv6Network
Acceptance = Literal["auto", "ask", "never"]
ACCEPTANCES: tuple[Acceptance, ...] = ("auto", "ask", "never")
K = TypeVar("K")
V = TypeVar("V")


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
    rotation: Acceptance | None = None
    """What is done when it says which certificate comes next; None: what the node says."""
    rotated: datetime | None = None
    """When the newest statement that was followed was issued: older ones count no more."""
    retire: tuple[tuple[Fingerprint, datetime], ...] = ()
    """From when on a pin is refused; a key's fingerprint, too, where the key is pinned."""
    follows: tuple[tuple[Fingerprint, Fingerprint], ...] = ()
    """(new pin, old pin): on whose word the new one was added."""

    def retires(self, certificate: Certificate) -> datetime | None:
        """From when on this certificate of the peer is refused, if that is settled."""
        if not self.retire:
            return None
        key = certificate.key_fingerprint if self.pin == "key" else None
        return min((moment for pin, moment in self.retire if pin in (certificate.fingerprint, key)), default=None)


NO_SETTINGS = PeerSettings()


@dataclass(frozen=True, slots=True)
class Peer:
    """A node that this node knows: a name, one or more pins, and what was noted about it.

    `keys` holds the fingerprints of the pins' public keys, in their order, and is filled only where `settings.pin` is "key".
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


Row = bytes | Peer  # a peer with one pin and no notes is kept as the 32 bytes of its pin: most are like that


def _peer(name: str, row: Row) -> Peer:
    return Peer(name, (Fingerprint(row),)) if isinstance(row, bytes) else row


class _ByName(Mapping[str, Peer]):
    """The peers of a set under their names, in their order."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self._rows = rows

    def __getitem__(self, name: str) -> Peer:
        return _peer(name, self._rows[name])

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._rows))


@dataclass(frozen=True, eq=False, repr=False)
class PeerSet:
    """Every pin with its peer. Two peers with the same pin: the first by name has it.

    Made for a hundred thousand: a peer takes some 250 bytes, and the set after a change costs what changed.
    """

    _rows: Mapping[str, Row] = field(default_factory=Layered)
    _by_pin: Mapping[bytes, str] = field(default_factory=Layered)
    _by_key: Mapping[bytes, str] = field(default_factory=Layered)
    shared: Mapping[bytes, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """The pins that several peers have, with the names of all of these in their order."""
    shared_keys: Mapping[bytes, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """The keys that several peers are pinned by, likewise."""
    _by_host: Mapping[bytes, str] = field(default_factory=Layered)
    _shared_hosts: Mapping[bytes, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, peers: Iterable[Peer]) -> PeerSet:
        """A set of these peers."""
        return cls().changed({peer.name: peer for peer in peers})

    def changed(self, changes: Mapping[str, Row | None]) -> PeerSet:
        """The set with these under their names: a peer, 32 bytes for a peer with this pin and no notes, None for nobody."""
        rows = _layered(self._rows)
        before = [(name, row) for name in changes if (row := rows.get(name)) is not None] if rows else []
        after = changes.items()
        by_pin, shared = _indexed(_layered(self._by_pin), self.shared, _pins(before), _pins(after))
        by_key, shared_keys = _indexed(_layered(self._by_key), self.shared_keys, _keys(before), _keys(after))
        by_host, shared_hosts = _indexed(_layered(self._by_host), self._shared_hosts, _hosts(before), _hosts(after))
        return PeerSet(rows.changed(changes), by_pin, by_key, shared, shared_keys, by_host, shared_hosts)

    @property
    def peers(self) -> Mapping[str, Peer]:
        """The peers by name, in the order of their names."""
        return _ByName(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self.peers.values())

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PeerSet) and not any(self.differences(other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<PeerSet of {len(self)}>"

    def get(self, name: str) -> Peer | None:
        """The peer of this name."""
        row = self._rows.get(name)
        return None if row is None else _peer(name, row)

    def holder(self, fingerprint: Fingerprint) -> Peer | None:
        """The peer that has this very certificate pinned."""
        name = self._by_pin.get(fingerprint.digest)
        return None if name is None else _peer(name, self._rows[name])

    def key_holder(self, certificate: Certificate) -> Peer | None:
        """The peer that is pinned by this certificate's public key."""
        name = self._by_key.get(certificate.key_fingerprint.digest) if self._by_key else None
        return None if name is None else _peer(name, self._rows[name])

    def at_host(self, host: str) -> Peer | None:
        """The peer whose noted address has this host, written like this; the first by name, if several."""
        name = self._by_host.get(host.encode())
        return None if name is None else _peer(name, self._rows[name])

    def known(self, certificate: Certificate) -> Peer | None:
        """The peer that has this certificate pinned, or its key."""
        return self.holder(certificate.fingerprint) or self.key_holder(certificate)

    @property
    def pins_keys(self) -> bool:
        """Whether any peer is pinned by its key."""
        return bool(self._by_key)

    def only(self, name: str) -> PeerSet:
        """The set for reaching this peer alone (promise 9); empty when there is no such peer.

        Its `from` is left out: that says where it may come from, not where it is.
        """
        peer = self.get(name)
        return PeerSet.of([replace(peer, settings=replace(peer.settings, sources=()))] if peer else [])

    def differences(self, newer: PeerSet) -> Iterator[tuple[str, Peer | None, Peer | None]]:
        """(name, who it is here, who it is in `newer`) wherever the two differ, in no order.

        Costs what differs where one was made of the other by a few changes, else what both hold.
        """
        for name in _layered(self._rows).differences(_layered(newer._rows)):
            old, new = self.get(name), newer.get(name)
            if old != new:
                yield name, old, new

    def narrowed_by(self, newer: PeerSet) -> bool:
        """Whether `newer` takes anything away from what this set admits: a peer gone, or any peer changed."""
        return any(old is not None for _, old, _ in self.differences(newer))


def _layered(held: Mapping[K, V]) -> Layered[K, V]:
    return held if isinstance(held, Layered) else Layered[K, V]().changed(held)


def _pins(rows: Iterable[tuple[str, Row | None]]) -> Iterator[tuple[bytes, str]]:
    for name, row in rows:
        if isinstance(row, bytes):
            yield row, name
        elif row is not None:
            yield from ((pin.digest, name) for pin in row.pins)


def _keys(rows: Iterable[tuple[str, Row | None]]) -> Iterator[tuple[bytes, str]]:
    return ((key.digest, name) for name, row in rows if isinstance(row, Peer) for key in row.keys)


def _hosts(rows: Iterable[tuple[str, Row | None]]) -> Iterator[tuple[bytes, str]]:
    for name, row in rows:
        if isinstance(row, Peer) and row.address is not None and (host := row.address.rpartition(":")[0].strip("[]")):
            yield host.encode(), name


def _indexed(
    index: Layered[bytes, str],
    shared: Mapping[bytes, tuple[str, ...]],
    dropped: Iterable[tuple[bytes, str]],
    taken: Iterable[tuple[bytes, str]],
) -> tuple[Layered[bytes, str], Mapping[bytes, tuple[str, ...]]]:
    """The index of digests with the first holder of each, and the digests with several holders, after a change."""
    now: dict[bytes, str | None] = {}  # the digests touched that nobody or one has
    several: dict[bytes, set[str]] = {}  # the digests touched that several had at some time

    def holders(digest: bytes) -> set[str]:
        if digest not in several:
            one = now[digest] if digest in now else index.get(digest)
            several[digest] = set(shared.get(digest) or ((one,) if one else ()))
        return several[digest]

    for digest, name in dropped:
        if digest in several or digest in shared:
            holders(digest).discard(name)
        else:
            now[digest] = None
    for digest, name in taken:
        held = now[digest] if digest in now else index.get(digest)
        if digest in several or digest in shared or held not in (None, name):
            holders(digest).add(name)
        else:
            now[digest] = name
    if several:
        now |= {digest: min(names, default=None) for digest, names in several.items()}
        left = {digest: names for digest, names in shared.items() if digest not in several}
        left |= {digest: tuple(sorted(names)) for digest, names in several.items() if len(names) > 1}
        shared = MappingProxyType(left)
    return index.changed(now), shared


def no_such_peer(name: str, peers: PeerSet) -> BadInput:
    """The error for a name that nobody has, with the nearest that somebody has."""
    near = difflib.get_close_matches(name, list(peers.peers), 1)
    hint = f"did you mean {near[0]}?" if near else "to see who is pinned: peerauth peer list"
    return BadInput("no-such-peer", f"there is no peer {printable(name, 80)}", hint)

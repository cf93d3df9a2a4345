"""Nodes with homes of their own on 127.0.0.0/8 that serve, are told of a rotation, and go by it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from peerauth.address import Address
from peerauth.audit import Event
from peerauth.server.server import Server
from peerauth.services.guest import by_protocol
from peerauth.store.config import Config, load_config
from peerauth.store.home import create, read_identity, read_own_certificate
from peerauth.store.own import Own
from peerauth.store.peerdir import PeerDirectory
from peerauth.trust.certificate import Certificate
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.identity import KeyType, new_key, self_signed
from peerauth.trust.peers import PeerSettings
from peerauth.trust.policy import EVERY_PEER
from tests.support.engine import Greeter, Running

_HOSTS = itertools.count(2)


@dataclass
class Member:
    """One node: its home, and where it serves when it does."""

    home: Path
    config: Config
    directory: PeerDirectory
    host: str = field(default_factory=lambda: f"127.0.{(number := next(_HOSTS)) // 200 + 1}.{number % 200 + 1}")
    passphrase: bytes | None = None

    @classmethod
    def make(cls, place: Path, name: str, kind: KeyType = KeyType.P256, passphrase: bytes | None = None) -> Member:
        """A node with a fresh identity."""
        now = datetime.now(UTC)
        own = self_signed(new_key(kind), name, now)
        config = create(place / name, name, own, now, passphrase, force=False).config
        return cls(place / name, config, PeerDirectory(config.peers), passphrase=passphrase)

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def certificate(self) -> Certificate:
        """What it presents."""
        return read_own_certificate(self.config)

    @property
    def pin(self) -> Fingerprint:
        return self.certificate.fingerprint

    def own(self) -> Own:
        """Its identity, as a program that starts now has it."""
        config = load_config(self.home)
        return Own(config, read_identity(config, self.passphrase), self.passphrase)

    def knows(self, other: Member, address: str | None = None) -> None:
        """Pin another node."""
        self.directory.add(other.name, [other.certificate], PeerSettings(address=address) if address else None)

    def pins_of(self, name: str) -> set[Fingerprint]:
        """What it has pinned for a peer."""
        peer = self.directory.refresh().get(name)
        return set(peer.pins) if peer else set()


@contextlib.asynccontextmanager
async def serving_at(member: Member, port: int = 0) -> AsyncIterator[Running]:
    """This node serves in this loop."""
    member.directory.refresh()
    own = member.own()
    events: list[Event] = []
    noted: list[Callable[[Event], None]] = [events.append]

    def sink(event: Event) -> None:
        noted[-1](event)

    server = Server(own.identity, member.directory, sink, config=own.config, own=own)
    try:
        bound = server.listen(Address(member.host, port), by_protocol(Greeter), EVERY_PEER)
        node = Running(server, bound[0].port, events)
        noted.append(node.note)
        yield node
    finally:
        await server.stop(0)

"""Nodes with homes of their own on 127.0.0.0/8 that serve, are told of a rotation, and go by it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from peerauth.address import Address
from peerauth.control.rotation import History, Rotate, Rotated, Statements
from peerauth.server.audit import Event
from peerauth.server.desk import Visit
from peerauth.server.guest import by_protocol
from peerauth.server.server import Server
from peerauth.server.under_way import statements_under_way
from peerauth.store.config import Config, load_config
from peerauth.store.files import write_atomic
from peerauth.store.home import create, read_identity, read_own_certificate
from peerauth.store.own import Own
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.rotations import read_statements
from peerauth.trust.certificate import Certificate
from peerauth.trust.continuity import Kind, read_statement
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


async def receive(visit: Visit, request: Rotate) -> Rotated:
    """Take every good statement of somebody who is pinned at its word."""
    for data in request.statements:
        statement = read_statement(data)
        known = visit.office.peers.refresh().holder(statement.old.fingerprint)
        if known is None:
            both = visit.office.peers.current.holder(statement.new.fingerprint)
            return Rotated("accepted" if both else "refused")
        held = [one for one in visit.office.peers.certificates(known.name) if one != statement.new]
        if statement.kind is Kind.NEXT:
            held.append(statement.new)
        elif statement.kind is Kind.COMPROMISED:
            held.remove(statement.old)
        path = visit.office.peers.path / f"{known.name}.crt"
        if held:
            write_atomic(path, "".join(one.pem for one in held).encode())
        else:
            visit.office.peers.remove(known.name)
        visit.office.peers.refresh()
    return Rotated("accepted")


async def recount(visit: Visit, request: History) -> Statements:
    """What has become of a certificate of ours."""
    public = [data for data in read_statements(visit.office.home) if read_statement(data).old.fingerprint == request.known]
    return Statements((*public, *await statements_under_way(visit, request.known)))


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

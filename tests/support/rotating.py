"""Certificates that follow one another, and what is said about them."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from peerauth.address import Address
from peerauth.client.control import conversation, exactly
from peerauth.control.rotation import Rotate, Rotated
from peerauth.store.config import Config, load_config
from peerauth.store.pending import Stranger, strangers
from peerauth.store.rotations import append_statement
from peerauth.store.state import State
from peerauth.trust.continuity import Kind, Statement, endorse
from peerauth.trust.identity import Identity
from tests.support.dropin import NOW
from tests.support.engine import Caller, Running, Yard, identity

REFUSED = "TLSV1_ALERT_UNKNOWN_CA"
WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)


@cache
def said(kind: Kind, old: str, new: str, hours: float = 0, *, retire: timedelta = WEEK) -> Statement:
    """What the holder of the identity `old` says about `new`, so many hours after NOW; the same each time."""
    issued = NOW + timedelta(hours=hours)
    return endorse(kind, identity(old), identity(new), issued, issued + retire)


def following(old: str, new: str, hours: float = 0, *, retire: timedelta = WEEK) -> Statement:
    """`new` is the next."""
    return said(Kind.NEXT, old, new, hours, retire=retire)


def withdrawn(old: str, new: str, hours: float = 0) -> Statement:
    """`new` is not the next after all."""
    return said(Kind.WITHDRAWN, old, new, hours)


def compromised(old: str, new: str, hours: float = 0) -> Statement:
    """The key of `old` is in other hands."""
    return said(Kind.COMPROMISED, old, new, hours)


def fresh(kind: Kind, old: Identity, new: Identity, issued: datetime, overlap: timedelta = WEEK) -> Statement:
    """The same about any identities, at any time."""
    return endorse(kind, old, new, issued, issued + overlap)


class Home(Yard):
    """A node's home: its identity, its peers, and what it has said about its certificates."""

    def __init__(self, place: Path, own: str = "node", accept: str = "auto", *said: Statement) -> None:
        self.home = place
        place.mkdir(exist_ok=True)
        super().__init__(place / "peers")
        (place / "config.toml").write_text(f'[node]\nname = "node"\n[rotation]\naccept = "{accept}"\n')
        self.be(own)
        for one in said:
            append_statement(self.config, one.data)

    def be(self, own: str) -> None:
        """Have another identity."""
        (self.home / "node.crt").write_text(identity(own).certificate.pem)
        (self.home / "node.key").write_bytes(identity(own).key_pem())
        (self.home / "node.key").chmod(0o600)

    @property
    def config(self) -> Config:
        """What config.toml says."""
        return load_config(self.home)

    @property
    def waiting(self) -> dict[str, Stranger]:
        """Which certificates wait for a person's word, by peer."""
        return {one.successor_of: one for one in strangers(State(self.home)) if one.successor_of}


async def bring_raw(node: Running, who: Identity, *said: bytes) -> str:
    """Tell the node, as this one; the outcome."""
    pin = identity("node").certificate.fingerprint
    async with conversation(who, Address("127.0.0.1", node.port), exactly(pin)) as line:
        await line.send(Rotate(said))
        return (await line.receive(Rotated)).outcome


async def bring(node: Running, who: Identity, *said: Statement) -> str:
    """The same with statements."""
    return await bring_raw(node, who, *(one.data for one in said))


async def hear(node: Running, who: Identity) -> str:
    """What this one hears of the service: a greeting, or `REFUSED`."""
    return await asyncio.to_thread(Caller(who).hear, node.port)

"""Certificates that follow one another, and what is said about them."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from peerauth.store.config import Config, load_config
from peerauth.store.rotations import append_statement
from peerauth.store.state import State
from peerauth.trust.continuity import Kind, Statement, endorse
from peerauth.trust.identity import Identity
from tests.support.dropin import NOW
from tests.support.engine import Yard, identity

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
    def waiting(self) -> dict[str, dict[str, str]]:
        """Which certificates wait for a person's word, by peer."""
        return State(self.home).read("successors")

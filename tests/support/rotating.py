"""Certificates that follow one another, and what is said about them."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache

from peerauth.trust.continuity import Kind, Statement, endorse
from peerauth.trust.identity import Identity
from tests.support.dropin import NOW
from tests.support.engine import identity

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

"""Certificates grow old: from when on it is said, and how it is said everywhere.

Levels are days before the end (30, 14, 7, 1), and 0 when it has passed. Who reaches a lower level is spoken of again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from peerauth.errors import counted
from peerauth.trust.fingerprint import Fingerprint

LEVELS: Final = (1, 7, 14, 30)  # days
EXPIRED: Final = 0
URGENT: Final = 7  # days: from this level on a person has to do something
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Ending:
    """When a certificate ends, and whose it is. `seconds` since 1970, as RFC 5280 counts to notAfter."""

    name: str
    fingerprint: Fingerprint
    seconds: int

    @property
    def not_after(self) -> datetime:
        """The last moment at which it is valid."""
        return datetime.fromtimestamp(self.seconds, UTC)


def level(not_after: datetime, now: datetime) -> int | None:
    """The lowest level that has been reached; None: it is not time to speak of it."""
    if now > not_after:  # RFC 5280 section 4.1.2.5: valid through notAfter, inclusive
        return EXPIRED
    left = not_after - now
    return next((days for days in LEVELS if left <= days * _DAY), None)


def days_left(not_after: datetime, now: datetime) -> int:
    """Whole days until then; below zero when it has passed."""
    return (not_after - now) // _DAY


def time_left(not_after: datetime, now: datetime) -> str:
    """`3 days`, or `expired 3 days ago`."""
    return f"expired {span(now - not_after)} ago" if now > not_after else span(not_after - now)


def sentence(not_after: datetime, now: datetime) -> str:
    """What a certificate does, to be put behind its name."""
    when = f"{not_after:%Y-%m-%d %H:%M} UTC"
    if now > not_after:
        return f"expired {span(now - not_after)} ago, on {when}: it is refused (expired)"
    return f"expires in {span(not_after - now)}, on {when}"


def advice(peer: str | None, not_after: datetime, now: datetime) -> str:
    """What to type about the certificate of this peer; None: about our own."""
    passed = now > not_after
    if peer is None:
        return "make a new pair, and hand it to your peers: peerauth keygen --force" if passed else "type: peerauth rotate"
    if passed:
        return f"on its machine: peerauth keygen --force; here: peerauth peer remove {peer}, and add the new one"
    return "on its machine: peerauth rotate"


def span(length: timedelta) -> str:
    """A length of time in its largest whole unit: `3 days`, `1 hour`."""
    seconds = int(length.total_seconds())
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            return counted(seconds // size, unit)
    return "less than a minute"

"""How a running node gets from one configuration to another: whose door becomes whose, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from peerauth.address import Address
from peerauth.audit import Event
from peerauth.errors import BadInput, PeerAuthError, printable
from peerauth.server.job import Job

T = TypeVar("T")


class Listening(Protocol):
    """What services and tunnels are: something that listens."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def listen(self) -> Address:
        """Where."""


@dataclass(frozen=True)
class Plan:
    """How one job follows another. `services`, `tunnels`: for each of the new, the number of the old whose door it has."""

    before: Job
    after: Job
    services: tuple[int | None, ...]
    tunnels: tuple[int | None, ...]

    @classmethod
    def of(cls, before: Job, after: Job) -> Plan:
        """Who listens where somebody listened has that door."""
        return cls(before, after, _kept(before.services, after.services), _kept(before.tunnels, after.tunnels))

    @property
    def addresses(self) -> set[Address]:
        """Where something listens afterwards."""
        everything: tuple[Listening, ...] = (*self.after.services, *self.after.tunnels)
        return {one.listen for one in everything}

    def sentence(self) -> str:
        """What is different, for people."""
        pairs = [
            *_pairs(self.before.services, self.after.services, self.services),
            *_pairs(self.before.tunnels, self.after.tunnels, self.tunnels),
        ]
        counts = {
            "new": sum(old is None for old, _ in pairs),
            "changed": sum(None not in (old, new) and old != new for old, new in pairs),
            "gone": sum(new is None for _, new in pairs),
            "as before": sum(old == new for old, new in pairs),
        }
        others = "" if self.after.config.limits == self.before.config.limits else "; the limits are new"
        shown = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "none"
        return f"config.toml was read again; services and tunnels: {shown}{others}"


def as_said(error: Exception) -> PeerAuthError:
    """What went wrong in getting ready, for people: an application may raise anything."""
    if isinstance(error, PeerAuthError):
        return error
    return BadInput("not-prepared", f"a service could not get ready: {type(error).__name__}: {printable(str(error))}")


def unchanged(error: PeerAuthError) -> list[Event]:
    """What is said of a config.toml that cannot be taken over."""
    text = f"config.toml was not taken over, and everything goes on as before: {error.message}"
    others = [Event("problem", other.message, other.hint, code=other.code) for other in error.also]
    return [Event("problem", text, error.hint, code=error.code), *others]


def taken_over(plan: Plan, restart: Sequence[str]) -> list[Event]:
    """What is said of one that was. `restart`: which of its settings count after a restart only."""
    events = [Event("reloaded", plan.sentence())]
    if restart:
        text = f"config.toml has another {', '.join(restart)}, which counts after a restart"
        events.append(Event("problem", text, "stop the program and start it again", code="restart-needed"))
    return events


def _kept(before: Sequence[Listening], after: Sequence[Listening]) -> tuple[int | None, ...]:
    free = dict(enumerate(before))
    found: list[int | None] = []
    for one in after:
        there = [number for number, old in free.items() if old.listen == one.listen]
        there.sort(key=lambda number: free[number].name != one.name)  # several at port 0 listen at different ones
        found.append(there[0] if there else None)
        if there:
            del free[there[0]]
    return tuple(found)


def _pairs(before: Sequence[T], after: Sequence[T], kept: Sequence[int | None]) -> Iterator[tuple[T | None, T | None]]:
    for new, number in zip(after, kept, strict=True):
        yield (None if number is None else before[number]), new
    for number, old in enumerate(before):
        if number not in kept:
            yield old, None

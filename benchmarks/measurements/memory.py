"""What idle connections cost, and whether 10 000 of them disturb new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.bench import Bench, Measurement
from benchmarks.contenders import Contender
from benchmarks.load import sample
from benchmarks.results import Column, Sample, Sheet
from benchmarks.running import Failed

IDLE = 2000
MANY = 10_000
MOST_ROUNDS = 3
_COST = (
    Column("per_connection_kb", "per connection", "KB", "less"),
    Column("empty_mb", "before", "MB", "less"),
    Column("full_mb", f"with {IDLE}", "MB", "less"),
)
_HELD = (
    Column("rate", "full handshakes", "1/s", "more"),
    Column("held", "held", "", "more"),
    Column("lost", "lost", "", "less"),
    Column("memory_mb", "private memory", "MB", "less"),
)


def plan(bench: Bench, contenders: Sequence[Contender]) -> list[Measurement]:
    """Plan both sheets; an HTTP proxy keeps no connection to the backend for an idle client, so it is not in them."""
    relays = [contender for contender in contenders if not contender.http]
    cost = Sheet("idle", "idle", f"Private memory of {IDLE} idle connections", _COST)
    held = Sheet("held", "held", f"Full handshakes while {bench.most_connections(MANY)} idle connections are held", _HELD)
    return [
        Measurement(cost, {relay.name: _cost(bench, relay) for relay in relays}, MOST_ROUNDS),
        Measurement(held, {relay.name: _held(bench, relay) for relay in relays}, MOST_ROUNDS),
    ]


def _cost(bench: Bench, contender: Contender) -> Callable[[], Sample]:
    def measure() -> Sample:
        with bench.up(contender, connections=IDLE + 100) as there:
            there.load.run("full", min(bench.seconds, 2), "--number", "4")  # what is allocated once is no cost of idling
            before = there.running.private_memory()
            with there.load.holding("idle", "--number", str(IDLE)) as held:
                after = there.running.private_memory()
                lost = held.lost()
        if lost:
            raise Failed(f"{lost:.0f} of {IDLE} idle connections were closed")
        figures = {
            "per_connection_kb": (after - before) / IDLE,
            "empty_mb": before / 1024,
            "full_mb": after / 1024,
        }
        return sample(held.ready, figures)

    return measure


def _held(bench: Bench, contender: Contender) -> Callable[[], Sample]:
    def measure() -> Sample:
        many = bench.most_connections(MANY)
        with bench.up(contender, connections=many + 100) as there:
            client = replace(there.load, backend=0)
            with (
                there.load.holding("backend"),
                client.holding("idle", "--number", str(many), "--setup", "150") as held,
            ):
                measured = client.run("full", bench.seconds)
                memory = there.running.private_memory()
                lost = held.lost()
        figures = {"rate": float(measured["rate"]), "held": many - lost, "lost": lost, "memory_mb": memory / 1024}
        return sample(measured, figures)

    return measure

"""Bytes per second of content through the relay, each direction, one stream and sixteen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.bench import Bench, Measurement
from benchmarks.contenders import Contender
from benchmarks.load import sample
from benchmarks.results import Column, Sample, Sheet

COLUMNS = (Column("rate", "throughput", "GB/s", "more"),)
_AHEAD = 1.6e9  # bytes per second that are encrypted in advance; more than anything here relays
_WAYS = (
    ("down-1", "Bulk, backend to client, 1 stream", "down", 1),
    ("down-16", "Bulk, backend to client, 16 streams", "down", 16),
    ("up-1", "Bulk, client to backend, 1 stream", "up", 1),
    ("up-16", "Bulk, client to backend, 16 streams", "up", 16),
)


def plan(bench: Bench, contenders: Sequence[Contender]) -> list[Measurement]:
    """Plan the four sheets; HTTP proxies carry no plain streams."""
    relays = [contender for contender in contenders if not contender.http]
    return [
        Measurement(
            Sheet(key, key, title, COLUMNS),
            {relay.name: _streams(bench, relay, mode, streams) for relay in relays},
        )
        for key, title, mode, streams in _WAYS
    ]


def _streams(bench: Bench, contender: Contender, mode: str, streams: int) -> Callable[[], Sample]:
    def measure() -> Sample:
        options = ["--number", str(streams)]
        if mode == "up":
            options += ["--bytes", f"{bench.seconds * _AHEAD:.0f}"]
        with bench.up(contender) as there:
            measured = there.load.run(mode, bench.seconds, *options)
        return sample(measured, {"rate": float(measured["rate"]) / 1e9})

    return measure

"""HTTP requests per second through reverse proxies that know their callers: a GET and an answer of 100 bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.bench import Bench, Measurement
from benchmarks.contenders import PEERAUTH, PEERAUTH_HTTP, Contender
from benchmarks.load import sample
from benchmarks.results import Column, Sample, Sheet
from benchmarks.running import Failed

_RATE = Column("rate", "per second", "1/s", "more")
_P50 = Column("p50_us", "half take", "us", "less")
_P99 = Column("p99_us", "99 % take", "us", "less")


def plan(bench: Bench, contenders: Sequence[Contender]) -> list[Measurement]:
    """Plan requests over 1 and 64 kept connections; whoever relays bytes and speaks no HTTP is not in it."""
    proxies = {one.name: PEERAUTH_HTTP if one is PEERAUTH else one for one in contenders if one.http or one is PEERAUTH}
    return [
        Measurement(
            Sheet(f"requests-{number}", f"requests-{number}", title, columns),
            {name: _requests(bench, proxy, number) for name, proxy in proxies.items()},
        )
        for number, title, columns in (
            (1, "HTTP requests, 1 connection", (_P50, _P99, _RATE)),
            (64, "HTTP requests, 64 connections", (_RATE, _P50, _P99)),
        )
    ]


def _requests(bench: Bench, contender: Contender, number: int) -> Callable[[], Sample]:
    def measure() -> Sample:
        with bench.up(contender) as there:
            measured = there.load.run("ping", bench.seconds, "--number", str(number))
        if float(measured["lost"]) or float(measured["wrong"]):
            raise Failed(f"broken connections: {measured['lost']}, wrong answers: {measured['wrong']}: {measured['error']}")
        return sample(measured, {key: float(measured[key]) for key in ("rate", "p50_us", "p99_us")})

    return measure

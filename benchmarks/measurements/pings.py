"""Round trips of 100 bytes: alone, many at once, and while strangers' handshakes storm in."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.bench import Bench, Measurement, Set
from benchmarks.contenders import Contender
from benchmarks.load import sample
from benchmarks.results import Column, Sample, Sheet
from benchmarks.running import Failed

_RATE = Column("rate", "per second", "1/s", "more")
_P50 = Column("p50_us", "half take", "us", "less")
_P99 = Column("p99_us", "99 % take", "us", "less")
_MAX = Column("max_us", "slowest", "us", "less")
_STORM = (
    Column("p99_us", "99 % take", "us", "less"),
    _P50,
    _MAX,
    Column("calm_p99_us", "99 % take without it", "us", "less"),
    Column("storm_rate", "handshakes meanwhile", "1/s", "more"),
)
_PACED = ("--number", "64", "--every", "10000")


def plan(bench: Bench, contenders: Sequence[Contender]) -> list[Measurement]:
    """Plan round trips over 1, 64 and 512 connections, and the storm; HTTP proxies are measured by their own, later."""
    relays = [contender for contender in contenders if not contender.http]
    sheets = [
        Measurement(
            Sheet(f"ping-{number}", f"ping-{number}", title, columns),
            {relay.name: _pings(bench, relay, number) for relay in relays},
        )
        for number, title, columns in (
            (1, "100-byte round trips, 1 connection", (_P50, _P99, _RATE)),
            (64, "100-byte round trips, 64 connections", (_RATE, _P50, _P99)),
            (512, "100-byte round trips, 512 connections", (_RATE, _P50, _P99)),
        )
    ]
    storm = Sheet("storm", "storm", "64 connections at 100 round trips/s each, in a storm of full handshakes", _STORM)
    return [*sheets, Measurement(storm, {relay.name: _storm(bench, relay) for relay in relays})]


def _pings(bench: Bench, contender: Contender, number: int) -> Callable[[], Sample]:
    def measure() -> Sample:
        with bench.up(contender) as there:
            measured = there.load.run("ping", bench.seconds, "--number", str(number))
        _nothing_lost(measured)
        return sample(measured, {key: float(measured[key]) for key in ("rate", "p50_us", "p99_us")})

    return measure


def _storm(bench: Bench, contender: Contender) -> Callable[[], Sample]:
    """The storm comes from a second generator on the same core, at the lowest priority, so as not to delay the pings."""

    def measure() -> Sample:
        with bench.up(contender) as there:
            calm = there.load.run("ping", bench.seconds, *_PACED)
            measured, storm = _in_storm(bench, there)
        _nothing_lost(measured)
        figures = {key: float(measured[key]) for key in ("p99_us", "p50_us", "max_us")}
        return sample(measured, {**figures, "calm_p99_us": float(calm["p99_us"]), "storm_rate": storm})

    return measure


def _in_storm(bench: Bench, there: Set) -> tuple[dict[str, float | str], float]:
    """Return what the pings saw and the handshakes per second reached, by a storm that begins before and ends after them."""
    outside = replace(there.load, backend=0)
    seconds = bench.seconds + 2
    storm = subprocess.Popen(
        outside.command("full", ["--seconds", f"{seconds:g}"], nice=19), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        measured = there.load.run("ping", bench.seconds, *_PACED)
        text, _ = storm.communicate(timeout=seconds + 30)
    except subprocess.TimeoutExpired:
        raise Failed("the storm did not end") from None
    finally:
        storm.kill()
        storm.wait()
    return measured, float(json.loads(text)["rate"])


def _nothing_lost(measured: dict[str, float | str]) -> None:
    if float(measured["lost"]) or float(measured["wrong"]):
        raise Failed(f"broken connections: {measured['lost']}, wrong answers: {measured['wrong']}: {measured['error']}")

"""Connections per second: full handshakes with each kind of key, and resumed ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.bench import Bench, Measurement
from benchmarks.contenders import Contender
from benchmarks.identities import Kind
from benchmarks.load import sample
from benchmarks.measurements.limits import ALONE, signatures
from benchmarks.results import Column, Sample, Sheet
from benchmarks.running import Failed

COLUMNS = (
    Column("rate", "per second", "1/s", "more"),
    Column("p50_ms", "half take", "ms", "less"),
    Column("p99_ms", "99 % take", "ms", "less"),
)
_FULL: tuple[tuple[str, str, Kind, Kind], ...] = (
    ("full", "Full handshakes, RSA-4096 server, P-256 client", "rsa4096", "p256"),
    ("full-rsa-client", "Full handshakes, RSA-4096 server, RSA-4096 client", "rsa4096", "rsa4096"),
    ("full-p256-server", "Full handshakes, P-256 server, P-256 client", "p256", "p256"),
    ("full-ed25519-server", "Full handshakes, Ed25519 server, P-256 client", "ed25519", "p256"),
)


def plan(bench: Bench, contenders: Sequence[Contender]) -> list[Measurement]:
    """Plan the four sheets of full handshakes and the one of resumed ones.

    With the first belongs what the signatures alone take: on a shared machine, another moment is another machine.
    """
    sheets = [
        Measurement(
            Sheet(key, key, title, COLUMNS),
            {contender.name: _loops(bench, contender, "full", server, client) for contender in contenders},
        )
        for key, title, server, client in _FULL
    ]
    sheets[0].subjects[ALONE] = signatures(bench)
    resumed = {contender.name: _loops(bench, contender, "resumed", "rsa4096", "p256") for contender in contenders}
    return [*sheets, Measurement(Sheet("resumed", "resumed", "Resumed connections, RSA-4096 server", COLUMNS), resumed)]


def _loops(bench: Bench, contender: Contender, mode: str, server: Kind, client: Kind) -> Callable[[], Sample]:
    def measure() -> Sample:
        with bench.up(contender, server=server, client=client) as there:
            measured = there.load.run(mode, bench.seconds)
        if mode == "resumed" and float(measured["not_resumed"]) > float(measured["resumed"]):
            raise Failed("most connections were not resumed")
        return sample(
            measured,
            {
                "rate": float(measured["rate"]),
                "p50_ms": float(measured["p50_us"]) / 1e3,
                "p99_ms": float(measured["p99_us"]) / 1e3,
            },
        )

    return measure

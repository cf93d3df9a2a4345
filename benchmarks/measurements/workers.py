"""Two workers against one. On two cores the load generator needs a part of one, so CPU time is told as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.bench import Bench, Measurement
from benchmarks.contenders import Contender
from benchmarks.load import sample
from benchmarks.results import Column, Sample, Sheet
from benchmarks.running import CONTENDER_CORE, LOAD_CORE

COLUMNS = (
    Column("rate", "full handshakes", "1/s", "more"),
    Column("per_cpu", "per CPU second of the server", "1/s", "more"),
    Column("cores", "cores used by the server", "", "more"),
)


def plan(bench: Bench, contenders: Sequence[Contender]) -> list[Measurement]:
    """Plan the sheet, if peerauth takes part."""
    ours = [contender for contender in contenders if contender.name == "peerauth"]
    subjects = {
        name: _run(bench, contender, number) for contender in ours for name, number in (("1 worker", 1), ("2 workers", 2))
    }
    sheet = Sheet("workers", "workers", "peerauth with one worker and with two", COLUMNS, baseline="1 worker")
    return [Measurement(sheet, subjects)] if subjects else []


def _run(bench: Bench, contender: Contender, number: int) -> Callable[[], Sample]:
    def measure() -> Sample:
        core = CONTENDER_CORE if number == 1 else f"{CONTENDER_CORE},{LOAD_CORE}"
        with bench.up(contender, workers=number, core=core) as there:
            there.load.run("full", min(bench.seconds, 1))
            before = there.running.cpu_seconds()
            measured = there.load.run("full", bench.seconds, "--number", "32")
            used = there.running.cpu_seconds() - before
        figures = {
            "rate": float(measured["rate"]),
            "per_cpu": float(measured["accepted"]) / used,
            "cores": used / bench.seconds,
        }
        return sample(measured, figures)

    return measure

"""Results as a run would leave them, small and made up."""

from __future__ import annotations

from benchmarks.results import Column, Results, Sample, Sheet, Standing

RATE = Column("rate", "per second", "1/s", "more")
TIME = Column("p99_us", "99 % take", "us", "less")


def sheet(key: str = "full", column: Column = RATE, **rounds: list[float | str]) -> Sheet:
    """A sheet of one column; a text instead of a figure is the reason of a failure."""
    made = Sheet(key, key, f"The sheet {key}", (column,))
    for name, figures in rounds.items():
        for figure in figures:
            reached = Sample({column.key: figure, "generator": 0.25}) if isinstance(figure, float) else None
            made.add(name.replace("_", " "), reached or Sample(failed=str(figure)))
    return made


def results(*sheets: Sheet, **settings: str) -> Results:
    """A run with two contenders, one of which was left out."""
    standings = [
        Standing("peerauth", "1.0", "OpenSSL 4", "this checkout"),
        Standing("hitch", left_out="not installed (apt-get install hitch)"),
    ]
    usual = {"rounds": "3", "seconds": "4", "quick": "no", "only": "", "load average at the start": "0.10"}
    return Results({"processor": "a processor", "date": "2026-01-02 03:04 UTC"}, usual | settings, standings, list(sheets))

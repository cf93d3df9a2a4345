"""The arithmetic of the benchmark: medians, spreads, and ratios round by round. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from benchmarks.results import Sheet

GENERATOR = "generator"  # the key of the load generator's own CPU share
LIMIT = 0.9  # above it the generator, not the contender, may be what was measured


@dataclass(frozen=True)
class Summary:
    """The rounds of one figure of one contender."""

    median: float
    low: float
    high: float
    rounds: int


def values(sheet: Sheet, name: str, key: str) -> list[float | None]:
    """Return the figure in every round, None where the contender failed."""
    return [sample.values.get(key) for sample in sheet.samples.get(name, [])]


def summary(sheet: Sheet, name: str, key: str) -> Summary | None:
    """Return the median and the spread over the rounds that succeeded, None if none did."""
    found = [value for value in values(sheet, name, key) if value is not None]
    return Summary(median(found), min(found), max(found), len(found)) if found else None


def ratio(sheet: Sheet, of: str, to: str, key: str) -> float | None:
    """Return the median over the rounds of (`of` / `to` in the same round), None where no round has both."""
    pairs = zip(values(sheet, of, key), values(sheet, to, key), strict=False)
    found = [one / other for one, other in pairs if one is not None and other]
    return median(found) if found else None


def ratio_between(one: Sheet, other: Sheet, name: str, key: str) -> float | None:
    """Return the median of the ratios of one contender in two sheets that were measured in the same rounds."""
    pairs = zip(values(one, name, key), values(other, name, key), strict=False)
    found = [a / b for a, b in pairs if a is not None and b]
    return median(found) if found else None


def best(sheet: Sheet, key: str, *, apart_from: str, among: set[str] | None = None) -> str | None:
    """Return the name of the best of the others by the median of this figure, None where no other has one."""
    column = next(column for column in sheet.columns if column.key == key)
    found = {
        name: one.median
        for name in sheet.samples
        if name != apart_from and (among is None or name in among) and (one := summary(sheet, name, key))
    }
    choose = max if column.better == "more" else min
    return choose(found, key=found.__getitem__) if found else None


def failures(sheet: Sheet, name: str) -> list[str]:
    """Return the reasons of the rounds in which the contender failed, each once."""
    return list(dict.fromkeys(sample.failed for sample in sheet.samples.get(name, []) if sample.failed))


def generator_was_the_limit(sheet: Sheet, name: str) -> bool:
    """Say whether the load generator used so much of its core that the figure may be its own."""
    share = summary(sheet, name, GENERATOR)
    return share is not None and share.median > LIMIT

"""Taking turns: A B C A B C, so that whatever else the machine does hits everybody alike."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from operator import attrgetter

from benchmarks.bench import Measurement
from benchmarks.results import Sample
from benchmarks.running import Failed

HOPELESS = "gave up after"  # what begins a reason that another round would only repeat


def take(measurements: Iterable[Measurement], rounds: int, tell: Callable[[str], None]) -> None:
    """Fill the sheets: in every group, each round measures every sheet and in it every subject once."""
    for group, members in itertools.groupby(measurements, attrgetter("sheet.group")):
        together = list(members)
        for number in range(min(rounds, max(member.most_rounds for member in together))):
            for member in together:
                if number >= member.most_rounds:
                    continue
                for name, measure in member.subjects.items():
                    sample = _again(member, name) or attempt(measure)
                    member.sheet.add(name, sample)
                    tell(f"{group} {number + 1}: {member.sheet.title}: {name}: {_shown(member, sample)}")


def attempt(measure: Callable[[], Sample]) -> Sample:
    """Return what was measured, or the sample of a failure with its reason."""
    try:
        return measure()
    except Failed as reason:
        return Sample(failed=str(reason))
    except OSError as reason:
        return Sample(failed=f"{type(reason).__name__}: {reason}")


def _again(member: Measurement, name: str) -> Sample | None:
    """A failure that took its whole time is not waited for again."""
    before = member.sheet.samples.get(name, [])
    return before[-1] if before and before[-1].failed.startswith(HOPELESS) else None


def _shown(member: Measurement, sample: Sample) -> str:
    if sample.failed:
        return f"failed: {sample.failed}"
    return ", ".join(
        f"{sample.values[column.key]:.4g} {column.unit}" for column in member.sheet.columns if column.key in sample.values
    )

"""What is measured; each module plans the sheets of one group, in the order of the page."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.bench import Bench, Measurement
from benchmarks.contenders import Contender
from benchmarks.measurements import bulk, commands, handshakes, limits, memory, pings, pool, requests, workers

_PLANS = (handshakes, bulk, pings, requests, memory, pool, workers, limits, commands)


def plan(bench: Bench, contenders: Sequence[Contender]) -> list[Measurement]:
    """Return every measurement for these contenders."""
    return [measurement for part in _PLANS for measurement in part.plan(bench, contenders)]

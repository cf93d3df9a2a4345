"""What every worker sees for itself is said once.

Each worker follows `peers/` itself, and they need not see the same: one may see a peer go and come back, another only that
it came back. So the reports of each worker are counted, and a report is news when nobody has made it as often yet. Counts
are kept while the workers may still be catching up with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

KEPT = 5.0  # seconds; a worker without inotify looks every 0.2 s, and every one at least every 2 s


class Once:
    """Tells news from what another worker has reported already, on the clock `now` (seconds, monotonic)."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._counts: dict[Hashable, tuple[float, dict[int, int]]] = {}  # the one that was quiet for longest is first

    def is_news(self, worker: int, report: Hashable) -> bool:
        """Whether this worker reports what nobody has reported as often lately."""
        now = self._now()
        self._forget(now)
        _, counts = self._counts.pop(report, (now, {}))
        said = max(counts.values(), default=0)
        counts[worker] = counts.get(worker, 0) + 1
        self._counts[report] = now, counts
        return counts[worker] > said

    def joins(self, worker: int) -> None:
        """A new worker of this number knows everything that was said so far."""
        for _, counts in self._counts.values():
            counts[worker] = max(counts.values())

    def _forget(self, now: float) -> None:
        while self._counts:
            report, (last, _) = next(iter(self._counts.items()))
            if now - last < KEPT:
                return
            del self._counts[report]

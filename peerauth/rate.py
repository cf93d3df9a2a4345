"""A bound on what others can cause: so many at once, so many a second, and a count of what was left out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


class Bucket:
    """A token bucket on the clock `now` (seconds, monotonic)."""

    def __init__(self, at_once: int, per_second: float, now: Callable[[], float]) -> None:
        self._most = float(at_once)
        self._per_second = per_second
        self._now = now
        self._tokens = self._most
        self._last = now()
        self._left_out = 0

    def take(self) -> bool:
        """Whether there is room for one more; if not, it is counted."""
        now = self._now()
        self._tokens = min(self._most, self._tokens + (now - self._last) * self._per_second)
        self._last = now
        if self._tokens < 1:
            self._left_out += 1
            return False
        self._tokens -= 1
        return True

    def give_back(self) -> None:
        """What was taken last does not count after all."""
        self._tokens = min(self._most, self._tokens + 1)

    def leave_out(self, count: int) -> None:
        """So many more found no room."""
        self._left_out += count

    def left_out(self) -> int:
        """How many found no room since this was last asked."""
        count, self._left_out = self._left_out, 0
        return count


class Buckets:
    """A bucket for each source, of as many sources as `most`: of more, the one that came longest ago begins anew."""

    def __init__(self, at_once: int, per_second: float, now: Callable[[], float], most: int = 1024) -> None:
        self._at_once, self._per_second, self._now = at_once, per_second, now
        self._most = most
        self._of: OrderedDict[str, Bucket] = OrderedDict()

    def of(self, source: str) -> Bucket:
        """The bucket of this source."""
        bucket = self._of.pop(source, None) or Bucket(self._at_once, self._per_second, self._now)
        self._of[source] = bucket
        if len(self._of) > self._most:
            self._of.popitem(last=False)
        return bucket

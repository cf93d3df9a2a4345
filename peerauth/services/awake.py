"""Staying awake for an answer that comes at once.

To let a processor sleep and to wake it again takes longer than a small message takes through a relay. So after a small
message the loop looks for the next one for a moment before it sleeps: only while nobody else wants the processor, and only
as long as it pays (decision 0020).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MOMENT: Final = 60e-6  # seconds; a message to the same machine and its answer take about a third of that
IN_A_ROW: Final = 8  # messages of one connection; where several talk, there is always one that is ready
TRIES: Final = 8  # so many times in vain, and messages pass without it
PASSES: Final = 256  # so many of them


class Awake:
    """For one loop: its `call_soon`, whether it may look now (`alone`), and a clock (`now`, seconds)."""

    __slots__ = ("_alone", "_call_soon", "_in_a_row", "_last", "_left", "_looking", "_now", "_passes", "_until")

    def __init__(
        self, call_soon: Callable[[Callable[[], None]], object], alone: Callable[[], bool], now: Callable[[], float]
    ) -> None:
        self._call_soon = call_soon
        self._alone = alone
        self._now = now
        self._in_a_row = 0
        self._last = 0
        self._looking = False
        self._until = 0.0
        self._left = TRIES
        self._passes = 0

    def stay(self, whose: int) -> None:
        """A small message of this one has gone through: if it alone is talking, look for the next one for a moment."""
        if whose != self._last:
            self._last, self._in_a_row, self._until = whose, 0, 0.0
            return
        if self._in_a_row < IN_A_ROW:
            self._in_a_row += 1
            return
        if self._passes:
            self._passes -= 1
            return
        if self._looking:  # and it has paid
            self._left = min(self._left + 1, TRIES)
        elif self._alone():
            self._looking = True
            self._call_soon(self._look)
        else:
            return
        self._until = self._now() + MOMENT

    def _look(self) -> None:
        if self._now() < self._until and self._alone():
            self._call_soon(self._look)  # while something is to be called, a loop asks what is ready and does not wait
            return
        self._looking = False
        self._left -= 1
        if not self._left:
            self._left = TRIES
            self._passes = PASSES

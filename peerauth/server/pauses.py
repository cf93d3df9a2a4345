"""How long to wait before what has ended is started again: not at all at first, then longer and longer."""

from __future__ import annotations

PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds
LONG_ENOUGH = 30.0  # who lived this many seconds has not ended at once


class Pauses:
    """The pauses of one worker and its successors."""

    def __init__(self) -> None:
        self._step = 0

    def after(self, lived: float) -> float:
        """The pause after one that lived so many seconds."""
        if lived >= LONG_ENOUGH:
            self._step = 0
        pause = PAUSES[self._step]
        self._step = min(self._step + 1, len(PAUSES) - 1)
        return pause

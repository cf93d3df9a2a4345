"""Which of several targets a connection tries, and in which order: in turn, and whoever was down lately after the others.

It connects to nothing: it is told how a try went. A target that is down is left alone for a pause, so that no connection
waits for it; then one connection tries it, while the others go on without it, and the pause grows if that fails, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from peerauth.address import Address

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0


@dataclass(slots=True)
class _Down:
    pause: float
    until: float


class Upstreams:
    """The targets of one service, on the clock `now` (seconds, monotonic)."""

    def __init__(self, targets: Sequence[Address], now: Callable[[], float]) -> None:
        self._orders = [(*targets[first:], *targets[:first]) for first in range(len(targets))]
        self._now = now
        self._next = 0
        self._down: dict[Address, _Down] = {}

    def turn(self) -> tuple[Address, ...]:
        """All of them, in the order in which the next connection tries them."""
        if len(self._orders) == 1:
            return self._orders[0]
        order = self._orders[self._next]
        self._next = (self._next + 1) % len(self._orders)
        if not self._down:
            return order
        now = self._now()
        order = tuple(sorted(order, key=lambda target: target in self._down and now < self._down[target].until))
        tried = self._down.get(order[0])
        if tried is not None and now >= tried.until:  # for this connection alone
            tried.pause = min(2 * tried.pause, LONGEST_PAUSE_S)
            tried.until = now + tried.pause
        return order

    def failed(self, target: Address) -> bool:
        """It did not answer; whether that is news."""
        if target in self._down:
            return False
        self._down[target] = _Down(FIRST_PAUSE_S, self._now() + FIRST_PAUSE_S)
        return True

    def worked(self, target: Address) -> bool:
        """It answered; whether that is news."""
        return bool(self._down) and self._down.pop(target, None) is not None

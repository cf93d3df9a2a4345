"""Deadlines of many connections, looked at together: a message sets a number and no timer."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

LONGEST_LOOK: Final = 1.0  # seconds between two looks, and so the most that somebody is early or late


class Waiting(Protocol):
    """Who waits for something until `deadline`, by Patience.now."""

    deadline: float

    def expired(self) -> None:
        """The deadline has passed."""

    def wind_down(self) -> None:
        """What is under way is the last."""


class Patience:
    """For one loop. `now` (seconds) is the time of the last look; nobody's patience is shorter than four `look`s."""

    __slots__ = ("_all", "_look", "_loop", "_timer", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop, look: float = LONGEST_LOOK) -> None:
        self._loop = loop
        self._look = min(look, LONGEST_LOOK)
        self._all: set[Waiting] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.now = loop.time()

    def add(self, one: Waiting) -> None:
        """Look at this one, too."""
        self._all.add(one)
        if self._timer is None:
            self.now = self._loop.time()
            self._timer = self._loop.call_later(self._look, self._tick)

    def discard(self, one: Waiting) -> None:
        """It waits no more."""
        self._all.discard(one)

    def wind_down(self) -> None:
        """Have everyone who is here come to an end."""
        for one in list(self._all):
            one.wind_down()

    def close(self) -> None:
        """Look at nobody any more."""
        self._all.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now = self.now = self._loop.time()
        self._timer = self._loop.call_later(self._look, self._tick) if self._all else None
        for one in [one for one in self._all if one.deadline <= now]:
            one.expired()

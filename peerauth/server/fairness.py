"""Whose turn it is: whoever floods waits behind itself."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """A bounded queue for each source, served in turn. Not safe across threads by itself."""

    def __init__(self, per_source: int, choose: Callable[[int], int] = random.randrange) -> None:
        self._per_source = per_source
        self._choose = choose
        self._waiting: dict[str, deque[Item]] = {}
        self._turns: deque[str] = deque()

    def __bool__(self) -> bool:
        return bool(self._turns)

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._waiting.values())

    def push(self, source: str, item: Item) -> Item | None:
        """Queue an item; what fell out for it, any one of the same source, when that source has too many."""
        waiting = self._waiting.get(source)
        if waiting is None:
            waiting = self._waiting[source] = deque()
            self._turns.append(source)
        waiting.append(item)
        if len(waiting) <= self._per_source:
            return None
        # Which one is left to chance (like sshd's MaxStartups): neither first nor last can be aimed at.
        unlucky = self._choose(len(waiting))
        fallen = waiting[unlucky]
        del waiting[unlucky]
        return fallen

    def pop(self) -> Item | None:
        """The next item: the oldest of the source whose turn it is."""
        if not self._turns:
            return None
        source = self._turns.popleft()
        waiting = self._waiting[source]
        item = waiting.popleft()
        if waiting:
            self._turns.append(source)
        else:
            del self._waiting[source]
        return item

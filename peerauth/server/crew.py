"""Handshakes in threads, fairly: whoever floods waits behind itself.

An RSA-4096 handshake takes a millisecond or two of computing that releases the interpreter, so it runs beside the loop and
relays do not wait for it. What waits for a thread is kept by source address and served in turn, one of each.
"""

from __future__ import annotations

import random
import threading
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


class Crew:
    """A few threads that work through a fair queue of jobs. A job must not raise."""

    def __init__(self, threads: int, per_source: int) -> None:
        self._queue: FairQueue[tuple[Callable[[], None], Callable[[], None]]] = FairQueue(per_source)
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"handshake-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, source: str, job: Callable[[], None], dropped: Callable[[], None]) -> None:
        """Run `job` in a thread when it is its turn; or `dropped` here and now, for it or for another of its source."""
        with self._changed:
            fallen = self._queue.push(source, (job, dropped))
            self._changed.notify()
        if fallen is not None:
            fallen[1]()

    def close(self) -> None:
        """Let the threads end; what waits is dropped."""
        waiting = []
        with self._changed:
            self._closed = True
            while (found := self._queue.pop()) is not None:
                waiting.append(found)
            self._changed.notify_all()
        for _, dropped in waiting:
            dropped()
        for thread in self._threads:
            thread.join(1.0)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (found := self._queue.pop()) is None:
                    self._changed.wait()
                if self._closed or found is None:
                    return
            found[0]()

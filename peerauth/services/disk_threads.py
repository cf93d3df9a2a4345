"""Threads that wait for disks. A thread that waits for ever keeps nobody from leaving: neither its service nor the process.

concurrent.futures.ThreadPoolExecutor has the process wait for its threads at the end, however long a disk hangs.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DiskThreads(Executor):
    """At most so many threads, started as there is work. It is given work by one thread, that of the loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._started = 0
        self._closed = False
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As Executor.submit."""
        if self._closed:
            raise RuntimeError("no more work is taken")
        future: Future[T] = Future()
        self._work.put((future, functools.partial(fn, *args, **kwargs)))
        if self._started < self._most:
            self._started += 1
            threading.Thread(target=self._run, name=f"disk-{self._started}", daemon=True).start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = True) -> None:  # noqa: FBT001, FBT002 - as Executor
        """Take no more work and drop what nobody has begun; never waits."""
        del wait, cancel_futures
        self._closed = True
        while True:
            try:
                work = self._work.get_nowait()
            except Empty:
                break
            if work is not None:
                work[0].cancel()
        for _ in range(self._started):
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            future, call = work
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 - it is for whoever waits for the result
                    future.set_exception(error)
            del work, future, call  # nothing is kept until there is other work

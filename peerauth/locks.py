"""A lock for what a program may fork beside a thread of ours."""

from __future__ import annotations

import os
import threading
from weakref import WeakSet


class ForkLock:
    """A lock that is open in a fork of this process, whoever had it: its thread is not there, and would never let go of it.

    What it guards has to be good at every moment, also halfway through a change, if only to be looked at again.
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _all.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def open_anew(self) -> None:
        """Nobody has it."""
        self._lock = threading.Lock()


_all: WeakSet[ForkLock] = WeakSet()


def _in_fork() -> None:
    for lock in list(_all):
        lock.open_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_fork)

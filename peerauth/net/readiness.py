"""Waiting for many sockets in a thread: each is heard of once, and then only when it is asked for again.

epoll's EPOLLONESHOT where there is epoll: one call of the system for each wait. Elsewhere what `selectors` has.
"""

from __future__ import annotations

import contextlib
import select
import selectors
from typing import Protocol


class Readiness(Protocol):
    """Descriptors that are waited for. For one thread."""

    def always(self, fd: int) -> None:
        """Hear of this one whenever something can be read."""

    def once(self, fd: int, *, writable: bool = False, again: bool = False) -> None:
        """Hear of this one when it can be read (or written), once; `again` when it was waited for before."""

    def forget(self, fd: int) -> None:
        """Hear of this one no more. It may be one that is not waited for."""

    def wait(self, seconds: float | None) -> list[int]:
        """Those that are ready; None waits for as long as it takes."""

    def close(self) -> None:
        """Be done."""


class Epoll:
    """Readiness by epoll(7)."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def always(self, fd: int) -> None:
        """As Readiness.always."""
        self._epoll.register(fd, select.EPOLLIN)

    def once(self, fd: int, *, writable: bool = False, again: bool = False) -> None:
        """As Readiness.once."""
        events = (select.EPOLLOUT if writable else select.EPOLLIN) | select.EPOLLONESHOT
        if again:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)

    def forget(self, fd: int) -> None:
        """As Readiness.forget."""
        with contextlib.suppress(OSError):
            self._epoll.unregister(fd)

    def wait(self, seconds: float | None) -> list[int]:
        """As Readiness.wait."""
        return [fd for fd, _ in self._epoll.poll(seconds)]

    def close(self) -> None:
        """As Readiness.close."""
        self._epoll.close()


class Selector:
    """Readiness by what the system has."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def always(self, fd: int) -> None:
        """As Readiness.always."""
        self._selector.register(fd, selectors.EVENT_READ, data=True)

    def once(self, fd: int, *, writable: bool = False, again: bool = False) -> None:
        """As Readiness.once."""
        del again
        self.forget(fd)
        self._selector.register(fd, selectors.EVENT_WRITE if writable else selectors.EVENT_READ, data=False)

    def forget(self, fd: int) -> None:
        """As Readiness.forget."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    def wait(self, seconds: float | None) -> list[int]:
        """As Readiness.wait."""
        ready = self._selector.select(seconds)
        for key, _ in ready:
            if not key.data:
                self._selector.unregister(key.fd)
        return [key.fd for key, _ in ready]

    def close(self) -> None:
        """As Readiness.close."""
        self._selector.close()


def readiness() -> Readiness:
    """The best that this system has."""
    return Epoll() if hasattr(select, "epoll") else Selector()

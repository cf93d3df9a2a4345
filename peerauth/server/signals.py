"""Signals for a process that has no event loop: each is a byte in a socket, to be read when it suits."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from types import FrameType
from typing import Final

TOLD: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Kept:
    """A handler for while a program begins: what comes then, and would end it, is sent again when somebody hears it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.came = False
        signal.signal(number, self)

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """As a handler is called."""
        self.came = True

    def give(self) -> None:
        """Another handler is there now."""
        if self.came:
            signal.raise_signal(self.number)


@contextlib.contextmanager
def heard(*numbers: signal.Signals) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Hear these while the block runs: (the socket that the bytes are read from, its other end)."""
    wake, woken = socket.socketpair()
    wake.setblocking(False)
    woken.setblocking(False)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    old = signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    for handler in before.values():
        if isinstance(handler, Kept):
            handler.give()
    try:
        yield wake, woken
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        wake.close()
        woken.close()


def name_of(number: int) -> str:
    """SIGKILL for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"

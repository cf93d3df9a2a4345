"""What the parent of several workers knows of one of them and its successors."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

from peerauth.server.channel import Inbox
from peerauth.server.pauses import Pauses


class Watched:
    """What is known of one worker and its successors."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.shown = f"worker {number + 1}"
        self.pid: int | None = None
        self.channel: socket.socket | None = None
        self.inbox: Inbox | None = None
        self.ready = False
        self.started = 0.0
        self.due: float | None = 0.0  # when it is to be started
        self.pauses = Pauses()
        self.stand_in: Watched | None = None

    def kill(self) -> None:
        """End it at once, if it is there."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def tell(self, word: str, about: int | None = None) -> None:
        """Say a word to it; one that does not listen is dealt with by the clock."""
        if self.channel is not None:
            with contextlib.suppress(OSError):
                self.channel.send(f"{word} {'' if about is None else about}\n".encode())


def how_it_ended(code: int) -> str:
    """How a process ended, by its exit code, which is negative for a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return f"ended by signal {-code} ({name})"

"""Bytes of an open file, on their way: read as far as they are in memory, and otherwise by a thread."""

from __future__ import annotations

import asyncio
import os

from peerauth.services.beneath import Opened
from peerauth.tls.scratch import SIZE

AHEAD = 2 << 20  # bytes that the system is asked to read when a thread has to wait for the disk anyway
_NOW = getattr(os, "RWF_NOWAIT", 0)


class Changed(Exception):
    """The file was written to, or cut off, while it was being sent."""


class Stretch:
    """A part of a body: `len()` bytes of `file` from `start` on.

    It is given to a PouringTransport where bytes would be. `gone` is then awaited: True when all of it has left, False
    when the connection has ended before. The file stays open that long.
    """

    __slots__ = ("_at", "_file", "_left", "_never_at_hand", "_size", "gone", "taken")

    def __init__(self, file: Opened, start: int, size: int) -> None:
        self._file = file
        self._at = start
        self._size = self._left = size
        self._never_at_hand = not _NOW
        self.taken = False  # whether a transport has it
        self.gone: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def __len__(self) -> int:
        return self._size

    @property
    def left(self) -> int:
        """How many bytes were not read yet."""
        return self._left

    def at_hand(self, view: memoryview) -> int:
        """Read what needs no waiting; 0: it does, or it is the end, which `fetch` reads. Raises OSError."""
        if self._never_at_hand or self._left <= SIZE:
            return 0
        try:
            size = os.preadv(self._file.descriptor, [view], self._at, _NOW)
        except BlockingIOError:
            return 0
        except OSError:  # this file system cannot tell (EOPNOTSUPP)
            self._never_at_hand = True
            return 0
        return self._passed(size)

    def fetch(self, view: memoryview) -> int:
        """Read, however long it takes: for a thread. Raises Changed, or OSError."""
        file = self._file
        if self._left > SIZE and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.descriptor, self._at + SIZE, min(AHEAD, self._left), os.POSIX_FADV_WILLNEED)
        size = os.preadv(file.descriptor, [view[: self._left]], self._at)
        if not size or (size == self._left and not file.is_unchanged):
            raise Changed
        return self._passed(size)

    def _passed(self, size: int) -> int:
        self._at += size
        self._left -= size
        return size

    def end(self, *, complete: bool) -> None:
        """It has left, or never will."""
        if not self.gone.done():
            self.gone.set_result(complete)

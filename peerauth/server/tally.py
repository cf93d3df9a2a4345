"""What all workers of a node count together, in memory that they share.

The rules:
1. A cell has one writer. A sum over the workers' cells is the node's count. So a worker that is killed leaves nothing half
   done: its cells are right to one connection, and are zeroed before its successor starts.
2. Room is taken under a lock: add to the own cell, then sum; who finds too much takes it back. Two workers never admit one
   more than there is room for. The lock is the kernel's (fcntl(2)), which lets go of it when its holder dies.
3. A look without the lock may be a moment old. It is good for an early no, in the handshake, where a no can be explained.

A node of one process has the same, with one row and no lock.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from peerauth.trust.decision import Code

OTHER = "other"
REASONS = (*(str(code) for code in Code), "timeout", "closed", "crowded", OTHER)
_FIGURES = ("connections", "admitted", "ended", *REASONS)
_CONNECTIONS, _ADMITTED, _ENDED = range(3)
_REASON = {reason: number for number, reason in enumerate(REASONS, 3)}
_ROW = len(_FIGURES)
_WORD = 8
_FEWEST_SLOTS = 4096
_PROBES = 64  # as many places may a name have; half of all slots are free, so 64 taken in a row do not happen


@dataclass(frozen=True, slots=True)
class Totals:
    """The node's counts: `refused` by code, without those that are zero."""

    connections: int
    admitted: int
    ended: int
    refused: dict[str, int]


class Tally:
    """The counts of a node with so many workers and room for `most` connections. To be made before there are workers."""

    def __init__(self, workers: int, most: int) -> None:
        self.workers = workers
        self.most = most
        self._slots = max(_FEWEST_SLOTS, 2 * most)
        rows = workers + 1
        self._rows = rows  # they begin behind one number for each process, whose sum is the epoch; the parent has the last
        self._keys = self._rows + workers * _ROW
        self._counts = self._keys + 2 * self._slots
        size = _WORD * (self._counts + workers * self._slots)
        self._lock = _lock_file() if workers > 1 else None
        self._words = memoryview(mmap.mmap(-1, size)).cast("Q")  # no page of it exists before it is written to

    def share(self, worker: int) -> Share:
        """What the worker of this number (from 0) adds to."""
        return Share(self, worker)

    @property
    def epoch(self) -> int:
        """How often the peer set was found to admit less than before; it never becomes less."""
        return sum(self._words[: self._rows])

    def begin_epoch(self, process: int | None = None) -> None:
        """The peer set admits less than before: no ticket from before is good any more. None: this is the parent."""
        self._words[self.workers if process is None else process] += 1

    @property
    def connections(self) -> int:
        """How many are open now."""
        return sum(self._words[self._rows + _CONNECTIONS : self._keys : _ROW])

    @property
    def totals(self) -> Totals:
        """Everything, over all workers that there are and were."""
        sums = [sum(self._words[self._rows + figure : self._keys : _ROW]) for figure in range(_ROW)]
        refused = {reason: sums[number] for reason, number in _REASON.items() if sums[number]}
        return Totals(sums[_CONNECTIONS], sums[_ADMITTED], sums[_ENDED], refused)

    def forget(self, worker: int) -> None:
        """This worker is dead, and so are its connections. What it has admitted and refused stays counted."""
        self._words[self._rows + worker * _ROW + _CONNECTIONS] = 0
        first = self._counts + worker * self._slots
        self._words[first : first + self._slots].cast("B")[:] = bytes(_WORD * self._slots)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else takes room meanwhile."""
        if self._lock is None:
            yield
            return
        import fcntl  # noqa: PLC0415 - Windows has none, and never more than one worker

        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)


class Share:
    """One worker's hand on the tally."""

    def __init__(self, tally: Tally, worker: int) -> None:
        self.tally = tally
        self.worker = worker
        self._words = tally._words  # noqa: SLF001 - the same thing, seen from one worker
        self._row = tally._rows + worker * _ROW  # noqa: SLF001
        self._held: dict[str, tuple[int, int]] = {}  # by name: the slot, and how many connections

    def count(self, name: str) -> int:
        """How many connections this peer has, in all workers."""
        held = self._held.get(name)  # once: a thread may ask while the loop changes it
        return self._sum(held[0] if held else self._find(*_key(name)))

    def enter(self, name: str) -> tuple[int, int]:
        """Take room for a connection of this peer; how many there are with it: in all, and of this peer.

        Who finds that too much calls `leave`. Without a place for the name the peer is said to have more than it may.
        """
        with self.tally.locked():
            self._words[self._row + _CONNECTIONS] += 1
            slot, held = self._held.get(name) or (self._place(*_key(name)), 0)
            self._held[name] = slot, held + 1
            if slot >= 0:
                self._words[self._cell(slot)] = held + 1
            return self.tally.connections, self._sum(slot) if slot >= 0 else sys.maxsize

    def leave(self, name: str) -> None:
        """A connection of this peer is over."""
        self._words[self._row + _CONNECTIONS] -= 1
        self._let_go(name)

    def rename(self, old: str, new: str) -> None:
        """A connection goes on under another name; its room is never free in between."""
        if old == new:
            return
        with self.tally.locked():
            slot, held = self._held.get(new) or (self._place(*_key(new)), 0)
            self._held[new] = slot, held + 1
            if slot >= 0:
                self._words[self._cell(slot)] = held + 1
        self._let_go(old)

    def admitted(self) -> None:
        """One more was admitted."""
        self._words[self._row + _ADMITTED] += 1

    def ended(self) -> None:
        """A connection was ended because its peer is not admitted any more."""
        self._words[self._row + _ENDED] += 1

    def refused(self, code: str) -> None:
        """One more was refused."""
        self._words[self._row + _REASON.get(code, _REASON[OTHER])] += 1

    def begin_epoch(self) -> None:
        """See Tally.begin_epoch."""
        self.tally.begin_epoch(self.worker)

    def _let_go(self, name: str) -> None:
        slot, held = self._held[name]
        if held > 1:
            self._held[name] = slot, held - 1
        else:
            del self._held[name]
        if slot >= 0:
            self._words[self._cell(slot)] = held - 1

    def _cell(self, slot: int) -> int:
        return self.tally._counts + self.worker * self.tally._slots + slot  # noqa: SLF001

    def _sum(self, slot: int) -> int:
        if slot < 0:
            return 0
        tally = self.tally
        return sum(self._words[tally._counts + slot :: tally._slots])  # noqa: SLF001

    def _find(self, high: int, low: int) -> int:
        """The slot that has this key; -1 when there is none."""
        words, keys, slots = self._words, self.tally._keys, self.tally._slots  # noqa: SLF001
        for slot in range(high % slots, high % slots + _PROBES):
            at = keys + 2 * (slot % slots)
            if not words[at]:
                return -1
            if words[at] == high and words[at + 1] == low:
                return slot % slots
        return -1

    def _place(self, high: int, low: int) -> int:
        """The slot for this key, else a free one, or that of a name without connections; -1 when all are used.

        Under the lock. The second half of the key is written first: a key that has its first half is whole.
        """
        found = self._find(high, low)
        if found >= 0:
            return found
        words, keys, slots = self._words, self.tally._keys, self.tally._slots  # noqa: SLF001
        for slot in range(high % slots, high % slots + _PROBES):
            at = keys + 2 * (slot % slots)
            if not words[at] or not self._sum(slot % slots):
                words[at + 1] = low
                words[at] = high
                return slot % slots
        return -1


def _key(name: str) -> tuple[int, int]:
    digest = blake2b(name.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little") | 1, int.from_bytes(digest[8:], "little")  # the first is never zero


def _lock_file() -> int:
    """A file without a name, to be locked."""
    make = getattr(os, "memfd_create", None)  # Linux, FreeBSD
    if make is not None:
        return int(make("peerauth-lock"))
    import tempfile  # noqa: PLC0415 - Linux does without

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())

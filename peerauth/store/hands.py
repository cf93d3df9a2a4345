"""Much of the same work, shared with forked copies of this process, for a program that has just begun.

The rules:
1. Only a process with one thread may be forked, and only a program forks: a library never does that to whoever uses it.
2. The portions are numbers in a pipe; whoever is ready takes the next one, so nobody waits for whoever is slow.
3. What a copy has found comes back through a pipe that nobody else has, whole or not at all. What does not come back,
   because a copy died or hangs, is done here.
4. No copy outlives the call, or this process.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

_MOST = 4  # processes, this one included
_PORTIONS = 256  # whose numbers are one byte each
_LEAST = 256  # in a portion
_WORTH_IT = 4000  # what is read meanwhile takes longer than a fork
_PATIENCE = 2.0  # seconds for a copy to finish its last portion and to hand over what it found; more, where all took longer
_READ = 1 << 20

Work = Callable[[Sequence[str]], dict[str, bytes]]


def processors() -> int:
    """How many processes may share work: one where this process must not be forked, or has one processor alone."""
    if sys.platform != "linux":
        return 1  # no fork, or libraries of the system that do not bear one, or nothing that says how many threads there are
    try:
        alone = len(list(Path("/proc/self/task").iterdir())) == 1
    except OSError:
        return 1
    return min(_MOST, len(os.sched_getaffinity(0))) if alone else 1


def share(work: Work, items: Sequence[str], processes: int) -> dict[str, bytes]:
    """What `work` finds in all of `items`, found by so many processes; by this one alone where there are few."""
    if processes < 2 or len(items) < _WORTH_IT:
        return work(items)
    started = time.monotonic()
    size = max(_LEAST, -(-len(items) // _PORTIONS))
    portions = [items[at : at + size] for at in range(0, len(items), size)]
    tickets, box = os.pipe()
    os.write(box, bytes(range(len(portions))))
    os.close(box)
    copies: list[_Copy] = []
    found: dict[str, bytes] = {}
    done: set[int] = set()
    try:
        with contextlib.suppress(OSError):  # no more processes, or descriptors: fewer will do
            while len(copies) < processes - 1:
                copies.append(_Copy(work, portions, tickets))
        while ticket := os.read(tickets, 1):
            found |= work(portions[ticket[0]])
            done.add(ticket[0])
        now = time.monotonic()
        until = now + max(_PATIENCE, now - started)
        for copy in copies:
            theirs, more = copy.result(until)
            done |= theirs
            found |= more
    finally:
        os.close(tickets)
        for copy in copies:
            copy.end()
    for number, portion in enumerate(portions):
        if number not in done:
            found |= work(portion)
    return found


class _Copy:
    """A forked copy of this process that takes portions until there are none left. Raises OSError."""

    def __init__(self, work: Work, portions: Sequence[Sequence[str]], tickets: int) -> None:
        parent = os.getpid()
        self._answer, theirs = os.pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a copy leaves that to whoever it is a copy of
        try:
            self._pid = os.fork()
            if self._pid == 0:
                os.close(self._answer)  # else it would be heard by itself for ever, when nobody else is there
                _be_a_copy(work, portions, tickets, theirs, parent)
        except OSError:
            os.close(self._answer)
            raise
        finally:
            os.close(theirs)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def result(self, until: float) -> tuple[set[int], dict[str, bytes]]:
        """The portions that it did and what it found; nothing where it did not end well until then."""
        poll = select.poll()
        poll.register(self._answer, select.POLLIN)
        data = bytearray()
        while poll.poll(max(0.0, until - time.monotonic()) * 1000):
            more = os.read(self._answer, _READ)
            if not more:
                break
            data += more
        try:
            done, found = marshal.loads(data)  # noqa: S302 - our own words: whoever could change them could change this process
        except (EOFError, ValueError, TypeError):  # cut off, or nothing
            return set(), {}
        return set(done), found

    def end(self) -> None:
        """See it off, whatever it does."""
        os.close(self._answer)
        # Where nobody waits for children (SIGCHLD is ignored), it may be gone already, and its number another's.
        with contextlib.suppress(OSError):
            if os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)


def _be_a_copy(work: Work, portions: Sequence[Sequence[str]], tickets: int, answer: int, parent: int) -> NoReturn:
    """Ends this process without a word: whatever goes wrong here, the other one does again."""
    try:
        done: list[int] = []
        found: dict[str, bytes] = {}
        while os.getppid() == parent and (ticket := os.read(tickets, 1)):
            found |= work(portions[ticket[0]])
            done.append(ticket[0])
        data = memoryview(marshal.dumps((done, found)))
        while data:
            data = data[os.write(answer, data) :]
    finally:
        os._exit(0)

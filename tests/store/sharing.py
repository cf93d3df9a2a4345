"""What goes on when a process shares work with copies of itself, as a program: `python -m tests.store.sharing NAME ...`.

It has one thread, which the process that runs the tests has not.
"""

from __future__ import annotations

import errno
import marshal
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from peerauth.store import hands
from peerauth.store.peerdir import PeerDirectory

ITEMS = [f"item {number}" for number in range(2 * hands._WORTH_IT)]
FIRST = os.getpid()
HANGS_S = 600.0  # longer than anybody waits


def in_copy() -> bool:
    return os.getpid() != FIRST


def says(items: Sequence[str]) -> dict[str, bytes]:
    return {item: item.encode() for item in items}


def done_by(items: Sequence[str]) -> dict[str, bytes]:
    """Who did which, at a pace at which nobody does it all."""
    time.sleep(0.005)
    return dict.fromkeys(items, str(os.getpid()).encode())


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the names alone


def nothing_is_left(before: list[str]) -> None:
    assert descriptors() == before
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return
    raise AssertionError("a copy is left")


def shared(work: hands.Work, processes: int = 3) -> dict[str, bytes]:
    """What comes of it, with nothing left behind."""
    before = descriptors()
    found = hands.share(work, ITEMS, processes)
    nothing_is_left(before)
    return found


def everybody_takes_part() -> None:
    found = shared(done_by)
    assert list(found) != []
    assert found.keys() == set(ITEMS)
    assert len(set(found.values())) == 3


def copies_die() -> None:
    def work(items: Sequence[str]) -> dict[str, bytes]:
        if in_copy():
            os.kill(os.getpid(), signal.SIGKILL)
        return says(items)

    assert shared(work) == says(ITEMS)


def copies_fail() -> None:
    def work(items: Sequence[str]) -> dict[str, bytes]:
        if in_copy():
            raise RuntimeError("nobody hears of it")
        return says(items)

    assert shared(work) == says(ITEMS)


def copies_hang() -> None:
    hands._PATIENCE = 0.1

    def work(items: Sequence[str]) -> dict[str, bytes]:
        if in_copy():
            time.sleep(HANGS_S)
        return says(items)

    assert shared(work) == says(ITEMS)


def copies_say_half() -> None:
    """One that dies while it hands over what it found."""
    whole = marshal.dumps

    def half(value: Any) -> bytes:  # noqa: ANN401 - as marshal says it
        return whole(value)[:-1]

    marshal.dumps = half  # type: ignore[assignment]
    assert shared(done_by) == dict.fromkeys(ITEMS, str(FIRST).encode())


def no_fork_can_be_had() -> None:
    def fails() -> NoReturn:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    os.fork = fails
    assert shared(says) == says(ITEMS)


def few_are_not_shared() -> None:
    def never() -> NoReturn:
        raise AssertionError("it was forked")

    os.fork = never
    assert hands.share(says, ITEMS[: hands._WORTH_IT - 1], 4) == says(ITEMS[: hands._WORTH_IT - 1])
    assert hands.share(says, ITEMS, 1) == says(ITEMS)


def interrupted() -> None:
    """As by Ctrl-C, which copies are told of as well, or not."""

    def work(_: Sequence[str]) -> dict[str, bytes]:
        if in_copy():
            time.sleep(HANGS_S)
        raise KeyboardInterrupt

    before = descriptors()
    try:
        hands.share(work, ITEMS, 3)
    except KeyboardInterrupt:
        nothing_is_left(before)
    else:
        raise AssertionError("it went on")


def nobody_waits_for_children() -> None:
    """As under a program that ignores SIGCHLD, which is inherited: those that end are gone at once."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    found = shared(done_by)
    assert found.keys() == set(ITEMS)


def killed() -> None:
    """Until it is killed; standard output ends with the last copy."""

    def work(items: Sequence[str]) -> dict[str, bytes]:
        if not in_copy():
            sys.stdout.write("here\n")
            sys.stdout.flush()
            time.sleep(HANGS_S)
        time.sleep(0.005)
        return says(items)

    hands.share(work, ITEMS, 3)


def killed_late() -> None:
    """The same, when the copies hand over more than a pipe holds, and nobody takes it."""

    def work(items: Sequence[str]) -> dict[str, bytes]:
        if not in_copy():
            time.sleep(HANGS_S)
        return says(items)

    whole = marshal.dumps

    def much(value: Any) -> bytes:  # noqa: ANN401 - as marshal says it
        os.write(1, b"here\n")
        return whole(value) + bytes(1 << 20)

    marshal.dumps = much  # type: ignore[assignment]
    hands.share(work, ITEMS, 3)


def threads() -> None:
    os.sched_getaffinity = lambda _: set(range(8))
    assert hands.processors() == hands._MOST
    os.sched_getaffinity = lambda _: {0}
    assert hands.processors() == 1
    os.sched_getaffinity = lambda _: set(range(8))
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    assert hands.processors() == 1
    end.set()
    other.join()


def peers(place: str) -> None:
    """A directory with everything in it is read the same by several as by one."""
    hands._WORTH_IT = 10
    hands._LEAST = 5
    alone, together = PeerDirectory(Path(place)), PeerDirectory(Path(place))
    alone.refresh()
    together.refresh(processes=3)
    assert together.current == alone.current
    assert together.problems == alone.problems
    assert dict(together._snapshot.records) == dict(alone._snapshot.records)
    assert together.count == alone.count


SCENES: dict[str, Callable[..., None]] = {
    scene.__name__: scene
    for scene in (
        everybody_takes_part,
        copies_die,
        copies_fail,
        copies_hang,
        copies_say_half,
        no_fork_can_be_had,
        few_are_not_shared,
        interrupted,
        nobody_waits_for_children,
        killed,
        killed_late,
        threads,
        peers,
    )
}

if __name__ == "__main__":
    SCENES[sys.argv[1]](*sys.argv[2:])

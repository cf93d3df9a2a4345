"""Processes that race for room, or are killed while they take it. Run as a program: race | killed; prints `well`."""

from __future__ import annotations

import mmap
import os
import signal
import sys
import time

from peerauth.server.tally import Tally

WORKERS = 4
LIMIT = 2
SECONDS = 1.0


def compete(tally: Tally, worker: int, holders: mmap.mmap, until: float) -> None:
    """Come and go until the time is over; exits with 1 when there was ever one too many, with 2 if nobody got in."""
    share = tally.share(worker)
    got_in = False
    while time.monotonic() < until:
        in_all, of_alice = share.enter("alice")
        if max(in_all, of_alice) <= LIMIT:
            got_in = True
            holders[worker] = 1
            if sum(holders[:WORKERS]) > LIMIT:
                os._exit(1)
            holders[worker] = 0
        share.leave("alice")
    os._exit(0 if got_in else 2)


def race() -> None:
    tally, holders = Tally(WORKERS, 100), mmap.mmap(-1, WORKERS)
    until = time.monotonic() + SECONDS
    children = []
    for worker in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            try:
                compete(tally, worker, holders, until)
            finally:
                os._exit(3)
        children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert codes == [0] * WORKERS, codes
    assert tally.connections == 0


def killed() -> None:
    tally = Tally(2, 10)
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with tally.locked():
                os.write(told, b"x")
                time.sleep(60)
        finally:
            os._exit(1)
    assert os.read(ready, 1) == b"x"
    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    started = time.monotonic()
    assert tally.share(0).enter("alice") == (1, 1)
    assert time.monotonic() - started > 0.1, "the lock was not held"
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


if __name__ == "__main__":
    {"race": race, "killed": killed}[sys.argv[1]]()
    print("well")  # noqa: T201 - a program

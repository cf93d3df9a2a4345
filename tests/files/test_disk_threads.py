"""Threads that wait for disks: as many as there may be, and nobody waits for them."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from peerauth.services.disk_threads import DiskThreads
from tests.cli.running import DEADLINE_S, environment

HANGING = """
import threading
from peerauth.services.disk_threads import DiskThreads
threads, begun = DiskThreads(2), threading.Event()
threads.submit(lambda: (begun.set(), threading.Event().wait()))
begun.wait()
threads.shutdown()
"""


def test_work_is_done_by_so_many_threads_and_its_result_or_error_comes_back() -> None:
    threads, meeting = DiskThreads(3), threading.Barrier(3)
    try:
        done = [threads.submit(meeting.wait, DEADLINE_S) for _ in range(6)]  # three at a time, or they never meet
        assert sorted(future.result(DEADLINE_S) for future in done) == [0, 0, 1, 1, 2, 2]
        assert isinstance(threads.submit(int, "x").exception(DEADLINE_S), ValueError)
        assert threads.submit(int, "7").result(DEADLINE_S) == 7
    finally:
        threads.shutdown()


def test_what_nobody_has_begun_at_the_end_is_dropped_and_nothing_more_is_taken() -> None:
    threads, begun, hanging = DiskThreads(1), threading.Event(), threading.Event()

    def hang() -> bool:
        begun.set()
        return hanging.wait(DEADLINE_S)

    first, second = threads.submit(hang), threads.submit(hang)
    assert begun.wait(DEADLINE_S)
    threads.shutdown()
    assert second.cancelled()
    with pytest.raises(RuntimeError):
        threads.submit(hang)
    hanging.set()
    assert first.result(DEADLINE_S) is True


def test_a_process_ends_although_a_disk_hangs() -> None:
    subprocess.run([sys.executable, "-c", HANGING], env=environment(), timeout=DEADLINE_S, check=True)

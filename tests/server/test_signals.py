"""Signals that come before anybody hears them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from peerauth.server.signals import Kept, heard
from tests.support.engine import Caller, identity
from tests.support.workers import Home, ping, serving, with_patch


def test_what_came_is_sent_again_when_somebody_hears_it() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    try:
        kept = Kept(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        assert kept.came
        with heard(signal.SIGUSR1) as (wake, _):
            assert wake.recv(8) == bytes([signal.SIGUSR1])
        Kept(signal.SIGUSR1)
        with heard(signal.SIGUSR1) as (wake, _), pytest.raises(BlockingIOError):
            wake.recv(8)
    finally:
        signal.signal(signal.SIGUSR1, before)


TOLD_EARLY = """
import os, signal
from peerauth.cli import serving
load = serving.load_peers
def told(*words):
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGUSR1)
    return load(*words)
serving.load_peers = told
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_program_is_told_while_it_begins_does_not_end_it_and_is_done_later(tmp_path: Path, workers: int) -> None:
    home = Home(tmp_path)
    home.pin("alice")
    with (
        serving(home, workers=workers, program=with_patch(TOLD_EARLY)) as node,
        Caller(identity("alice")).open(node.port) as tls,
    ):
        ping(tls)
        node.hears("status")

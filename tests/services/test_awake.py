"""Staying awake after a small message: for a moment, while nobody else wants the processor, and as long as it pays."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peerauth.services.awake import IN_A_ROW, MOMENT, PASSES, TRIES, Awake
from peerauth.services.flow import Flow
from peerauth.tls.scratch import SIZE, Scratch
from peerauth.tls.session import RECORD
from tests.services.test_flow import Owner, Scripted
from tests.support.engine import Caller, Yard, on_loops, running
from tests.support.targets import echo, target


class Bed:
    """A loop, its processor and its clock, turned by hand."""

    def __init__(self) -> None:
        self.calls: deque[Callable[[], None]] = deque()
        self.time = 0.0
        self.alone = True
        self.awake = Awake(self.calls.append, lambda: self.alone, lambda: self.time)

    def speaks(self, whose: int = 1, times: int = 1) -> None:
        """Small messages of one connection pass."""
        for _ in range(times):
            self.awake.stay(whose)

    def alone_for_long(self) -> Bed:
        """One connection has talked, and no other, for as long as it takes."""
        self.speaks(times=IN_A_ROW + 1)
        assert not self.calls
        return self

    def turn(self) -> None:
        """One turn of the loop: what was to be called before it."""
        for _ in range(len(self.calls)):
            self.calls.popleft()()

    def in_vain(self) -> None:
        """A message passes, and no other follows."""
        self.speaks()
        self.time += 2 * MOMENT
        self.turn()


def test_it_looks_for_a_moment_and_then_sleeps() -> None:
    bed = Bed().alone_for_long()
    bed.speaks()
    for _ in range(5):
        bed.turn()
        assert len(bed.calls) == 1, "the loop would sleep"
    bed.time = MOMENT * 1.01
    bed.turn()
    assert not bed.calls


def test_each_message_makes_the_moment_begin_anew_and_only_one_looks() -> None:
    bed = Bed().alone_for_long()
    for _ in range(10):
        bed.speaks()
        bed.time += MOMENT * 0.9
        bed.turn()
        assert len(bed.calls) == 1
    bed.time += MOMENT
    bed.turn()
    assert not bed.calls


def test_it_sleeps_while_others_want_the_processor() -> None:
    bed = Bed().alone_for_long()
    bed.alone = False
    bed.speaks()
    assert not bed.calls
    bed.alone = True
    bed.speaks()
    bed.alone = False  # somebody comes while it looks
    bed.turn()
    assert not bed.calls


def test_what_does_not_pay_is_left_for_a_while() -> None:
    bed = Bed().alone_for_long()
    for _ in range(TRIES):
        bed.speaks()
        assert bed.calls
        bed.time += 2 * MOMENT
        bed.turn()
    for _ in range(PASSES):
        bed.speaks()
        assert not bed.calls
    bed.speaks()
    assert bed.calls, "it is tried again"


def test_what_pays_every_other_time_goes_on() -> None:
    bed = Bed().alone_for_long()
    for _ in range(10 * TRIES):
        bed.speaks()
        assert bed.calls
        bed.in_vain()
        assert not bed.calls


def test_it_sleeps_while_several_talk() -> None:
    bed = Bed()
    for _ in range(100):
        bed.speaks(1, IN_A_ROW)
        bed.speaks(2, IN_A_ROW)
    assert not bed.calls
    bed.speaks(2, 2)
    assert bed.calls
    bed.turn()
    assert bed.calls
    bed.speaks(1)  # another begins while it looks
    bed.turn()
    assert not bed.calls


def test_large_messages_of_a_flow_are_no_reason() -> None:
    told: list[tuple[int, int]] = []
    sizes = [5, RECORD, SIZE, RECORD - 1]
    source, owner = Scripted([(bytes(size), None) for size in sizes]), Owner()
    flow = Flow(owner, Scratch(), source, Scripted(), lambda whose: told.append((whose, len(source.says))))
    flow.start()
    while source.says:
        assert source.readable is not None
        source.readable()
    assert told == [(id(owner), 3), (id(owner), 0)]


@on_loops()
async def test_relay_in_conversation_stays_awake_and_one_at_rest_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard = Yard(tmp_path / "peers")
    caller = Caller(yard.pin("alice"))
    looks = [0]
    original = Awake._look

    def look(self: Awake) -> None:
        looks[0] += 1
        original(self)

    monkeypatch.setattr(Awake, "_look", look)
    monkeypatch.setattr("peerauth.server.server.os.cpu_count", lambda: 2)

    def talk(tls: Any) -> None:  # noqa: ANN401 - an SSLSocket
        for _ in range(20):
            tls.sendall(b"ping")
            assert tls.recv(4) == b"ping"

    with target(echo) as where:
        async with running(yard, target=where) as node:
            tls: socket.socket = await asyncio.to_thread(caller.open, node.port)
            await asyncio.to_thread(talk, tls)
            assert looks[0] > 0
            await node.until(lambda: not node.server._shared.awake._looking)
            seen = looks[0]
            for _ in range(5):
                await asyncio.sleep(0)
            assert looks[0] == seen
            tls.close()

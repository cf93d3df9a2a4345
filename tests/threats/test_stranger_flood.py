"""Threat: a flood of strangers, each with a whole handshake, so that honest peers wait."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time

from peerauth.server.crew import Crew
from tests.support.dropin import mint
from tests.support.engine import Caller, Yard, on_loops, running

FAST_S = 2.0
STRANGERS = 50


@on_loops("uvloop")
async def test_honest_peer_comes_in_while_strangers_storm(yard: Yard) -> None:
    caller, stranger = Caller(yard.pin("alice")), Caller(mint("stranger"))
    storm, refusals = threading.Event(), []

    def knock(port: int) -> None:
        while not storm.is_set():
            refusals.append(stranger.hear(port, source="127.0.0.2"))

    async with running(yard) as node:
        threads = [threading.Thread(target=knock, args=(node.port,)) for _ in range(STRANGERS)]
        for thread in threads:
            thread.start()
        try:
            await node.until(lambda: len(refusals) > STRANGERS)
            took = []
            for _ in range(7):
                started = time.monotonic()
                assert await asyncio.to_thread(caller.hear, node.port) == "hello alice"
                took.append(time.monotonic() - started)
        finally:
            storm.set()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert statistics.median(took) < FAST_S
        assert set(refusals) <= {"TLSV1_ALERT_UNKNOWN_CA", "cut"}
        assert len(node.told("admitted")) == 7
        assert len(node.told("refused")) < 60


def void(_: object) -> None:
    """A job returns nothing."""


def test_whoever_floods_waits_behind_itself() -> None:
    """A hundred handshakes of one source are waiting when another's comes: it is served next but one."""
    crew, gate, order, done = Crew(1, 1000), threading.Event(), [], threading.Event()
    crew.submit("flood", lambda: void(gate.wait(10)), lambda: None)
    for number in range(100):
        crew.submit("flood", lambda number=number: order.append(f"flood {number}"), lambda: None)  # type: ignore[misc]
    crew.submit("honest", lambda: order.append("honest"), lambda: None)
    crew.submit("flood", done.set, lambda: None)
    gate.set()
    assert done.wait(10)
    assert order.index("honest") <= 1
    assert [one for one in order if one != "honest"] == [f"flood {number}" for number in range(100)]
    crew.close()


def test_source_that_has_too_many_waiting_loses_its_own() -> None:
    crew, gate, done = Crew(1, 10), threading.Event(), threading.Event()
    dropped: list[str] = []
    started = threading.Event()

    def block() -> None:
        started.set()
        gate.wait(10)

    crew.submit("first", block, lambda: None)
    assert started.wait(10)
    crew.submit("honest", done.set, lambda: dropped.append("honest"))
    ran: list[int] = []
    for number in range(50):
        crew.submit("flood", lambda number=number: ran.append(number), lambda: dropped.append("flood"))  # type: ignore[misc]
    assert dropped == ["flood"] * 40
    gate.set()
    assert done.wait(10)
    last = threading.Event()
    crew.submit("flood", last.set, lambda: None)
    assert last.wait(10)
    assert len(ran) == 10
    crew.close()

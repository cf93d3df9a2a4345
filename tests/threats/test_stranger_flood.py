"""Threat: a flood of strangers, each with a whole handshake, so that honest peers wait."""

from __future__ import annotations

import asyncio
import socket
import statistics
import threading
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, cast

from peerauth.server.arrivals import Arrival, TurnedAway
from peerauth.server.porch import Porch
from peerauth.tls.session import Session, Wait
from tests.support.dropin import mint
from tests.support.engine import Caller, Gate, Yard, on_loops, running

if TYPE_CHECKING:
    from peerauth.server.listener import Listener

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


class Door:
    """A door without TLS: whoever is served is noted and let go."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.served: list[str] = []
        self.turned_away: list[str] = []
        self.gone = threading.Semaphore(0)

    def new_session(self, arrival: Arrival) -> Session:
        self.served.append(arrival.shown)
        return cast("Session", self)

    def handshake(self) -> Wait:
        return Wait.NOTHING

    def tell(self, finished: list[tuple[Arrival, Exception | None]]) -> None:
        for arrival, error in finished:
            if isinstance(error, TurnedAway):
                self.turned_away.append(arrival.shown)
            arrival.sock.close()
            self.gone.release()


def serve(flood: int, per_source: int) -> Door:
    """What comes of it when so many of one source are ready, and then one of another."""
    door, far = Door(), []
    porch = Porch(1000, 30.0, door.tell)
    porter = porch.next_porter()
    porter._ready._per_source = per_source
    gate = Gate(porter)
    gate.close()
    for source in ["192.0.2.1"] * flood + ["192.0.2.2"]:
        near, other = socket.socketpair()
        other.send(b"hello")
        far.append(other)
        arrival = Arrival(cast("Listener", door), near, ip_address(source), source, source, time.monotonic() + 30)
        porter.call(lambda arrival=arrival: porter.take_in(arrival))  # type: ignore[misc]
    gate.open()
    for _ in range(flood + 1):
        assert door.gone.acquire(timeout=20)
    porch.close()
    for sock in far:
        sock.close()
    return door


def test_whoever_floods_waits_behind_itself() -> None:
    """A hundred handshakes of one source are waiting when another's comes: it is served next but one."""
    door = serve(100, 1000)
    assert door.served.index("192.0.2.2") <= 1
    assert len(door.served) == 101
    assert door.turned_away == []


def test_source_that_has_too_many_waiting_loses_its_own() -> None:
    door = serve(50, 10)
    assert door.turned_away == ["192.0.2.1"] * 40
    assert sorted(door.served) == ["192.0.2.1"] * 10 + ["192.0.2.2"]

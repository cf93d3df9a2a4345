"""What a relay does for a byte, counted in calls rather than seconds: a guard of its speed that no busy machine disturbs."""

from __future__ import annotations

import asyncio
import collections
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peerauth.services import ends
from peerauth.tls import scratch
from peerauth.tls.session import RECORD, Session
from tests.support.dropin import mint
from tests.support.engine import Caller, Yard, on_loops, running
from tests.support.targets import echo, target

MESSAGES = 200
MUCH = 8 << 20


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """An empty peers directory."""
    return Yard(tmp_path / "peers")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> collections.Counter[str]:
    """How often each of these was called."""
    counted: collections.Counter[str] = collections.Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def count(*values: Any) -> Any:  # noqa: ANN401 - as the original
            counted[name] += 1
            return function(*values)

        return count

    for name in ("ssl_read", "ssl_write", "ssl_get_error"):
        monkeypatch.setattr(scratch, name, counting(name, getattr(scratch, name)))
    monkeypatch.setattr(ends.Plain, "fill", counting("recv", ends.Plain.fill))
    monkeypatch.setattr(ends.Plain, "put", counting("send", ends.Plain.put))
    return counted


def ping_pong(tls: ssl.SSLSocket) -> None:
    """Messages there and back, one after the other."""
    for number in range(MESSAGES):
        message = number.to_bytes(4) * 25
        tls.sendall(message)
        heard = b""
        while len(heard) < 100:
            heard += tls.recv(100 - len(heard))
        assert heard == message


@on_loops()
async def test_small_message_costs_one_call_of_each_kind(yard: Yard, calls: collections.Counter[str]) -> None:
    caller = Caller(yard.pin("alice"))
    with target(echo) as where:
        async with running(yard, target=where) as node:
            tls = await asyncio.to_thread(caller.open, node.port)
            await asyncio.to_thread(ping_pong, tls)
            tls.close()
    for name in ("ssl_read", "send", "recv", "ssl_write"):
        assert MESSAGES <= calls[name] <= MESSAGES * 1.05 + 5, name
    assert calls["ssl_get_error"] < MESSAGES * 0.05 + 5, "there is a second try after a short record"


@on_loops()
async def test_bulk_upwards_gathers_records_before_it_sends(yard: Yard, calls: collections.Counter[str]) -> None:
    caller = Caller(yard.pin("alice"))
    heard = []

    def take(sock: socket.socket) -> None:
        size = 0
        while data := sock.recv(1 << 20):
            size += len(data)
        heard.append(size)

    def push(tls: ssl.SSLSocket) -> None:
        for _ in range(MUCH // (1 << 20)):
            tls.sendall(bytes(1 << 20))
        tls.unwrap().close()

    with target(take) as where:
        async with running(yard, target=where) as node:
            tls = await asyncio.to_thread(caller.open, node.port)
            pushing = asyncio.ensure_future(asyncio.to_thread(push, tls))
            await node.until(lambda: bool(heard))
            await pushing
    assert heard == [MUCH]
    records = MUCH // RECORD
    assert records <= calls["ssl_read"] <= records * 2.2
    assert calls["send"] < records, "each record is sent by itself"


@on_loops()
async def test_bulk_downwards_is_one_write_for_many_records(yard: Yard, calls: collections.Counter[str]) -> None:
    caller = Caller(yard.pin("alice"))

    def read(tls: ssl.SSLSocket) -> int:
        size = 0
        while data := tls.recv(1 << 20):
            size += len(data)
        return size

    with target(lambda sock: sock.sendall(bytes(MUCH))) as where:
        async with running(yard, target=where) as node:
            tls = await asyncio.to_thread(caller.open, node.port)
            reading = asyncio.ensure_future(asyncio.to_thread(read, tls))
            assert await reading == MUCH
            tls.close()
    assert calls["ssl_write"] < MUCH // RECORD, "each record is written by a call of its own"


@on_loops("uvloop")
async def test_loop_hears_of_a_handshake_once_and_of_a_strangers_too(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    caller, stranger = Caller(yard.pin("alice")), Caller(mint("stranger"))
    steps: collections.Counter[str] = collections.Counter()
    original = Session.handshake

    def handshake(self: Session) -> object:
        steps["handshake"] += 1
        return original(self)

    monkeypatch.setattr(Session, "handshake", handshake)
    async with running(yard) as node:
        door = node.server.doors.listeners[0]
        arrived = door.arrived

        def noted(*values: Any) -> None:  # noqa: ANN401 - as the original
            steps["loop"] += 1
            arrived(*values)

        door.arrived = noted  # type: ignore[assignment, method-assign]
        for one in (caller, stranger):
            steps.clear()
            await asyncio.to_thread(one.hear, node.port)
            await node.until(lambda: steps["loop"] > 0)
            assert node.arrivals == 0
            assert steps["loop"] == 1
            assert 1 <= steps["handshake"] <= 4


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux only")
@on_loops("uvloop")
async def test_handshakes_do_not_interrupt_the_loop(yard: Yard) -> None:
    """By the scheduler's rules; and several of them are handed over together, which is told by nothing else."""
    async with running(yard) as node:
        for porter in node.server._porch._porters:
            await asyncio.to_thread(porter.call_and_wait, lambda: None)
            assert porter.native_id is not None
            assert os.sched_getscheduler(porter.native_id) == os.SCHED_BATCH
        assert os.sched_getscheduler(0) == os.SCHED_OTHER


@on_loops("uvloop")
async def test_porter_that_fails_goes_on(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it was: a door without its porter would be shut. And it is said a few times, not each time."""
    caller = Caller(yard.pin("alice"))

    def fail() -> None:
        raise RuntimeError("no")

    async with running(yard) as node:
        for porter in node.server._porch._porters:
            for _ in range(8):
                porter.call(fail)
        assert await asyncio.to_thread(caller.hear, node.port) == "hello alice"
        count = len(node.server._porch._porters)
    assert 1 <= len([record for record in caplog.records if "a porter failed" in record.message]) <= 4 * count

"""A relay with several targets, some of which are down, hang, or come and go."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.net import reach
from peerauth.services import targets as reached
from peerauth.services import upstreams
from tests.support.engine import Caller, Yard, hear_line, on_loops, running
from tests.support.targets import target, unused_port
from tests.support.workers import Home, serving


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """An empty peers directory."""
    return Yard(tmp_path / "peers")


def says(name: bytes) -> Callable[[socket.socket], object]:
    """A program that says its name."""
    return lambda sock: sock.sendall(name + b"\n")


@contextlib.contextmanager
def named(*names: bytes) -> Iterator[tuple[Address, ...]]:
    """Programs that say their names."""
    with contextlib.ExitStack() as stack:
        yield tuple(stack.enter_context(target(says(name))) for name in names)


def down() -> Address:
    """An address of this machine at which nothing listens."""
    return Address("127.0.0.1", unused_port())


@contextlib.contextmanager
def hanging() -> Iterator[Address]:
    """An address at which no connection is ever made: a listener whose queue is full."""
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield Address("127.0.0.1", full.getsockname()[1])


def hear(caller: Caller, port: int) -> str:
    """What the target says, or "" where the connection broke."""
    with contextlib.suppress(OSError):
        tls = caller.open(port)
        with contextlib.closing(tls):
            return hear_line(tls)
    return ""


@on_loops()
async def test_targets_have_connections_in_turn(yard: Yard) -> None:
    caller = Caller(yard.pin("alice"))
    with named(b"one", b"two", b"three") as targets:
        async with running(yard, target=targets) as node:
            heard = [await asyncio.to_thread(hear, caller, node.port) for _ in range(6)]
            assert node.told("target-down") == []
    assert heard == ["one", "two", "three"] * 2


@on_loops()
async def test_no_connection_is_lost_to_a_target_that_is_down_and_it_is_said_once(yard: Yard) -> None:
    caller = Caller(yard.pin("alice"))
    with named(b"one") as (one,):
        gone = down()
        async with running(yard, target=(gone, one)) as node:
            heard = [await asyncio.to_thread(hear, caller, node.port) for _ in range(4)]
            (said,) = node.told("target-down")
    assert heard == ["one"] * 4
    assert said.message == f"the target {gone} cannot be reached: Connection refused"


@on_loops("uvloop")
async def test_target_that_is_back_is_found_without_being_told(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstreams, "FIRST_PAUSE_S", 0.05)
    caller = Caller(yard.pin("alice"))
    with named(b"one") as (one,):
        gone = down()
        async with running(yard, target=(gone, one)) as node:
            assert [await asyncio.to_thread(hear, caller, node.port) for _ in range(2)] == ["one", "one"]
            with socket.create_server(("127.0.0.1", gone.port)) as again:
                again.setblocking(False)
                give_up = time.monotonic() + 10
                while not node.told("target-up"):
                    assert time.monotonic() < give_up
                    calling = asyncio.create_task(asyncio.to_thread(hear, caller, node.port))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.2):
                            back, _ = await asyncio.get_running_loop().sock_accept(again)
                            back.close()
                    await calling
            (said,) = node.told("target-up")
    assert said.message == f"the target {gone} can be reached again"


@on_loops("uvloop")
async def test_target_that_comes_and_goes_costs_no_connection(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstreams, "FIRST_PAUSE_S", 0.0)
    caller = Caller(yard.pin("alice"))
    heard = []
    with named(b"one") as (one,):
        flaps = down()
        async with running(yard, target=(flaps, one)) as node:
            for number in range(12):
                there = number % 4 < 2
                with socket.create_server(("127.0.0.1", flaps.port)) if there else contextlib.nullcontext() as now:
                    calling = asyncio.create_task(asyncio.to_thread(hear, caller, node.port))
                    if now is not None:
                        now.setblocking(False)
                        taking = asyncio.ensure_future(asyncio.get_running_loop().sock_accept(now))
                        await asyncio.wait({calling, taking}, return_when=asyncio.FIRST_COMPLETED)
                        if taking.done():
                            with taking.result()[0] as back:
                                back.sendall(b"two\n")
                        taking.cancel()
                    heard.append(await calling)
            downs, ups = len(node.told("target-down")), len(node.told("target-up"))
    assert set(heard) == {"one", "two"}, heard
    assert 1 <= downs - ups + 1 <= 2
    assert downs >= 2, "it was back and gone again"


@on_loops("uvloop")
async def test_target_that_hangs_gets_its_share_of_the_time_and_once(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reached, "CONNECT_TIMEOUT", 0.6)
    monkeypatch.setattr(upstreams, "FIRST_PAUSE_S", 60.0)
    caller = Caller(yard.pin("alice"))
    tried: list[Address] = []

    async def noted(loop: asyncio.AbstractEventLoop, address: Address) -> socket.socket:
        tried.append(address)
        return await reach.reach(loop, address)

    monkeypatch.setattr(reached, "reach", noted)
    with named(b"one") as (one,), hanging() as hangs:
        async with running(yard, target=(hangs, one)) as node:
            began = time.monotonic()
            heard = [await asyncio.to_thread(hear, caller, node.port) for _ in range(4)]
            assert time.monotonic() - began >= 0.3
            (said,) = node.told("target-down")
    assert heard == ["one"] * 4
    assert said.message.endswith("no answer in time")
    assert tried.count(hangs) == 1, "who comes later does not wait for it"


@on_loops("uvloop")
async def test_all_down_ends_the_connection_within_the_time_of_one(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reached, "CONNECT_TIMEOUT", 0.5)
    caller = Caller(yard.pin("alice"))
    gone = down()
    with hanging() as hangs:
        async with running(yard, target=(hangs, gone)) as node:
            began = time.monotonic()
            assert await asyncio.to_thread(hear, caller, node.port) == ""
            assert time.monotonic() - began < 5
            said = [event.message for event in node.told("target-down")]
            await node.until(lambda: len(node.server.live) == 0)
    assert said[-1] == f"none of the 2 targets can be reached; of {gone}: Connection refused"


@on_loops("uvloop")
async def test_peer_that_is_removed_while_a_target_is_dialled_is_gone_at_once(yard: Yard) -> None:
    caller = Caller(yard.pin("alice"))
    with hanging() as hangs, hanging() as too:
        async with running(yard, target=(hangs, too)) as node:
            tls = await asyncio.to_thread(caller.open, node.port)
            await node.hears("admitted")
            yard.unpin("alice")
            await node.hears("ended", peer="alice")
            assert len(node.server.live) == 0
            tls.close()


@on_loops()
async def test_unix_target_whose_queue_is_full_is_waited_for(yard: Yard, tmp_path: Path) -> None:
    """A full queue of a Unix socket refuses at once, where TCP would wait: that must not look like a connection."""
    caller = Caller(yard.pin("alice"))
    path = str(tmp_path / "full.sock")
    with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as stack:
        listening.bind(path)
        listening.listen(0)
        while True:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            if waiting.connect_ex(path):
                break
        assert reach.connected_at_once(Address(path=path)) is None

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listening.accept()
                    with sock, contextlib.suppress(OSError):
                        sock.sendall(b"at last\n")

        async with running(yard, target=Address(path=path)) as node:
            calling = asyncio.create_task(asyncio.to_thread(hear, caller, node.port))
            await node.hears("admitted")
            answering = asyncio.create_task(asyncio.to_thread(answer))
            assert await calling == "at last"
            assert node.told("target-down") == []
            listening.shutdown(socket.SHUT_RDWR)
            await answering


def test_each_worker_takes_turns_and_leaves_out_who_is_down(tmp_path: Path) -> None:
    home = Home(tmp_path)
    caller = Caller(home.pin("alice"))
    with named(b"one", b"two") as targets:
        words = [word for one in (*targets, down()) for word in ("--target", str(one))]
        with serving(home, *words, workers=2, relay=False) as node:
            heard = [hear(caller, node.port) for _ in range(12)]
            assert set(heard) == {"one", "two"}
            node.send(signal.SIGTERM)
            assert node.wait() == 0

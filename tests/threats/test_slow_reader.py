"""Threat: a side that does not read, so that what is meant for it piles up in memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import resource
import socket
import ssl
import threading

import pytest

from peerauth.address import Address
from peerauth.net import reach
from peerauth.server.server import Server
from peerauth.services import targets
from peerauth.services.relay import Relay
from tests.support.engine import Caller, Running, Yard, on_loops, running
from tests.support.targets import target

MUCH = 64 << 20
BOUND = 2 << 20  # far more than the high-water marks, far less than what is sent


def buffered(server: Server) -> int:
    """What this process holds of every connection, on both of its sides."""
    return sum(one.waiting for one in server.live.everyone() if isinstance(one, Relay))


def push(sock: socket.socket, amount: int = MUCH) -> int:
    """Write until it is taken, or until nothing goes for a while; how much went."""
    sock.settimeout(0.7)
    sent, piece = 0, bytes(1 << 18)
    with contextlib.suppress(TimeoutError, ssl.SSLError):
        while sent < amount:
            sock.sendall(piece)
            sent += len(piece)
    return sent


async def highest(node: Running, work: asyncio.Future[int]) -> int:
    most = 0
    while not work.done():
        most = max(most, buffered(node.server))
        await asyncio.sleep(0.005)
    return max(most, buffered(node.server))


@on_loops()
async def test_nothing_is_read_before_the_target_is_reached(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    caller, enough, reached = Caller(yard.pin("alice")), threading.Event(), asyncio.Event()

    async def late(loop: asyncio.AbstractEventLoop, where: Address) -> socket.socket:
        await reached.wait()
        sock = await reach.reach(loop, where)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return sock

    monkeypatch.setattr(targets, "reach", late)
    monkeypatch.setattr(targets, "connected_at_once", lambda _: None)
    with target(lambda _: enough.wait(30), window=4096) as where:
        async with running(yard, target=where) as node:
            tls = await asyncio.to_thread(caller.open, node.port)
            work = asyncio.ensure_future(asyncio.to_thread(push, tls))
            await node.hears("admitted")
            assert buffered(node.server) == 0
            reached.set()
            await node.until(lambda: buffered(node.server) > 0)
            assert await highest(node, work) < BOUND
            assert await work < MUCH
            enough.set()
            tls.close()


@on_loops()
async def test_target_that_does_not_read_stops_the_peer(yard: Yard) -> None:
    caller, enough = Caller(yard.pin("alice")), threading.Event()
    with target(lambda _: enough.wait(30)) as where:
        async with running(yard, target=where) as node:
            tls = await asyncio.to_thread(caller.open, node.port)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            work = asyncio.ensure_future(asyncio.to_thread(push, tls))
            assert await highest(node, work) < BOUND
            assert await work < MUCH
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MUCH // 1024 // 2
            enough.set()
            tls.close()


@on_loops()
async def test_peer_that_does_not_read_stops_the_target(yard: Yard) -> None:
    caller, pushed = Caller(yard.pin("alice")), []
    with target(lambda sock: pushed.append(push(sock))) as where:
        async with running(yard, target=where) as node:
            tls = await asyncio.to_thread(caller.open, node.port)

            async def wait() -> int:
                await node.until(lambda: bool(pushed))
                return pushed[0]

            assert await highest(node, asyncio.ensure_future(wait())) < BOUND
            assert pushed[0] < MUCH
            tls.close()


@on_loops()
@pytest.mark.parametrize("slow_side", ["peer", "target"])
async def test_reader_that_wakes_up_gets_every_byte(yard: Yard, slow_side: str) -> None:
    """The brake is let go again: the twin of the tests above."""
    caller, awake = Caller(yard.pin("alice")), threading.Event()
    data = bytes(range(256)) * (48 << 10)
    results: list[str] = []

    def send(sock: socket.socket) -> None:
        sock.sendall(data)
        if isinstance(sock, ssl.SSLSocket):
            with contextlib.suppress(OSError):
                sock.unwrap()
        else:
            sock.shutdown(socket.SHUT_WR)

    def read(sock: socket.socket) -> None:
        awake.wait(20)
        heard = hashlib.sha256()
        while piece := sock.recv(65536):
            heard.update(piece)
        results.append(heard.hexdigest())

    there, here = (send, read) if slow_side == "peer" else (read, send)
    with target(there) as where:
        async with running(yard, target=where) as node:
            tls = await asyncio.to_thread(caller.open, node.port)
            work = asyncio.ensure_future(asyncio.to_thread(here, tls))
            await node.until(lambda: buffered(node.server) > 0)
            awake.set()
            await work
            await node.until(lambda: bool(results))
            assert results == [hashlib.sha256(data).hexdigest()]
            tls.close()

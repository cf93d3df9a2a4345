"""`connect`: standard input and output, and a local port, through a pinned connection to a relay."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from peerauth.address import Address
from peerauth.client.dial import Dialer
from peerauth.client.pipe import pipe
from peerauth.client.target import Target
from peerauth.client.tunnel import tunnel
from peerauth.errors import ConnectFailed, PeerAuthError, TrustRefused
from peerauth.net.sockets import open_listeners
from tests.support.dropin import DEADLINE_S, mint
from tests.support.engine import Running, Yard, on_loops, running
from tests.support.targets import echo, everything, target, unused_port

DATA = bytes(range(256)) * 20_000


@contextlib.contextmanager
def pipes() -> Iterator[tuple[int, int, int, int]]:
    """(our input's reading end, its writing end, our output's reading end, its writing end)."""
    ends = (*os.pipe(), *os.pipe())
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def to(dialer: Dialer, port: int) -> Target:
    return Target(dialer.peers().peers["node"], Address("127.0.0.1", port))


def feed(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def drain(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


@on_loops()
async def test_pipe_carries_everything_both_ways_and_ends_when_both_have(yard: Yard, dialer: Dialer) -> None:
    yard.pin("alice")
    with target(lambda sock: sock.sendall(hashlib.sha256(everything(sock)).digest() + DATA)) as where, pipes() as ends:
        async with running(yard, target=where) as node:
            feeding = asyncio.ensure_future(asyncio.to_thread(feed, ends[1], DATA))
            draining = asyncio.ensure_future(asyncio.to_thread(drain, ends[2]))
            await pipe(dialer, to(dialer, node.port), ends[0], ends[3])
            os.close(ends[3])
            await feeding
            assert await draining == hashlib.sha256(DATA).digest() + DATA


@on_loops("uvloop")
async def test_pipe_that_is_refused_says_so_although_the_handshake_went_well(yard: Yard, dialer: Dialer) -> None:
    yard.pin("alice")
    stranger = Dialer.of(mint("stranger"), "stranger", dialer.peers)
    async with running(yard) as node:
        with pipes() as ends, pytest.raises(TrustRefused, match="not pinned there"):
            await pipe(stranger, to(dialer, node.port), ends[0], ends[3])


@on_loops("uvloop")
async def test_pipe_that_breaks_is_no_orderly_end(yard: Yard, dialer: Dialer) -> None:
    yard.pin("alice")
    async with running(yard) as node:
        with pipes() as ends:
            work = asyncio.ensure_future(pipe(dialer, to(dialer, node.port), ends[0], ends[3]))
            assert await asyncio.to_thread(os.read, ends[2], 100) == b"hello alice\n"
            yard.unpin("alice")
            with pytest.raises(PeerAuthError) as broken:
                await work
            assert broken.value.code == "broken"


@on_loops("uvloop")
async def test_pipe_whose_reader_is_gone_ends(yard: Yard, dialer: Dialer) -> None:
    yard.pin("alice")
    async with running(yard) as node:
        with pipes() as ends:
            os.close(ends[2])
            with pytest.raises(BrokenPipeError):
                await pipe(dialer, to(dialer, node.port), ends[0], ends[3])
            await node.until(lambda: len(node.server.live) == 0)


@contextlib.asynccontextmanager
async def tunnelled(dialer: Dialer, port: int, failures: list[BaseException]) -> AsyncIterator[int]:
    """A local port that leads to the node."""
    sockets = open_listeners(Address("127.0.0.1", 0))
    local = int(sockets[0].getsockname()[1])
    work = asyncio.create_task(tunnel(dialer, to(dialer, port), sockets, failures.append))
    await asyncio.sleep(0)
    try:
        yield local
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def talk(port: int, data: bytes) -> bytes:
    """Send everything, say that it was all, and hear everything."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock:

        def send() -> None:
            with contextlib.suppress(OSError):  # where the connection ends first, that is what is heard
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            return everything(sock)
        finally:
            sender.join(DEADLINE_S)


@on_loops()
async def test_tunnel_carries_many_connections_whole(yard: Yard, dialer: Dialer) -> None:
    yard.pin("alice")
    failures: list[BaseException] = []
    with target(echo) as where:
        async with running(yard, target=where) as node, tunnelled(dialer, node.port, failures) as local:
            heard = await asyncio.gather(*(asyncio.to_thread(talk, local, DATA[n:]) for n in range(5)))
            assert [hashlib.sha256(h).digest() for h in heard] == [hashlib.sha256(DATA[n:]).digest() for n in range(5)]
            assert failures == []
            await node.until(lambda: len(node.server.live) == 0)


async def refused_by(node: Running, dialer: Dialer) -> BaseException:
    failures: list[BaseException] = []
    async with tunnelled(dialer, node.port, failures) as local:
        with contextlib.suppress(ConnectionError):
            assert await asyncio.to_thread(talk, local, b"x") == b""
        await node.until(lambda: bool(failures))
    return failures[0]


@on_loops("uvloop")
async def test_tunnel_says_why_a_connection_could_not_be_carried(yard: Yard, dialer: Dialer) -> None:
    yard.pin("alice")
    stranger = Dialer.of(mint("stranger"), "stranger", dialer.peers)
    async with running(yard) as node:
        late = await refused_by(node, stranger)
        assert isinstance(late, TrustRefused)
        assert "not pinned there" in late.message
        node.port, port = unused_port(), node.port
        gone = await refused_by(node, dialer)
        assert isinstance(gone, ConnectFailed)
        assert gone.code == "connection-refused"
        node.port = port


@on_loops("uvloop")
async def test_tunnel_to_another_than_the_one_that_is_meant_carries_nothing(yard: Yard, dialer: Dialer) -> None:
    yard.pin("alice")
    failures: list[BaseException] = []
    async with running(yard) as node:
        meant = Target(dialer.peers().peers["db-1"], Address("127.0.0.1", node.port))
        sockets = open_listeners(Address("127.0.0.1", 0))
        work = asyncio.create_task(tunnel(dialer, meant, sockets, failures.append))
        with contextlib.suppress(ConnectionError):
            assert await asyncio.to_thread(talk, int(sockets[0].getsockname()[1]), b"secret") == b""
        await node.until(lambda: bool(failures))
        assert "that is node, not db-1" in str(failures[0])
        assert not node.told("admitted")
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

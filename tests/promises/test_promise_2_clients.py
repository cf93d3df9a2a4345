"""Promise 2, at the side that connects: who is removed here is not talked to any more, over whatever connection is open.

Each connection has a twin that leads to another peer, or to the same one while somebody else is removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.client.dial import Dialer
from peerauth.client.pipe import pipe
from peerauth.client.target import Target
from peerauth.client.tunnel import tunnel
from peerauth.errors import TrustRefused
from peerauth.net.sockets import open_listeners
from peerauth.node import Node
from peerauth.store.peerdir import PeerDirectory
from tests.promises.test_promise_2 import PROMPT_S
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Running, Yard, identity, on_loops, running
from tests.support.targets import unused_port
from tests.support.workers import Home, started


@contextlib.asynccontextmanager
async def two_servers(yard: Yard) -> AsyncIterator[tuple[Running, Running]]:
    """Servers node and db-1, who admit alice."""
    yard.pin("alice")
    async with running(yard) as node, running(yard, own=identity("db-1")) as other:
        yield node, other


def alices(tmp_path: Path) -> tuple[Dialer, Yard]:
    """A dialer of alice, who has pinned both."""
    own = Yard(tmp_path / "alices-peers")
    for name in ("node", "db-1"):
        own.pin(name)
    directory = PeerDirectory(own.path)
    directory.refresh()
    return Dialer.of(identity("alice"), "alice", lambda: directory.current, directory=directory), own


def to(dialer: Dialer, name: str, port: int) -> Target:
    return Target(dialer.peers().peers[name], Address("127.0.0.1", port))


@contextlib.asynccontextmanager
async def tunnels(dialer: Dialer, *targets: Target) -> AsyncIterator[tuple[list[socket.socket], list[BaseException]]]:
    """Plain connections through a tunnel to each, greeted; and what was said of trouble."""
    failures: list[BaseException] = []
    with contextlib.ExitStack() as held:
        works, calls = [], []
        for target in targets:
            sockets = open_listeners(Address("127.0.0.1", 0))
            works.append(asyncio.create_task(tunnel(dialer, target, sockets, failures.append)))
            await asyncio.sleep(0)
            calls.append(held.enter_context(socket.create_connection(sockets[0].getsockname(), DEADLINE_S)))
            assert await asyncio.to_thread(calls[-1].recv, 100) == b"hello alice\n"
        try:
            yield calls, failures
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)


def says_back(sock: socket.socket) -> bool:
    """Whether what is said comes back."""
    sock.sendall(b"still there?")
    return sock.recv(100) == b"still there?"


@on_loops()
async def test_tunnel_to_a_removed_peer_is_cut_though_nobody_uses_it(tmp_path: Path, yard: Yard) -> None:
    dialer, own = alices(tmp_path)
    async with (
        two_servers(yard) as (node, other),
        tunnels(dialer, to(dialer, "node", node.port), to(dialer, "db-1", other.port)) as (calls, failures),
    ):
        cut, kept = calls
        began = time.monotonic()
        own.unpin("node")
        with pytest.raises(ConnectionResetError):
            await asyncio.to_thread(cut.recv, 1)
        assert time.monotonic() - began < PROMPT_S
        await node.until(lambda: len(node.server.live) == 0)
        assert await asyncio.to_thread(says_back, kept)
        (failure,) = failures
        assert isinstance(failure, TrustRefused)
        assert "is not admitted as node" in failure.message


@on_loops("uvloop")
async def test_tunnel_to_a_peer_whose_pin_is_another_now_is_cut(tmp_path: Path, yard: Yard) -> None:
    dialer, own = alices(tmp_path)
    async with (
        two_servers(yard) as (node, other),
        tunnels(dialer, to(dialer, "node", node.port), to(dialer, "db-1", other.port)) as (calls, _),
    ):
        own.pin("db-1", identity("db-1"), identity("its-next"))  # as in a rotation
        own.pin("node", identity("another"))
        with pytest.raises(ConnectionResetError):
            await asyncio.to_thread(calls[0].recv, 1)
        assert await asyncio.to_thread(says_back, calls[1])


@on_loops()
async def test_pipe_to_a_removed_peer_ends_and_says_why(tmp_path: Path, yard: Yard) -> None:
    dialer, own = alices(tmp_path)
    async with two_servers(yard) as (node, other):
        with contextlib.ExitStack() as held:
            works, inputs, outputs = [], [], []
            for name, at in (("node", node), ("db-1", other)):
                (source, feed), (heard, output) = os.pipe(), os.pipe()  # `source` is closed by nobody: a thread reads there
                inputs.append(held.enter_context(os.fdopen(feed, "wb", 0)))
                outputs.append(held.enter_context(os.fdopen(heard, "rb", 0)))
                held.callback(os.close, output)
                works.append(asyncio.create_task(pipe(dialer, to(dialer, name, at.port), source, output)))
            for one in outputs:
                assert await asyncio.to_thread(one.read, 100) == b"hello alice\n"
            began = time.monotonic()
            own.unpin("node")
            with pytest.raises(TrustRefused, match="is not admitted as node"):
                await works[0]
            assert time.monotonic() - began < PROMPT_S
            await node.until(lambda: len(node.server.live) == 0)
            inputs[1].write(b"still there?")
            assert await asyncio.to_thread(outputs[1].read, 100) == b"still there?"
            works[1].cancel()
            await asyncio.gather(*works, return_exceptions=True)


@on_loops()
async def test_streams_to_a_removed_peer_end_and_say_why(tmp_path: Path, yard: Yard) -> None:
    home = Home(tmp_path, "alice")
    home.pin("node")
    home.pin("db-1")
    async with two_servers(yard) as (node, other):
        alice = Node.load(home.home)
        cut, writer = await alice.open_connection("node", f"127.0.0.1:{node.port}")
        kept, keeper = await alice.open_connection("db-1", f"127.0.0.1:{other.port}")
        assert [await one.readline() for one in (cut, kept)] == [b"hello alice\n"] * 2
        began = time.monotonic()
        home.unpin("node")
        with pytest.raises(TrustRefused, match="is not admitted as node"):
            await cut.read(1)
        assert time.monotonic() - began < PROMPT_S
        await node.until(lambda: len(node.server.live) == 0)
        keeper.write(b"still there?")
        assert await kept.read(100) == b"still there?"
        assert len(alice._followed()) == 1
        for one in (writer, keeper):
            one.close()
        await other.until(lambda: len(other.server.live) == 0)
        await other.until(lambda: len(alice._followed()) == 0)
        home.pin("node")
        again, writer = await alice.open_connection("node", f"127.0.0.1:{node.port}")
        assert await again.readline() == b"hello alice\n"
        home.unpin("node")
        with pytest.raises(TrustRefused):
            await again.read(1)
        writer.close()


def test_the_command_connect_follows_the_list(tmp_path: Path) -> None:
    alice, db = Home(tmp_path, "alice"), Home(tmp_path, "db-1")
    for peer in ("db-1", "db-2"):
        alice.pin(peer)
    db.pin("alice")
    here, there = unused_port(), unused_port()
    db.configure(f'[[serve]]\nlisten = "127.0.0.1:{there}"\ntarget = "127.0.0.1:{here}"\n')
    door = tmp_path / "door"
    with socket.create_server(("127.0.0.1", here)) as behind, started(db, "up") as node:
        node.hears("listening")
        with started(alice, "connect", f"127.0.0.1:{there}", "--peer", "db-1", "--listen", f"unix:{door}") as client:
            client.hears("listening")
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(DEADLINE_S)
                sock.connect(str(door))
                sock.sendall(b"x")
                behind.settimeout(DEADLINE_S)
                far, _ = behind.accept()
                with far:
                    far.settimeout(DEADLINE_S)
                    assert far.recv(1) == b"x"
                    alice.unpin("db-2")
                    far.sendall(b"y")
                    assert sock.recv(1) == b"y"
                    began = time.monotonic()
                    alice.unpin("db-1")
                    with pytest.raises(ConnectionResetError):
                        far.recv(1)
                    assert time.monotonic() - began < PROMPT_S
                    assert sock.recv(1) == b""  # a Unix socket has no reset
            client.send(signal.SIGTERM)
            client.wait()
            assert "is not admitted as db-1" in client.errors

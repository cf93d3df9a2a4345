"""Threat: connections that leave something behind: a descriptor, an arrival, a live entry, a timer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import struct
import threading
from collections.abc import Callable

from peerauth.store.config import Limits
from peerauth.tls import linger
from tests.support.dropin import mint
from tests.support.engine import Caller, Halting, Yard, descriptors, on_loops, running
from tests.support.targets import echo, target

ROUNDS = 5
RESET = struct.pack("ii", 1, 0)


@on_loops()
async def test_churn_leaves_nothing(yard: Yard) -> None:
    """Peers, strangers, aborted and timed-out ones, in a random order (fixed seed), relayed to a target."""
    chance = random.Random(3)  # noqa: S311 - the same every time
    caller, stranger = Caller(yard.pin("alice")), Caller(mint("stranger"))

    def peer(port: int) -> None:
        with caller.open(port) as tls:
            tls.sendall(b"x" * 1000)
            heard = 0
            while heard < 1000:
                heard += len(tls.recv(65536))

    def peer_that_resets(port: int) -> None:
        tls = caller.open(port)
        tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        tls.close()

    def silent(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as sock, contextlib.suppress(OSError):
            sock.settimeout(5)
            sock.recv(1)

    def brief(port: int) -> None:
        socket.create_connection(("127.0.0.1", port)).close()

    def halfway(port: int) -> None:
        with Halting(caller, port) as one:
            one.sock.sendall(one.hello()[: chance.randrange(1, 200)])

    def refused(port: int) -> None:
        stranger.hear(port)

    kinds = [peer, peer_that_resets, silent, brief, halfway, refused]
    with target(echo) as where:
        async with running(yard, target=where, limits=Limits(handshake_timeout=0.3, max_handshakes=20)) as node:
            await asyncio.to_thread(peer, node.port)
            await node.until(lambda: len(node.server.live) == 0)
            gc.collect()
            before = descriptors()
            for _ in range(ROUNDS):
                some = [chance.choice(kinds) for _ in range(30)]
                await asyncio.gather(*(asyncio.to_thread(one, node.port) for one in some), return_exceptions=True)
            await asyncio.to_thread(peer, node.port)
            await node.until(lambda: len(node.server.live) == node.arrivals == len(linger._lingering) == 0)
            assert node.server._listeners[0]._arrivals._by_source == {}
            assert node.server.live._by_peer == {}
            gc_was_needed = descriptors() - before
            gc.collect()
            await node.until(lambda: descriptors() <= before)
            assert gc_was_needed < 40


@on_loops("uvloop")
async def test_handshake_that_times_out_while_it_waits_for_a_thread_is_closed(yard: Yard) -> None:
    """No garbage collector is needed to close it, whether it is worked on later or dropped."""
    caller = Caller(yard.pin("alice"))
    async with running(yard, limits=Limits(handshake_timeout=0.3)) as node:
        hall = node.server._listeners[0]._arrivals
        held: list[tuple[str, Callable[[], None], Callable[[], None]]] = []
        submit = hall.submit
        hall.submit = lambda *job: held.append(job)
        for n in range(2):
            with Halting(caller, node.port) as one:
                one.sock.sendall(one.hello())
                await node.until(lambda: len(held) == n + 1)  # noqa: B023 - used at once
                await node.until(lambda: len(node.told("refused", code="timeout")) == n + 1)  # noqa: B023
                _, work, dropped = held[n]
                gc.disable()
                (work, dropped)[n]()
                one.sock.settimeout(5)
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.to_thread(one.sock.recv, 1) == b""
                gc.enable()
        hall.submit = submit
        assert await asyncio.to_thread(caller.hear, node.port) == "hello alice"


@on_loops()
async def test_server_that_stops_in_the_middle_of_handshakes_closes_their_sockets(yard: Yard) -> None:
    """Those that a thread has, and those that wait for one."""
    caller, began, gate = Caller(yard.pin("alice")), threading.Event(), threading.Event()

    def busy() -> None:
        began.set()
        gate.wait(20)

    with contextlib.ExitStack() as held:
        async with running(yard) as node:
            threads = len(node.server._crew._threads)
            for n in range(threads):
                node.server._crew.submit(f"busy {n}", busy, gate.set)
            await asyncio.to_thread(began.wait, 20)
            for _ in range(5):
                one = held.enter_context(Halting(caller, node.port))
                one.sock.sendall(one.hello())
            await node.until(lambda: len(node.server._crew._queue) == 5)
            gc.disable()
            threading.Timer(0.1, gate.set).start()
        sockets = [one for one in gc.get_objects() if isinstance(one, socket.socket)]
        gc.enable()
        assert [one for one in sockets if one.fileno() >= 0 and one.getsockname()[1:] == (node.port,)] == []

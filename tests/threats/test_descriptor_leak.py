"""Threat: connections that leave something behind: a descriptor, an arrival, a live entry, a timer."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import random
import socket
import struct
import threading

from peerauth.server.porch import Porter
from peerauth.store.config import Limits
from peerauth.tls import linger
from tests.support.dropin import mint
from tests.support.engine import Caller, Gate, Halting, Yard, descriptors, on_loops, running
from tests.support.targets import echo, target

ROUNDS = 5


def too_late(porter: Porter) -> None:
    """Everyone's time is over."""
    for late in porter.arrivals:
        late.deadline = 0.0


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
            assert all(porter.arrivals._by_source == {} for porter in node.server._porch._porters)
            assert node.server.live._by_peer == {}
            gc_was_needed = descriptors() - before
            gc.collect()
            await node.until(lambda: descriptors() <= before)
            assert gc_was_needed < 40


@on_loops("uvloop")
async def test_handshake_that_times_out_while_it_waits_for_its_turn_is_closed(yard: Yard) -> None:
    """No garbage collector is needed to close it; and its turn, when it comes, is nobody's."""
    caller = Caller(yard.pin("alice"))
    async with running(yard) as node, contextlib.AsyncExitStack() as held:
        gates = [Gate(porter) for porter in node.server._porch._porters]
        for gate in gates:
            held.callback(gate.open)
        with Halting(caller, node.port) as one:
            await node.until(lambda: node.arrivals == 1)
            for gate in gates:
                await asyncio.to_thread(gate.close)
            one.sock.sendall(one.hello())
            gc.disable()
            for gate in gates:
                gate.then(functools.partial(too_late, gate.porter))
                gate.open()
            await node.hears("refused", code="timeout")
            one.sock.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.to_thread(one.sock.recv, 1) == b""
            gc.enable()
        for gate in gates * 2:  # whoever comes now must not be among those whose time was over: `then` has two steps
            await asyncio.to_thread(gate.porter.call_and_wait, lambda: None)
        assert await asyncio.to_thread(caller.hear, node.port) == "hello alice"


@on_loops()
async def test_server_that_stops_in_the_middle_of_handshakes_closes_their_sockets(yard: Yard) -> None:
    """Those that a thread has, and those that wait for one."""
    caller = Caller(yard.pin("alice"))
    with contextlib.ExitStack() as held:
        async with running(yard) as node:
            waiting = [held.enter_context(Halting(caller, node.port)) for _ in range(5)]
            await node.until(lambda: node.arrivals == 5)
            gates = [Gate(porter) for porter in node.server._porch._porters]
            for gate in gates:
                await asyncio.to_thread(gate.close)
            for one in waiting:
                one.sock.sendall(one.hello())
            gc.disable()
            for gate in gates:
                threading.Timer(0.1, gate.open).start()
        sockets = [one for one in gc.get_objects() if isinstance(one, socket.socket)]
        gc.enable()
        assert [one for one in sockets if one.fileno() >= 0 and one.getsockname()[1:] == (node.port,)] == []

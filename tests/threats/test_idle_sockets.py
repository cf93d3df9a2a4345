"""Threat: sockets that connect and say nothing, or next to nothing, until nobody else can come in."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

from peerauth.store.config import Limits
from tests.support.engine import Caller, Halting, Yard, identity, on_loops, running

FAST_S = 2.0  # a second is promised; a busy machine is given two
MANY = 1200
LIMIT = 128


def idle(port: int, source: str = "127.0.0.2") -> socket.socket:
    sock = socket.socket()
    sock.bind((source, 0))
    sock.connect(("127.0.0.1", port))
    return sock


@on_loops()
async def test_a_thousand_idle_sockets_delay_no_honest_peer_and_cost_no_tls(yard: Yard) -> None:
    caller = Caller(yard.pin("alice"))
    async with running(yard, limits=Limits(max_handshakes=LIMIT)) as node:
        with contextlib.ExitStack() as held:
            for _ in range(MANY // 100):
                for sock in await asyncio.to_thread(lambda: [idle(node.port) for _ in range(100)]):
                    held.enter_context(sock)
            await node.until(lambda: node.arrivals == LIMIT)
            started = time.monotonic()
            assert await asyncio.to_thread(caller.hear, node.port) == "hello alice"
            assert time.monotonic() - started < FAST_S
            assert node.arrivals <= LIMIT
            held_back = list(node.server._porch)
            assert len(held_back) > LIMIT // 2
            assert all(a.session is None for a in held_back)
        await node.until(lambda: node.arrivals == 0)


@on_loops("uvloop")
async def test_one_sources_idle_sockets_do_not_push_out_anothers_handshake(yard: Yard) -> None:
    """Alice stops in the middle of her handshake while the flood goes on, and is let finish; the flood's oldest is not."""
    alice = yard.pin("alice")
    async with running(yard, limits=Limits(max_handshakes=16)) as node:
        with contextlib.ExitStack() as held:
            slow = held.enter_context(Halting(Caller(alice), node.port))
            flight = await asyncio.to_thread(slow.answer)
            oldest = held.enter_context(idle(node.port))
            for _ in range(60):
                held.enter_context(idle(node.port))
            assert await asyncio.to_thread(oldest.recv, 1) == b""
            slow.sock.sendall(b"".join(flight))
            assert await asyncio.to_thread(slow.read) == b"hello alice\n"


@on_loops("uvloop")
async def test_who_says_nothing_is_sent_away_in_time(yard: Yard) -> None:
    caller = Caller(yard.pin("alice"))
    async with running(yard, limits=Limits(handshake_timeout=0.3)) as node:
        with idle(node.port) as sock:
            tls = await asyncio.to_thread(caller.open, node.port)
            assert await asyncio.to_thread(sock.recv, 1) == b""
            assert (await node.hears("refused", code="timeout")).message.startswith("it said nothing")
            assert node.arrivals == 0
            assert node.server.live.count("alice") == 1  # the time is for handshakes, not for who is in
            tls.close()


@on_loops("uvloop")
async def test_client_hello_byte_by_byte_is_in_time_or_out(yard: Yard) -> None:
    alice = yard.pin("alice")
    async with running(yard, limits=Limits(handshake_timeout=1.0)) as node:
        with Halting(Caller(alice), node.port) as quick, Halting(Caller(alice), node.port) as slow:
            hello = quick.hello()
            for byte in hello:
                quick.sock.sendall(bytes([byte]))
                await asyncio.sleep(0)
            quick._in.write(await asyncio.to_thread(quick.sock.recv, 65536))
            slow.sock.sendall(slow.hello()[:-1])
            assert await asyncio.to_thread(slow.sock.recv, 1) == b""
            refused = await node.hears("refused", code="timeout")
            assert "did not finish the handshake" in refused.message


@on_loops("uvloop")
async def test_slow_senders_hold_no_thread(yard: Yard) -> None:
    """More half-sent ClientHellos than there are threads: the crew works for who is ready."""
    caller = Caller(yard.pin("alice"))
    async with running(yard) as node:
        with contextlib.ExitStack() as held:
            for _ in range(50):
                slow = held.enter_context(Halting(caller, node.port))
                slow.sock.sendall(slow.hello()[:20])
            await node.until(lambda: node.arrivals == 50)
            started = time.monotonic()
            assert await asyncio.to_thread(caller.hear, node.port) == "hello alice"
            assert time.monotonic() - started < FAST_S


@on_loops("uvloop")
async def test_stopping_lets_go_of_everyone(yard: Yard) -> None:
    yard.pin("alice")
    async with running(yard) as node:
        waiting = [idle(node.port) for _ in range(20)]
        half = Halting(Caller(identity("alice")), node.port)
        await asyncio.to_thread(half.answer)
        await node.until(lambda: node.arrivals == 21)
    for sock in (*waiting, half.sock):
        sock.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            while await asyncio.to_thread(sock.recv, 65536):
                pass
        sock.close()

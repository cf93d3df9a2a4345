"""Threat: bytes that are no TLS, or TLS that is broken on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket

import pytest

from tests.support.engine import Caller, Halting, Yard, on_loops, running

JUNK = {
    "http": b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "proxy protocol": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
    "nothing but a goodbye": b"",
    "zeroes": bytes(5000),
    "noise": random.Random(1).randbytes(5000),  # noqa: S311 - the same every time
    "a record that never comes": b"\x16\x03\x01\x40\x00" + bytes(100),
    "a record too long": b"\x16\x03\x01\xff\xff" + bytes(65535),
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "application data": b"\x17\x03\x03\x00\x20" + bytes(32),
    "SSL 2": b"\x80\x2e\x01\x00\x02" + bytes(43),
}


async def rest_of(sock: socket.socket) -> None:
    sock.settimeout(10)
    with contextlib.suppress(ConnectionResetError):
        while await asyncio.to_thread(sock.recv, 65536):
            pass


@pytest.mark.parametrize("junk", JUNK)
@on_loops("uvloop")
async def test_junk_is_sent_away_and_disturbs_nobody(yard: Yard, junk: str) -> None:
    caller = Caller(yard.pin("alice"))
    async with running(yard) as node:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", node.port)) as sock:
                with contextlib.suppress(ConnectionError):
                    sock.sendall(JUNK[junk])
                    sock.shutdown(socket.SHUT_WR)
                await rest_of(sock)
        assert (await node.hears("refused")).code in {"not-tls", "tls-failed", "tls-alert", "closed"}
        assert await asyncio.to_thread(caller.hear, node.port) == "hello alice"
        assert node.arrivals == 0
        assert all("Traceback" not in event.message for event in node.events)


@on_loops("uvloop")
async def test_handshake_with_one_byte_changed_is_refused(yard: Yard) -> None:
    """Anywhere in the client's second flight; the twin without a change is admitted."""
    alice = yard.pin("alice")
    async with running(yard) as node:
        for place in (None, 7, 60, 200, 400, -1):
            with Halting(Caller(alice), node.port) as one:
                flight = bytearray(b"".join(await asyncio.to_thread(one.answer)))
                if place is not None:
                    flight[place] ^= 1
                one.sock.sendall(flight)
                if place is None:
                    assert await asyncio.to_thread(one.read) == b"hello alice\n"
                else:
                    await rest_of(one.sock)
        await node.until(lambda: len(node.told("refused")) == 5)
        assert len(node.told("admitted")) == 1

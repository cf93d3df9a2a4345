"""A peer that takes nothing of what waits for it is cut off after a while; one that is slow, and takes something, is not."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from peerauth.net.sockets import taken
from peerauth.services import asgi, moving
from peerauth.services.moving import MovingTransport
from tests.support.applications import Scope, answer, applying, request
from tests.support.engine import Caller, Running, Yard, how_it_ends, identity, on_loops, running

MUCH = 24 << 20  # bytes: more than sockets hold between the two
PIECE = 16_000
ASKED = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {'A' * 22}==")


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """A peers directory with alice in it, and a patience that is soon at its end."""
    made = Yard(tmp_path / "peers")
    made.pin("alice")
    return made


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "STALL", 0.25)
    monkeypatch.setattr(asgi, "STALL", 0.25)  # how often it is looked at


heard: list[str] = []  # by the application, of the end of its connections


async def says_much(scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    """Says much: at once, in pieces, or over a WebSocket."""
    if scope["type"] == "lifespan":
        raise TypeError("it has none")
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        with contextlib.suppress(Exception):  # websockets has one of its own for who has gone
            while True:
                await send({"type": "websocket.send", "bytes": bytes(PIECE)})
    elif scope["path"] == "/pieces":
        head = [(b"content-length", b"%d" % MUCH)]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        for _ in range(MUCH // 4096):
            await send({"type": "http.response.body", "body": bytes(4096), "more_body": True})
        assert (await receive())["type"] in {"http.request", "http.disconnect"}
    else:
        await answer(send, bytes(MUCH))
    heard.append(scope["path"])


@contextlib.asynccontextmanager
async def serving(yard: Yard, path: str) -> AsyncIterator[tuple[Running, bytes]]:
    """A server of much, and the request for it."""
    if path == "/file":
        root = yard.path.parent / "root"
        root.mkdir()
        (root / "file").write_bytes(bytes(MUCH))
        async with running(yard, root=root) as node:
            yield node, request(path)
    else:
        async with applying(yard, says_much) as node:
            yield node, request(path, *(ASKED if path == "/websocket" else ("Connection: close",)))


def open_slowly(port: int, question: bytes) -> ssl.SSLSocket:
    """A connection with a small window, on which this was asked and the beginning of the answer was heard."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.settimeout(20)
    plain.connect(("127.0.0.1", port))
    tls = Caller(identity("alice")).context.wrap_socket(plain, suppress_ragged_eofs=False)
    tls.sendall(question)
    assert tls.recv(9) == b"HTTP/1.1 "
    return tls


@pytest.mark.parametrize("path", ["/file", "/pieces", "/at-once", "/websocket"])
@on_loops("uvloop")
async def test_who_takes_nothing_is_cut_off_and_holds_nothing_any_more(yard: Yard, path: str) -> None:
    heard.clear()
    async with serving(yard, path) as (node, question):
        with await asyncio.to_thread(open_slowly, node.port, question) as tls:
            await node.until(lambda: bool(node.server.live.everyone()))
            await node.until(lambda: not node.server.live.everyone())
            assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        if path != "/file":
            await node.until(lambda: heard == [path])


@pytest.mark.parametrize("path", ["/file", "/pieces", "/at-once", "/websocket"])
@on_loops("uvloop")
async def test_who_takes_a_little_now_and_then_is_not_cut_off(yard: Yard, path: str) -> None:
    async with serving(yard, path) as (node, question):

        def run() -> tuple[bool, float]:
            """Whether something waited for us all the time, and how long that was."""
            begun, waited = time.monotonic(), True
            with open_slowly(node.port, question) as tls:
                while time.monotonic() < begun + 1.5:
                    time.sleep(0.05)  # slow is what it is
                    for _ in range(PIECE // 1000):
                        tls.recv(1000)
                    (one,) = node.server.live.everyone()
                    assert isinstance(one, MovingTransport)
                    waited = waited and one.deadline < math.inf
            return waited, time.monotonic() - begun

        waited, seconds = await asyncio.to_thread(run)
        assert waited
        assert seconds > 4 * moving.STALL


@on_loops("uvloop")
async def test_a_disk_that_lets_wait_is_not_the_peers_fault(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    from peerauth.services import stretch  # noqa: PLC0415 - of this test alone

    fetch = stretch.Stretch.fetch

    def late(one: stretch.Stretch, view: memoryview) -> int:
        if one.left == len(one):
            time.sleep(4 * moving.STALL)  # as a disk that has to spin up
        return fetch(one, view)

    monkeypatch.setattr(stretch.Stretch, "fetch", late)
    monkeypatch.setattr(stretch, "_NOW", 0)
    async with serving(yard, "/file") as (node, question):

        def run() -> int:
            with Caller(identity("alice")).open(node.port) as tls:
                tls.sendall(question)
                count = 0
                while count < MUCH:
                    piece = tls.recv(1 << 20)
                    assert piece
                    count += len(piece)
                return count

        assert await asyncio.to_thread(run) >= MUCH


def test_what_the_other_side_takes_is_seen_over_a_unix_socket_too() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.sendall(bytes(10_000))
        before = taken(here)
        assert taken(here) == before
        there.recv(10_000)
        assert taken(here) != before

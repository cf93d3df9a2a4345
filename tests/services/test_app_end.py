"""How guests of an application end: those who are removed, and those who are there when the server stops."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from peerauth.address import Address
from peerauth.audit import Audit, Event
from peerauth.http.routes import Route, Routes
from peerauth.services import asgi
from peerauth.services.guarded import Application, guarded
from peerauth.store.config import Limits, Service
from peerauth.trust.policy import Policy
from tests.support.applications import Scope, answer, applying, heard, request, status, until_the_end
from tests.support.engine import Caller, Yard, how_it_ends, identity, on_loops


class Streaming:
    """Streams without an end at /, answers /slow when `go` is set, says back what a WebSocket says."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.go = asyncio.Event()
        self.shut_down = asyncio.Event()
        self.shut_down.set()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        match scope["type"], scope.get("path"):
            case "lifespan", _:
                await receive()
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await self.shut_down.wait()
                self.told.append("shutdown")
                await send({"type": "lifespan.shutdown.complete"})
            case "websocket", _:
                await self._talk(scope, receive, send)
            case _, "/slow":
                self.told.append("slow")
                await self.go.wait()
                await answer(send)
                self.told.append("answered")
            case _, "/idle":
                await answer(send)
            case _, "/stubborn":
                self.told.append("stubborn")
                await asyncio.Event().wait()
            case _:
                await self._stream(receive, send)

    async def _stream(self, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.create_task(self._until_gone(receive))
        while not gone.done():
            await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
            await asyncio.sleep(0.001)
        self.told.append("http.disconnect")

    async def _until_gone(self, receive: Any) -> None:  # noqa: ANN401 - ASGI
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _talk(self, scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": f"hello {scope['state']['peer'].name}"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        self.told.append(f"websocket.disconnect {message['code']}")


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    made = Yard(tmp_path / "peers")
    made.pin("alice")
    made.pin("bob")
    return made


@contextlib.asynccontextmanager
async def websocket(port: int, name: str = "alice") -> AsyncIterator[ClientConnection]:
    """One that has been greeted."""
    context = Caller(identity(name)).context
    with contextlib.ExitStack() as stack:

        def opening() -> ClientConnection:
            return stack.enter_context(connect(f"wss://127.0.0.1:{port}/", ssl=context, server_hostname="node"))

        opened = await asyncio.to_thread(opening)
        assert await asyncio.to_thread(opened.recv) == f"hello {name}"
        yield opened
        await asyncio.to_thread(stack.close)


def how_it_closes(websocket: ClientConnection) -> int | None:
    """The code with which the other side says goodbye; None: it breaks."""
    try:
        while True:
            websocket.recv(timeout=30)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


@on_loops()
async def test_removal_cuts_a_stream_and_a_websocket_at_once_and_nobody_elses(yard: Yard) -> None:
    app = Streaming()
    async with (
        applying(yard, app) as node,
        websocket(node.port) as talk,
        websocket(node.port, "bob") as other,
    ):
        stream = await asyncio.to_thread(Caller(identity("alice")).open, node.port)
        await asyncio.to_thread(stream.sendall, request())
        await asyncio.to_thread(stream.recv, 10_000)
        began = time.monotonic()
        yard.unpin("alice")
        _, end = await asyncio.to_thread(until_the_end, stream)
        assert end == "cut"
        assert await asyncio.to_thread(how_it_closes, talk) is None
        assert time.monotonic() - began < 2  # promise 2 has the figure, on a quiet machine
        await node.until(lambda: len(app.told) == 2)
        assert sorted(app.told) == ["http.disconnect", "websocket.disconnect 1005"]
        await asyncio.to_thread(other.send, "still here")
        assert await asyncio.to_thread(other.recv) == "still here"
        stream.close()


@on_loops()
async def test_at_a_stop_idle_connections_end_at_once_and_requests_under_way_are_answered(yard: Yard) -> None:
    app = Streaming()
    async with applying(yard, app, limits=Limits(drain=20)) as node, websocket(node.port) as talk:
        slow, idle = [await asyncio.to_thread(Caller(identity("alice")).open, node.port) for _ in range(2)]
        await asyncio.to_thread(idle.sendall, request("/idle"))
        assert status(await asyncio.to_thread(heard, idle)) == 200
        await asyncio.to_thread(slow.sendall, request("/slow"))
        await node.until(lambda: "slow" in app.told)
        stopping = asyncio.create_task(node.server.stop())
        assert await asyncio.to_thread(until_the_end, idle) == (b"", "goodbye")
        assert await asyncio.to_thread(how_it_closes, talk) == 1012
        assert "shutdown" not in app.told  # there is a guest still
        app.go.set()
        data, end = await asyncio.to_thread(until_the_end, slow)
        assert (status(data), end) == (200, "goodbye")
        assert b"connection: close" in data
        await stopping
        assert app.told[-2:] == ["answered", "shutdown"]
        for sock in (slow, idle):
            sock.close()


@on_loops("uvloop")
async def test_what_does_not_end_with_its_guests_is_ended(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "LAST_WORK", 0.2)
    monkeypatch.setattr(asgi, "SHUTDOWN", 0.2)
    app = Streaming()
    app.shut_down.clear()
    async with applying(yard, app) as node:
        tls: ssl.SSLSocket = await asyncio.to_thread(Caller(identity("alice")).open, node.port)
        await asyncio.to_thread(tls.sendall, request("/stubborn"))
        await node.until(lambda: "stubborn" in app.told)
        async with asyncio.timeout(5):
            await node.server.stop(0)
        assert "shutdown" not in app.told
        left = [task for task in asyncio.all_tasks() if "run_asgi" in str(task) or "Lifespan" in str(task)]
        assert left == []
        tls.close()


@on_loops()
async def test_a_websocket_behind_a_route_ends_with_the_tag_that_the_route_needed(yard: Yard) -> None:
    """So does an answer that goes on; what bob does, who keeps the tag, goes on."""
    for name in ("alice", "bob"):
        yard.place(f"{name}.toml", 'tags = ["ops"]')
    app = Streaming()
    ops = Routes([Route("/", policy=Policy("default", frozenset(), frozenset({"ops"})))])
    said: list[Event] = []
    behind = guarded(
        cast("Application", app), Service("default", Address("", 1), routes=ops), Audit(said.append, time.monotonic)
    )
    async with applying(yard, behind) as node, websocket(node.port, "bob") as kept, websocket(node.port) as cut:
        with Caller(identity("alice")).open(node.port) as streaming:
            streaming.sendall(request())
            await asyncio.to_thread(streaming.recv, 100)
            yard.place("alice.toml", 'note = "no tag any more"')
            assert await asyncio.to_thread(how_it_closes, cut) is None
            assert await asyncio.to_thread(how_it_ends, streaming) == "cut"
        await node.until(lambda: len(node.told("ended", peer="alice", code="not-allowed")) == 2)
        await node.until(lambda: len(app.told) == 2)
        assert sorted(app.told) == ["http.disconnect", "websocket.disconnect 1005"]
        await asyncio.to_thread(kept.send, "still there?")
        assert await asyncio.to_thread(kept.recv) == "still there?"
        yard.place("bob.toml", 'tags = ["ops", "more"]')
        await node.hears("peer-changed", peer="bob")
        await asyncio.to_thread(kept.send, "and now?")
        assert await asyncio.to_thread(kept.recv) == "and now?"

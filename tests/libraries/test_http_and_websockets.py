"""More of what docs/servers.md says of servers in the drop-in context: HTTP/2, WebSockets, and connections that last."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, WebSocketException

from peerauth import Node, peer_of
from peerauth.tls import gate, judged
from tests.cli.running import environment
from tests.docs.programs import by_section
from tests.docs.terminals import Running
from tests.support.databases import free_port
from tests.support.dropin import DEADLINE_S
from tests.support.homes import Home


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Home, Home, Home]:
    """A server's node, a peer of it that will go, and one that stays; a change counts at once."""
    for module in (gate, judged):
        monkeypatch.setattr(module, "AGAIN_S", 0.0)
    monkeypatch.setattr(gate, "FRESH_S", 0.0)
    server, gone, stays = (Home(tmp_path / name, name) for name in ("db-1", "gone", "stays"))
    for who in (gone, stays):
        who.knows(server)
    return server.knows(gone, stays), gone, stays


def test_hypercorn_speaks_http_2_and_knows_the_caller(tmp_path: Path) -> None:
    """The context has the protocols that hypercorn asks for."""
    server, alice = Home(tmp_path / "db-1", "db-1"), Home(tmp_path / "alice", "alice")
    server.knows(alice)
    alice.knows(server)
    port = free_port()
    running = Running(by_section("servers.md")["hypercorn"].command(tmp_path, port), tmp_path, environment({}))
    try:
        running.wait_for_port(port)
        context = Node.load(alice.path).client_context("db-1")
        with httpx.Client(verify=context, http2=True, trust_env=False, timeout=DEADLINE_S) as client:
            answers = [client.get(f"https://localhost:{port}/") for _ in range(2)]
    finally:
        running.end()
    assert [(answer.http_version, answer.text) for answer in answers] == [("HTTP/2", "hello alice\n")] * 2


def to(url: str, who: Home) -> connect:
    return connect(url, ssl=Node.load(who.path).client_context("db-1"), proxy=None)


def test_a_removed_peers_websocket_ends_with_the_next_frame(three: tuple[Home, Home, Home]) -> None:
    server, gone, stays = three

    async def echo(websocket: ServerConnection) -> None:
        peer = peer_of(websocket.transport)
        async for message in websocket:
            await websocket.send(f"{peer.name if peer else 'nobody'}: {message!s}")

    async def main() -> None:
        context = Node.load(server.path).server_context()
        async with (
            asyncio.timeout(DEADLINE_S),
            serve(echo, "127.0.0.1", 0, ssl=context) as running,
        ):
            (sock,) = running.sockets
            url = f"wss://localhost:{sock.getsockname()[1]}/"

            async with to(url, gone) as leaving, to(url, stays) as staying:
                for websocket, name in ((leaving, "gone"), (staying, "stays")):
                    await websocket.send("one")
                    assert await websocket.recv() == f"{name}: one"
                server.forgets(gone)
                await leaving.send("two")
                with pytest.raises(ConnectionClosed):
                    await leaving.recv()
                await staying.send("two")
                assert await staying.recv() == "stays: two"

    asyncio.run(main())


class WithPeer(HttpToolsProtocol):
    """As on the page."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state = {**self.app_state, "peer": peer_of(transport)}
        super().connection_made(transport)


async def over_websocket(scope: dict[str, Any], _: object, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": f"hello {scope['state']['peer'].name}"})
    await send({"type": "websocket.close"})


@contextmanager
def uvicorn_server(home: Home) -> Iterator[int]:
    context = Node.load(home.path).server_context()
    config = uvicorn.Config(
        over_websocket,
        ssl_context_factory=lambda *_: context,
        http=WithPeer,
        lifespan="off",
        log_config=None,
        ws="websockets-sansio",
    )
    running = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join(DEADLINE_S)


def test_uvicorn_gives_a_websocket_the_state_of_its_connection(three: tuple[Home, Home, Home]) -> None:
    server, gone, stays = three

    async def greeting(url: str, who: Home) -> str:
        try:
            async with to(url, who) as websocket:
                return str(await websocket.recv())
        except (OSError, WebSocketException):
            return "refused"

    async def greetings(port: int) -> list[str]:
        async with asyncio.timeout(DEADLINE_S):
            return [await greeting(f"wss://localhost:{port}/", who) for who in (gone, stays)]

    with uvicorn_server(server) as port:
        assert asyncio.run(greetings(port)) == ["hello gone", "hello stays"]
        server.forgets(gone)
        assert asyncio.run(greetings(port)) == ["refused", "hello stays"]

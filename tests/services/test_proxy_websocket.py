"""WebSocket through an HTTP proxy, with aiohttp on both sides; and what is not WebSocket and wants to be let past."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from peerauth.address import Address
from tests.support.engine import Caller, Yard, identity, on_loops
from tests.support.talking import GET, OK, Talk, calling, proxied, proxied_to

UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """A peers directory with alice in it."""
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    return yard


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Say who is calling, and then everything back."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str(f"hello {request.headers['X-Peer-Name']}")
    async for message in socket:
        await socket.send_bytes(message.data)
    return socket


@on_loops()
async def test_a_websocket_goes_through_and_both_sides_hear_its_end(yard: Yard) -> None:
    application = web.Application()
    application.router.add_get("/", echo)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    where = Address("127.0.0.1", runner.addresses[0][1])
    async with proxied_to(yard, where) as node, aiohttp.ClientSession() as session:
        url, context = f"https://127.0.0.1:{node.port}/", Caller(identity("alice")).context
        async with session.ws_connect(url, ssl=context) as socket:
            assert await socket.receive_str() == "hello alice"
            for size in (1, 100, 200_000):
                await socket.send_bytes(bytes(size))
                assert await socket.receive_bytes() == bytes(size)
            await socket.close()
            assert socket.close_code == 1000
        await node.until(lambda: not len(node.server.live))
    await runner.cleanup()


@on_loops()
async def test_what_was_said_ahead_of_the_change_arrives_on_both_sides(yard: Yard) -> None:
    def behave(talk: Talk) -> None:
        assert talk.head().endswith(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        talk.say(SWITCH + b"\x81first")
        assert talk.exactly(4) == b"\x81up!"
        talk.say(b"\x81more")
        assert talk.ends() == "end"  # a goodbye is passed on as such, as by a relay

    async with proxied(yard, behave) as proxy:

        def run() -> None:
            with calling(Caller(identity("alice")), proxy.node.port) as peer:
                peer.say(UPGRADE % b"websocket" + b"\x81up!")
                assert sorted(peer.head().split(b"\r\n")) == sorted(SWITCH.split(b"\r\n"))
                assert peer.exactly(11) == b"\x81first\x81more"
                peer.sock.unwrap()  # type: ignore[attr-defined]

        await asyncio.to_thread(run)


@on_loops("uvloop")
async def test_a_removed_peer_loses_its_websocket(yard: Yard) -> None:
    ends = []

    def behave(talk: Talk) -> None:
        talk.head()
        talk.say(SWITCH)
        ends.append(talk.ends())

    async with proxied(yard, behave) as proxy:
        with calling(Caller(identity("alice")), proxy.node.port) as peer:
            await asyncio.to_thread(lambda: peer.say(UPGRADE % b"websocket").head())
            yard.unpin("alice")
            assert await asyncio.to_thread(peer.ends) == "cut"
        await proxy.node.until(lambda: bool(ends))
        assert not len(proxy.node.server.live)
    assert ends == ["reset"]


@on_loops("uvloop")
async def test_nothing_but_a_change_that_was_asked_for_and_made_lets_bytes_past(yard: Yard) -> None:
    """Otherwise a peer could ask in its own words, in another's name (h2c, and servers that answer 426 to a bad version)."""
    heard = []

    def behave(talk: Talk) -> None:
        while True:
            heard.append(talk.head())
            talk.say(OK)

    async with proxied(yard, behave) as proxy:

        def run() -> None:
            with calling(Caller(identity("alice")), proxy.node.port) as peer:
                peer.say(UPGRADE % b"websocket" + GET.replace(b"\r\n\r\n", b"\r\nX-Peer-Name: bob\r\n\r\n"))
                assert peer.exactly(2 * len(OK)) == OK + OK
                peer.say(UPGRADE % b"h2c")
                assert peer.exactly(len(OK)) == OK

        await asyncio.to_thread(run)
    assert heard == [UPGRADE % b"websocket", GET, GET]

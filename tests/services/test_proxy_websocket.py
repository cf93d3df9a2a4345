"""WebSocket through an HTTP proxy, with aiohttp on both sides; and what is not WebSocket and wants to be let past."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from peerauth.address import Address
from peerauth.http.routes import Route, Routes
from peerauth.trust.policy import Policy
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


OPS = Policy("default", frozenset(), frozenset({"ops"}))


@on_loops()
async def test_a_websocket_ends_when_its_peer_loses_the_tag_that_the_route_needed(yard: Yard) -> None:
    """As at a removal: with a reset on both sides. Bob, who keeps the tag, and what is open to anybody, go on."""
    yard.pin("bob")
    for name in ("alice", "bob"):
        yard.place(f"{name}.toml", 'tags = ["ops"]')
    ends: list[str] = []

    def behave(talk: Talk) -> None:
        talk.head()
        talk.say(SWITCH + b"hello")
        while (said := talk.sock.recv(100)) not in (b"", b"bye"):
            talk.say(said)
        ends.append("end")

    routes = Routes([Route("/", policy=OPS), Route("/open")])
    async with proxied(yard, behave, routes=routes) as proxy:

        def opened(name: str, path: bytes) -> Talk:
            peer = stack.enter_context(calling(Caller(identity(name)), proxy.node.port))
            peer.say(UPGRADE.replace(b"GET / ", b"GET %b " % path) % b"websocket")
            peer.head()
            assert peer.exactly(5) == b"hello"
            return peer

        with contextlib.ExitStack() as stack:
            cut = await asyncio.to_thread(opened, "alice", b"/chat")
            kept = [await asyncio.to_thread(opened, *which) for which in (("alice", b"/open"), ("bob", b"/chat"))]
            began = time.monotonic()
            yard.place("alice.toml", 'note = "no tag any more"')
            assert await asyncio.to_thread(cut.ends) in ("cut", "reset")
            assert time.monotonic() - began < 1.0
            event = await proxy.node.hears("ended", peer="alice")
            assert (event.code, event.message.rpartition(": ")[2]) == ("not-allowed", "the route / is not for alice")
            for peer in kept:
                peer.say(b"still there?")
                assert await asyncio.to_thread(peer.exactly, 12) == b"still there?"
            yard.place("bob.toml", 'tags = ["ops", "more"]')
            await proxy.node.hears("peer-changed", peer="bob")
            for peer in kept:
                peer.say(b"and now?")
                assert await asyncio.to_thread(peer.exactly, 8) == b"and now?"
                peer.say(b"bye")
            assert len(proxy.node.told("ended")) == 1
        await proxy.node.until(lambda: not len(proxy.node.server.live))


@on_loops("uvloop")
async def test_an_answer_that_goes_on_ends_with_the_tag_and_one_that_is_over_ends_nothing(yard: Yard) -> None:
    yard.place("alice.toml", 'tags = ["ops"]')

    def behave(talk: Talk) -> None:
        while head := talk.head():
            if b"/events" not in head:
                talk.say(OK)
                continue
            talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            talk.ends()
            return

    async with proxied(yard, behave, routes=Routes([Route("/", policy=OPS), Route("/open")])) as proxy:
        with (
            calling(Caller(identity("alice")), proxy.node.port) as streaming,
            calling(Caller(identity("alice")), proxy.node.port) as idle,
        ):

            def begin() -> None:
                streaming.say(GET.replace(b"GET / ", b"GET /events "))
                streaming.until(b"first\r\n")
                idle.say(GET)
                idle.until(OK.partition(b"\r\n\r\n")[2])

            await asyncio.to_thread(begin)
            yard.place("alice.toml", 'note = "no tag any more"')
            assert await asyncio.to_thread(streaming.ends) in ("cut", "reset")
            idle.say(GET.replace(b"GET / ", b"GET /open "))
            await asyncio.to_thread(idle.until, OK.partition(b"\r\n\r\n")[2])
            assert len(proxy.node.told("ended")) == 1

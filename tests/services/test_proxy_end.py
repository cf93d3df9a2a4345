"""A proxy that winds down: idle connections leave, and what was asked by then is answered."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, Running, Yard, identity, on_loops
from tests.support.talking import GET, OK, Talk, calling, proxied

FIRST = GET.replace(b"/ ", b"/first ")
HALF = GET.replace(b"/ ", b"/half ")


class Scene:
    """A program that answers when it may, and a peer who has had one answer. `when`: does something in the loop."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.may = threading.Event()
        self.node: Running
        self.loop: asyncio.AbstractEventLoop

    def behave(self, talk: Talk) -> None:
        """The program."""
        while True:
            head = talk.head()
            said = OK if b"/first" in head else OK[:-1] if b"/half" in head else b""
            talk.say(said)
            if said != OK:
                self.asked.set()
                self.may.wait(DEADLINE_S)
                talk.say(OK.removeprefix(said))

    def wind_down(self) -> None:
        """As the server does, in the loop."""
        (door,) = self.node.server.doors._doors
        door.offer.wind_down()
        self.may.set()

    def soon(self) -> None:
        """Wind down."""
        self.loop.call_soon_threadsafe(self.wind_down)


def asked(scene: Scene, peer: Talk) -> bytes:
    """The program has the request."""
    peer.say(GET)
    scene.asked.wait(DEADLINE_S)
    scene.soon()
    return peer.until(b"ok")


def half_there(scene: Scene, peer: Talk) -> bytes:
    """The proxy has a part of the header."""
    peer.say(GET[:10])
    while not any(one.waiting for one in scene.node.server.live.everyone()):  # type: ignore[attr-defined]
        time.sleep(0.01)
    scene.soon()
    peer.say(GET[10:])
    return peer.until(b"ok")


def unread(scene: Scene, peer: Talk) -> bytes:
    """The request is in the socket, and the proxy has not looked."""
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go.wait(DEADLINE_S)
        scene.wind_down()

    scene.loop.call_soon_threadsafe(hold)
    held.wait(DEADLINE_S)
    peer.say(GET)
    go.set()
    return peer.until(b"ok")


def half_answered(scene: Scene, peer: Talk) -> bytes:
    """The header of the answer has gone, and promised nothing."""
    peer.say(HALF)
    peer.until(b"\r\n\r\n")
    scene.soon()
    return peer.until(b"ok")


def idle(scene: Scene, _: Talk) -> bytes:
    """Nothing goes on."""
    scene.soon()
    return b""


@pytest.mark.parametrize(
    ("case", "says_so"), [(asked, True), (half_there, True), (unread, True), (half_answered, False), (idle, False)]
)
@on_loops()
async def test_what_was_asked_by_then_is_answered_and_nothing_after(
    case: Callable[[Scene, Talk], bytes], says_so: bool, tmp_path: Path
) -> None:
    yard, scene = Yard(tmp_path / "peers"), Scene()
    yard.pin("alice")

    def visit() -> bytes:
        with calling(Caller(identity("alice")), scene.node.port) as peer:
            peer.say(FIRST)
            assert peer.exactly(len(OK)) == OK
            heard = case(scene, peer)
            assert peer.ends() == "goodbye"
            return heard

    async with proxied(yard, scene.behave) as proxy:
        scene.node, scene.loop = proxy.node, asyncio.get_running_loop()
        heard = await asyncio.to_thread(visit)
    assert (b"Connection: close" in heard) == says_so

"""A service whose own code raises ends its connection, says so, and harms nobody else."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from peerauth import Node
from peerauth.audit import REFUSALS_AT_ONCE, Event
from peerauth.services.guest import Handler
from peerauth.store import home as homes
from peerauth.trust.decision import Admitted
from tests.support.dropin import NOW
from tests.support.engine import Caller, Greeter, Yard, descriptors, identity, on_loops, running


class Broken(Greeter):
    """Fails when it is given the connection of eve."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.greeting == b"hello eve\n":
            raise RuntimeError("no\x1b[2J way")


def failing(admitted: Admitted) -> Greeter:
    if admitted.peer.name == "eve":
        raise RuntimeError("no\x1b[2J way")
    return Greeter(admitted)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """alice, who is served, and eve, with whom the service fails."""
    made = Yard(tmp_path / "peers")
    made.pin("alice")
    made.pin("eve")
    return made


@pytest.mark.parametrize("handler", [failing, Broken])
@on_loops()
async def test_handler_that_raises_leaves_nothing_behind(yard: Yard, handler: Handler) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with running(yard, handler=handler) as node:
        assert await asyncio.to_thread(Caller(identity("alice")).hear, node.port) == "hello alice"
        await node.until(lambda: len(node.server.live) == 0)
        before = descriptors()
        for _ in range(3):
            heard = await asyncio.to_thread(Caller(identity("eve")).hear, node.port)
            assert heard in {"cut", "closed", "hello eve"}  # what was written before the failure may arrive
            assert len(node.server.live) == 0
            await node.until(lambda: node.server.live.share.tally.connections == 0)  # nor room, of which there is little
        event = await node.hears("problem", code="handler-failed", peer="eve")
        assert "RuntimeError: no\\x1b[2J way" in event.message
        assert await asyncio.to_thread(Caller(identity("alice")).hear, node.port) == "hello alice"
        await node.until(lambda: descriptors() <= before)
        assert [str(context["exception"]) for context in told] == ["no\x1b[2J way"] * 3


@on_loops("uvloop")
async def test_handler_that_always_raises_does_not_fill_a_log(yard: Yard) -> None:
    traced: list[object] = []  # asyncio's handler writes a log of its own, with a traceback
    asyncio.get_running_loop().set_exception_handler(lambda _, context: traced.append(context))
    async with running(yard, handler=failing) as node:
        for _ in range(2 * REFUSALS_AT_ONCE):
            await asyncio.to_thread(Caller(identity("eve")).hear, node.port)
        assert REFUSALS_AT_ONCE <= len(node.told("problem", code="handler-failed")) < 2 * REFUSALS_AT_ONCE
        assert len(traced) == len(node.told("problem", code="handler-failed"))


@on_loops()
async def test_handler_of_the_library_that_raises_ends_its_connection(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    homes.create(tmp_path / "node", "node", identity("node"), NOW, None, force=False)
    node = Node.load(tmp_path / "node")
    node.peers.add("alice", identity("alice").certificate.pem)
    events: list[Event] = []

    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(1))
        raise ZeroDivisionError("oh")

    def call(port: int) -> None:
        with Caller(identity("alice")).open(port) as tls, contextlib.suppress(OSError):
            tls.sendall(b"x")
            while tls.recv(100):
                pass

    async with await node.start_server(fail, "127.0.0.1", on_event=events.append) as server:
        await asyncio.to_thread(call, server.port)
        await asyncio.wait_for(server._server.live.none_left(), 10)
    assert [event.code for event in events if event.event == "problem"] == ["handler-failed"]
    assert [type(context["exception"]) for context in told] == [ZeroDivisionError]

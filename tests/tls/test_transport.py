"""A transport hears of the end of its connection, whatever the loop has told it before."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

import pytest

from peerauth.trust.decision import Admitted
from tests.support.engine import Caller, Yard, identity, on_loops, running

RESET = struct.pack("ii", 1, 0)


class Listening(asyncio.Protocol):
    """Hears, and wants no more at first if it is `lazy`."""

    def __init__(self, *, lazy: bool) -> None:
        self.lazy = lazy
        self.heard = 0
        self.end: Exception | str | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.lazy:
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.heard += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end = exc or "goodbye"


@pytest.mark.parametrize("lazy", [False, True])
@on_loops()
async def test_a_reset_that_comes_together_with_data_ends_the_connection(tmp_path: Path, lazy: bool) -> None:
    """The loop is busy when both come, and libuv tells of them once."""
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    made: list[Listening] = []

    def handler(_: Admitted) -> Listening:
        made.append(Listening(lazy=lazy))
        return made[-1]

    async with running(yard, handler=handler) as node:
        tls = await asyncio.to_thread(Caller(identity("alice")).open, node.port)
        await node.until(lambda: len(node.server.live) == 1)
        tls.sendall(b"x" * 100)
        tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        tls.close()
        if lazy:
            await asyncio.sleep(0)
            transport = made[0].transport
            assert transport is not None
            transport.resume_reading()
        await node.until(lambda: made[0].end is not None)
        assert isinstance(made[0].end, ConnectionResetError)
        assert made[0].heard == 100
        assert len(node.server.live) == 0

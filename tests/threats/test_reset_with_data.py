"""A peer that sends something and breaks off at once, while nobody answers it: its connection ends, and its room is free."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import pytest

from peerauth.address import Address
from peerauth.store.kinds import Http, Kind, Relay
from tests.support.engine import Caller, Yard, identity, on_loops, running
from tests.support.targets import everything, target

RESET = struct.pack("ii", 1, 0)  # SO_LINGER with a time of zero


def mute(sock: socket.socket) -> None:
    """A target that hears, and says nothing."""
    everything(sock)


def relay(where: Address) -> Kind:
    return Relay((where,))


def proxy(where: Address) -> Kind:
    return Http((where,))


@pytest.mark.parametrize("kind", [relay, proxy])
@on_loops()
async def test_a_reset_that_comes_with_data_is_noticed(yard: Yard, kind: Callable[[Address], Kind]) -> None:
    yard.pin("alice")
    with target(mute) as where:
        async with running(yard, kind=kind(where)) as node:
            tls = await asyncio.to_thread(Caller(identity("alice")).open, node.port)
            tls.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
            await node.until(lambda: len(node.server.live) == 1)
            tls.sendall(b"x" * 100)
            tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            tls.close()
            await node.until(lambda: len(node.server.live) == 0)

"""A local door to a peer: plain connections taken here, each carried to the peer through a pinned one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from peerauth.client.dial import Dialer
from peerauth.client.target import Target
from peerauth.errors import PeerAuthError
from peerauth.net.splice import Front, Side

FRESH_S: Final = 1.0  # how old the peers that a connection is judged by may be


class _TlsSide(Side):
    """The far side; it keeps the reason when the peer refuses us late."""

    def __init__(self, broken: Callable[[Exception], None]) -> None:
        super().__init__()
        self._broken = broken

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, PeerAuthError):
            self._broken(exc)
        super().connection_lost(exc)


async def tunnel(
    dialer: Dialer, target: Target, sockets: list[socket.socket], failed: Callable[[BaseException], None]
) -> None:
    """Serve the local listening sockets until cancelled; `failed` is told why a connection could not be carried.

    Each connection presents the identity that is on disk when it begins, and is judged by the peers as of `FRESH_S` before.
    """
    loop = asyncio.get_running_loop()
    looked_at = loop.time()

    def renew() -> None:
        nonlocal dialer
        try:
            dialer = dialer.renewed()
        except PeerAuthError as error:
            failed(error)

    async def look() -> None:
        nonlocal looked_at
        if dialer.refresh is not None and loop.time() >= looked_at + FRESH_S:
            looked_at = loop.time()
            await asyncio.to_thread(dialer.refresh)

    async def reach(side: Side) -> None:
        renew()
        await look()
        try:
            await dialer.connect(target, side)
        except PeerAuthError as error:
            failed(error)
            raise

    def front() -> Front:
        far = _TlsSide(lambda error: failed(dialer.explained(error, target)))
        return Front(lambda side: loop.create_task(reach(side)), far)

    servers: list[asyncio.Server] = []
    for sock in sockets:
        create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
        servers.append(await create(front, sock=sock))
    try:
        await asyncio.Event().wait()
    finally:
        for server in servers:
            server.close()

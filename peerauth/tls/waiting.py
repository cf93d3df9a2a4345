"""Waiting for a socket in asyncio, one readiness at a time."""

from __future__ import annotations

import asyncio
import socket

from peerauth.tls.session import Wait


async def ready(loop: asyncio.AbstractEventLoop, sock: socket.socket, wait: Wait) -> None:
    """Return when the socket can be read from or written to."""
    told: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_reader, loop.remove_reader) if wait is Wait.READABLE else (loop.add_writer, loop.remove_writer)

    def now_ready() -> None:
        if not told.done():
            told.set_result(None)

    add(sock.fileno(), now_ready)
    try:
        await told
    finally:
        remove(sock.fileno())

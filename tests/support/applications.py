"""ASGI applications on the real engine, in this process, and HTTP as a socket says it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

from peerauth.services.asgi import Asgi
from peerauth.services.offers import Offer
from peerauth.store.config import Limits
from peerauth.tls.context import HTTP_1_1, MinimumVersion
from tests.support.engine import Caller, Running, Yard, identity, running

Application = Callable[..., Any]
Scope = dict[str, Any]


@contextlib.asynccontextmanager
async def applying(
    yard: Yard, app: Application, *, limits: Limits | None = None, min_tls: MinimumVersion = "1.3"
) -> AsyncIterator[Running]:
    """A server of this application, which is stopped with the block."""
    asgi = Asgi(app, "the application", websockets=True)
    await asgi.start()
    offer = Offer(asgi.serve, asgi.close, asgi.wind_down)
    async with running(yard, offer=offer, alpn=HTTP_1_1, limits=limits, min_tls=min_tls) as node:
        yield node


async def answer(send: Any, body: bytes = b"ok", status: int = 200, *more: tuple[bytes, bytes]) -> None:  # noqa: ANN401
    """Answer a request."""
    headers = [(b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def request(target: str = "/", *fields: str, method: str = "GET", body: bytes = b"") -> bytes:
    """A request as it is sent."""
    length = (f"Content-Length: {len(body)}",) if body else ()
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: node", *length, *fields, "", "")).encode() + body


def heard(tls: ssl.SSLSocket) -> bytes:
    """One answer with a Content-Length, head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = tls.recv(1)
        if not piece:
            return data
        data += piece
    length = next(int(line[15:]) for line in data.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while length:
        piece = tls.recv(length)
        assert piece, data
        data += piece
        length -= len(piece)
    return data


def status(data: bytes) -> int:
    """The status of an answer."""
    return int(data.split(b" ", 2)[1])


def until_the_end(tls: ssl.SSLSocket) -> tuple[bytes, str]:
    """All that comes, and how it ends: `goodbye` or `cut`."""
    data = b""
    try:
        while piece := tls.recv(65536):
            data += piece
    except (ssl.SSLEOFError, ConnectionError):
        return data, "cut"
    return data, "goodbye"


async def said(node: Running, *pieces: bytes, name: str = "alice", pause: float = 0) -> tuple[bytes, str]:
    """What comes back on one connection for these bytes, sent one after the other, and how it ends."""

    def talk() -> tuple[bytes, str]:
        with Caller(identity(name)).open(node.port) as tls:
            tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for piece in pieces:
                    tls.sendall(piece)
                    if pause:
                        tls.settimeout(pause)
                        with contextlib.suppress(TimeoutError):
                            early = tls.recv(65536)
                            return early + until_the_end(tls)[0], "early"
                tls.settimeout(30)
            except (ssl.SSLError, ConnectionError):
                pass  # it has answered already
            return until_the_end(tls)

    return await asyncio.to_thread(talk)

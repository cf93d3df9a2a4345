"""An ASGI application under uvicorn, which prints where it listens; answers as echo_http_server.py does."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn


async def echo(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    """Say what was asked, by whom, and with which body."""
    body, more = hashlib.sha256(), True
    while more:
        message = await receive()
        body.update(message.get("body", b""))
        more = message.get("more_body", False)
    name = dict(scope["headers"]).get(b"x-peer-name", b"nobody").decode()
    said = f"{scope['method']} {scope['path']} {name} {body.hexdigest()}\n".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(said)).encode())]})
    await send({"type": "http.response.body", "body": said})


sock = socket.create_server(("127.0.0.1", 0))
print(f"listening 127.0.0.1:{sock.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(echo, lifespan="off", log_level="critical")).run(sockets=[sock])

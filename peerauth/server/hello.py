"""The hello service: says who you are. A small ASGI application under uvicorn's own HTTP protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from peerauth.server.guarded import Application, Receive, Scope, Send
from peerauth.trust.decision import Admitted
from peerauth.trust.peers import Peer

_PATHS = ("/", "/hello")


async def hello(
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """`GET /hello`: `Hello, alice!`, or as JSON (Accept: application/json) who the peer is."""
    del receive
    peer: Peer = scope["state"]["peer"]
    accepts = b",".join(value for name, value in scope["headers"] if name == b"accept")
    if scope["path"] not in _PATHS:
        status, kind, body = 404, b"text/plain", "there is nothing here; try /hello\n"
    elif scope["method"] not in ("GET", "HEAD"):
        status, kind, body = 405, b"text/plain", "only GET and HEAD are answered here\n"
    elif b"application/json" in accepts:
        facts = {"peer": peer.name, "fingerprint": scope["state"]["fingerprint"], "tags": list(peer.tags)}
        status, kind, body = 200, b"application/json", json.dumps({"hello": peer.name, **facts}) + "\n"
    else:
        status, kind, body = 200, b"text/plain", f"Hello, {peer.name}!\n"
    headers = [(b"content-type", kind + b"; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    if status == 405:
        headers.append((b"allow", b"GET, HEAD"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body.encode()})


def hello_handler(application: Application = hello) -> Callable[[Admitted], asyncio.Protocol]:
    """The handler of the hello service; `application` is hello, or hello with something before it."""
    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    from uvicorn.server import ServerState

    class Protocol(HttpToolsProtocol):
        """HTTP/1.1, in which every request has the peer of the latest decision."""

        def on_message_begin(self) -> None:
            """A request begins."""
            self.app_state["peer"] = self.transport.get_extra_info("peer")
            super().on_message_begin()

    config = Config(
        application,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=75,
    )
    config.load()
    state = ServerState()

    def protocol(admitted: Admitted) -> asyncio.Protocol:
        known = {"peer": admitted.peer, "fingerprint": str(admitted.fingerprint)}
        return Protocol(config=config, server_state=state, app_state=known)

    return protocol

"""The hello service: says who you are. A small ASGI application."""

from __future__ import annotations

import json

from peerauth.services.guarded import Receive, Scope, Send
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

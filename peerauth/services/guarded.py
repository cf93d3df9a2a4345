"""An ASGI application behind routes: it hears only what they allow, under the path that was judged.

What is wrong or not allowed is answered here, and the application never hears of it. Who asks is `scope["state"]["peer"]`:
that has to be the peer of the latest decision, because a change of its tags counts at once, also for what is
under way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from peerauth.address import Address
from peerauth.audit import Audit, Event
from peerauth.http.errors import BadRequest
from peerauth.http.introduction import overrides_method
from peerauth.http.routes import Denied
from peerauth.http.target import Target, normalise
from peerauth.services.asgi import under
from peerauth.services.denials import denied_event
from peerauth.store.config import Service
from peerauth.trust.peers import Peer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def guarded(application: Application, service: Service, audit: Audit) -> Application:
    """The same application, with the routes of this service before it, if it has any; the log hears of what they deny."""
    if (routes := service.routes) is None:
        return application

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await application(scope, receive, send)
            return
        try:
            target = _target(scope)
        except BadRequest as error:
            await _answer(scope, send, error.status, error.reason)
            return
        peer: Peer = scope["state"]["peer"]
        method = _method(scope)
        denied = routes.decide(method, target.path, peer)
        if denied is not None:
            audit.refused(lambda: _event(service.name, denied, scope, target))
            await _answer(scope, send, 403, denied.rule)
            return
        scope["path"] = target.path
        scope["raw_path"] = target.forwarded.partition(b"?")[0]

        def rule(peer: Peer) -> str | None:
            denied = routes.decide(method, target.path, peer)
            return None if denied is None else denied.rule

        with under(scope, rule):
            await application(scope, receive, send)

    return guard


def _method(scope: Scope) -> bytes:
    method: str = scope.get("method", "GET")  # a WebSocket begins with GET (RFC 6455 section 4.1)
    return method.encode("ascii", "replace")


def _target(scope: Scope) -> Target:
    """What is asked for, in the one form of it. Raises BadRequest."""
    if any(overrides_method(name) for name, _ in scope["headers"]):
        raise BadRequest("where routes decide, no field of the header may name another method")
    raw: bytes = scope["raw_path"]
    if query := scope["query_string"]:
        raw += b"?" + query
    return normalise(raw, _method(scope))


def _event(service: str, denied: Denied, scope: Scope, target: Target) -> Event:
    state, client = scope["state"], scope["client"]
    address = str(Address(*client)) if client else "a Unix socket"
    asked = f"{scope.get('method', 'GET')} {target.path}"
    fingerprint = state["fingerprint"]
    return denied_event(denied, asked, service=service, peer=state["peer"], fingerprint=fingerprint, address=address)


async def _answer(scope: Scope, send: Send, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})  # before it was accepted: 403 (ASGI)
        return
    body = f"{status} {HTTPStatus(status).phrase}: {text}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

"""What a service is made of: from its kind, as config.toml has it, to what serves its guests in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from peerauth.server.audit import Audit
from peerauth.server.guest import Serve
from peerauth.store.config import Service
from peerauth.store.kinds import Hello, Relay
from peerauth.tls.context import HTTP_1_1


async def _nothing() -> None:
    """There is nothing to be closed."""


@dataclass(frozen=True)
class Offer:
    """A service that is ready to serve.

    `wind_down` is called when the server begins to stop: connections on which nothing goes on end, so that nobody waits for
    them. `close` is awaited when the last guest has gone.
    """

    serve: Serve
    close: Callable[[], Awaitable[None]] = _nothing
    wind_down: Callable[[], None] = lambda: None


async def make_offer(service: Service, audit: Audit) -> Offer:
    """Make this service ready, in the running loop, before anybody is let in. Raises PeerAuthError."""
    match service.kind:
        case Hello():
            from peerauth.server.asgi import Asgi
            from peerauth.server.hello import hello

            asgi = Asgi(hello, "hello")
            return Offer(asgi.serve, asgi.close, asgi.wind_down)
        case Relay(target):
            from peerauth.server.relay import relay_service

            return Offer(relay_service(service.name, target, audit))
    from peerauth.store.kind_app import App

    match service.kind:
        case App() as app:
            from peerauth.server.app_loading import load
            from peerauth.server.asgi import Asgi

            asgi = Asgi(load(app), app.leads_to, websockets=True)
            await asgi.start()
            return Offer(asgi.serve, asgi.close, asgi.wind_down)
    raise AssertionError(f"nobody serves a {type(service.kind).__name__}")


def alpn_of(service: Service) -> tuple[bytes, ...]:
    """What is spoken inside TLS at this service besides peerauth/1, as ALPN names it; nothing for a relay."""
    return HTTP_1_1 if service.kind.speaks_http else ()

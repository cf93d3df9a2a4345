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
    """A service that is ready to serve. `close` is awaited once, when the last of its guests has gone."""

    serve: Serve
    close: Callable[[], Awaitable[None]] = _nothing


async def make_offer(service: Service, audit: Audit) -> Offer:
    """Make this service ready, in the running loop, before anybody is let in. Raises PeerAuthError."""
    match service.kind:
        case Hello():
            from peerauth.server.guest import by_protocol
            from peerauth.server.hello import hello_handler

            return Offer(by_protocol(hello_handler()))
        case Relay(target):
            from peerauth.server.relay import relay_service

            return Offer(relay_service(service.name, target, audit))
    raise AssertionError(f"nobody serves a {type(service.kind).__name__}")


EVERY_ALPN: tuple[tuple[bytes, ...], ...] = ((), HTTP_1_1)


def alpn_of(service: Service) -> tuple[bytes, ...]:
    """What is spoken inside TLS at this service besides peerauth/1, as ALPN names it; nothing for a relay."""
    return HTTP_1_1 if service.kind.speaks_http else ()

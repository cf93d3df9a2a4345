"""An ASGI application for guests: uvicorn's own protocols on our transport, and in the scope who is calling.

The scope's `state` has `peer` (a `Peer`, by the latest decision when the request began) and `fingerprint`; its `extensions`
have `tls` (https://asgi.readthedocs.io/en/latest/specs/tls.html). Nothing that the other side says changes these, nor
`client` and `scheme`: no header is believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from peerauth.services.app_log import bound
from peerauth.services.guest import Guest
from peerauth.services.http_bounds import BoundedHttp
from peerauth.services.lifespan import Application, Lifespan
from peerauth.services.moving import STALL, MovingTransport
from peerauth.services.patience import Patience
from peerauth.tls.session import Session
from peerauth.tls.transport import TlsTransport
from peerauth.trust.certificate import Certificate
from peerauth.trust.peers import Peer

KEEP_ALIVE = 75  # seconds that a connection may be idle
LAST_WORK = 1.5  # seconds for what goes on when the guests have gone
SHUTDOWN = 2.5  # seconds for the application's own shutdown; together less than a worker gets from its parent
_CALLER = "peerauth.caller"
# RFC 8446 appendix B.4, RFC 5289 and RFC 7905, by OpenSSL's names: those that tls/context.py speaks.
_SUITES = {
    "TLS_AES_128_GCM_SHA256": 0x1301,
    "TLS_AES_256_GCM_SHA384": 0x1302,
    "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
    "ECDHE-ECDSA-AES128-GCM-SHA256": 0xC02B,
    "ECDHE-ECDSA-AES256-GCM-SHA384": 0xC02C,
    "ECDHE-RSA-AES128-GCM-SHA256": 0xC02F,
    "ECDHE-RSA-AES256-GCM-SHA384": 0xC030,
    "ECDHE-RSA-CHACHA20-POLY1305": 0xCCA8,
    "ECDHE-ECDSA-CHACHA20-POLY1305": 0xCCA9,
}
_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class Asgi:
    """An application in this loop, and the connections that it serves. Whoever wraps it is told who calls as it is."""

    def __init__(
        self,
        app: Application,
        name: str,
        *,
        websockets: bool = False,
        lifespan: Lifespan | None = None,
        transport: Callable[[Guest, asyncio.Protocol, Patience], MovingTransport] = MovingTransport,
    ) -> None:
        self._make_transport = transport
        self._patience = Patience(asyncio.get_running_loop(), STALL / 4)
        ws: Any = "none"
        if websockets:
            from peerauth.services.websocket_bounds import BoundedWebSocket  # noqa: PLC0415 - hello has none

            ws = BoundedWebSocket
        self._config = Config(
            _introduced(app),
            http=BoundedHttp,
            ws=ws,
            interface="asgi3",
            lifespan="off",  # it has its own
            log_config=None,
            access_log=False,
            proxy_headers=False,
            workers=1,  # else an environment variable has a say
            timeout_keep_alive=KEEP_ALIVE,
        )
        self._config.load()
        bound()
        self._state = ServerState()
        self._lifespan = lifespan or Lifespan(app, name)

    async def start(self) -> None:
        """Have the application start. Raises AppFailed."""
        await self._lifespan.start()

    def serve(self, guest: Guest) -> TlsTransport:
        """Serve a guest."""
        caller = _Caller()
        known = {**self._lifespan.state, _CALLER: caller}
        protocol = BoundedHttp(config=self._config, server_state=self._state, app_state=known)
        caller.transport = transport = self._make_transport(guest, protocol, self._patience)
        return transport

    def wind_down(self) -> None:
        """Let what is under way be the last: idle connections end now, others after their answer, WebSockets by 1012."""
        for connection in list(self._state.connections):
            try:
                connection.shutdown()
            except Exception:  # noqa: BLE001 - one that is ending in another way already holds up no other
                connection.transport.abort()

    async def close(self) -> None:
        """End what goes on without a guest, and have the application shut down."""
        tasks = set(self._state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LAST_WORK)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=LAST_WORK / 3)
        self._patience.close()
        await self._lifespan.stop(SHUTDOWN)


class _Caller:
    """Who is at the other end of a connection."""

    transport: TlsTransport

    def introduce(self, scope: dict[str, Any]) -> None:
        """Say it in the scope of a request."""
        admitted = self.transport.admitted
        state = scope["state"]
        state["peer"] = admitted.peer
        state["fingerprint"] = str(admitted.fingerprint)
        scope.setdefault("extensions", {})["tls"] = self._tls

    @property
    def gone(self) -> bool:
        """Whether nothing that is said to it arrives any more."""
        return self.transport.is_closing()

    @functools.cached_property
    def _tls(self) -> dict[str, Any]:
        session: Session = self.transport.session
        chain, name = _described(session.certificate)
        return {
            "server_cert": _described(session.own_certificate)[0],
            "client_cert_chain": [] if chain is None else [chain],
            "client_cert_name": name,
            "client_cert_error": None,
            "tls_version": _VERSIONS.get(session.version),
            "cipher_suite": _SUITES.get(session.cipher),
        }


@contextlib.contextmanager
def under(scope: MutableMapping[str, Any], rule: Callable[[Peer], str | None]) -> Iterator[None]:
    """Have the connection end when what it is asked for within is not for its peer any more, by this rule."""
    caller: _Caller = scope[_CALLER]
    caller.transport.rule = rule
    try:
        yield
    finally:
        if caller.transport.rule is rule:  # else the next request has begun
            caller.transport.rule = None


def abort(scope: MutableMapping[str, Any]) -> None:
    """End the connection of this request with a reset."""
    caller: _Caller = scope[_CALLER]
    caller.transport.abort()


def caller_is_gone(scope: dict[str, Any]) -> bool:
    """Whether nobody hears the answer to this request any more."""
    caller: _Caller = scope[_CALLER]
    return caller.gone


@functools.lru_cache(maxsize=1024)
def _described(der: bytes | None) -> tuple[str | None, str | None]:
    """(PEM, subject as RFC 4514 writes it) of a certificate."""
    if der is None:
        return None, None
    certificate = Certificate(der)
    return certificate.pem, certificate.distinguished_name


def _introduced(app: Application) -> Application:
    async def introduced(scope: dict[str, Any], receive: Any, send: Any) -> Any:  # noqa: ANN401 - ASGI
        caller = scope[_CALLER] = scope["state"].pop(_CALLER)
        caller.introduce(scope)
        return await app(scope, receive, send)

    return introduced

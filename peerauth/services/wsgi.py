"""A WSGI application (PEP 3333) as an ASGI one, by a2wsgi, which runs it in threads.

Its environ says who calls, in the names that Apache's mod_ssl made usual, and by `peerauth.peer` and `peerauth.fingerprint`.
No header can set these: a client's are all called HTTP_*.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from a2wsgi import WSGIMiddleware

from peerauth.services.asgi import caller_is_gone
from peerauth.services.lifespan import Application

THREADS = 32  # requests at a time
Environ = dict[str, Any]
_VERSIONS = {0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}


def as_asgi(app: Callable[..., Iterable[bytes]]) -> Application:
    """The application, to be called as ASGI."""

    def introduced(environ: Environ, start_response: Any) -> Iterable[bytes]:  # noqa: ANN401 - WSGI
        scope = environ["asgi.scope"]
        _introduce(environ, scope)
        return _Answer(app(environ, start_response), scope)

    middleware = WSGIMiddleware(introduced, workers=THREADS)  # type: ignore[arg-type] # of its own types for the same

    async def wsgi(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        if scope["type"] == "lifespan":
            try:
                await middleware(scope, receive, send)
            finally:
                middleware.executor.shutdown(wait=False, cancel_futures=True)
            return
        call = _Call(scope, receive, send)
        await middleware(call.scope, call.receive, call.send)  # type: ignore[arg-type] # as above
        call.check()

    return wsgi


def _introduce(environ: Environ, scope: dict[str, Any]) -> None:
    tls = scope["extensions"]["tls"]
    peer = scope["state"]["peer"]
    environ["wsgi.errors"] = sys.stderr  # standard output is for events
    environ["wsgi.input_terminated"] = True  # it ends where the body does, also without a Content-Length
    environ["REMOTE_USER"] = peer.name
    environ["peerauth.peer"] = peer
    environ["peerauth.fingerprint"] = scope["state"]["fingerprint"]
    environ["HTTPS"] = "on"
    environ["SSL_PROTOCOL"] = _VERSIONS.get(tls["tls_version"], "")
    environ["SSL_CLIENT_VERIFY"] = "SUCCESS"
    environ["SSL_CLIENT_CERT"] = "".join(tls["client_cert_chain"])
    environ["SSL_CLIENT_S_DN"] = tls["client_cert_name"] or ""


class _Call:
    """One request: what a2wsgi would take for the end of a body, or would wait for forever, is an error in its place."""

    def __init__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        # WSGI cannot tell x_a from x-a: of the two, only the one that HTTP is written with is taken (as gunicorn does).
        self.scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if b"_" not in name]}
        self._receive = receive
        self._send = send
        self._failure: Exception | None = None

    async def receive(self) -> Any:  # noqa: ANN401 - ASGI
        """The next part of the body."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client has gone before the end of the request")
        return message

    async def send(self, message: Any) -> None:  # noqa: ANN401 - ASGI
        """Send, unless it has failed before: a thread may be waiting for this to be done."""
        if self._failure is None:
            try:
                await self._send(message)
            except Exception as error:  # noqa: BLE001 - said at the end
                self._failure = error

    def check(self) -> None:
        """Say why it could not be sent."""
        if self._failure is not None:
            raise self._failure


class _Answer:
    """The answer's parts, for as long as somebody hears them."""

    def __init__(self, parts: Iterable[bytes], scope: dict[str, Any]) -> None:
        self._parts = parts
        self._scope = scope

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            if caller_is_gone(self._scope):
                return
            yield part

    def close(self) -> None:
        """As WSGI has it: whatever became of the answer."""
        getattr(self._parts, "close", lambda: None)()

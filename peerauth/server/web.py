"""uvicorn's HTTP/1.1, with bounds: how long a head may be, and no line in a log for what a peer sends."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

LONGEST_HEAD = 64 << 10  # bytes of a request line and its fields, or of what stands behind a chunked body
KEEP_ALIVE = 75  # seconds

_SILENT = logging.Logger("http", logging.CRITICAL + 1)  # noqa: LOG001 - without a parent: nobody hears what it is told


def make_config(app: Callable[..., Awaitable[None]]) -> Config:
    """How uvicorn serves this application here."""
    config = Config(
        app,
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who calls is known here, and nobody says it for them
        lifespan="off",
        ws="none",
        timeout_keep_alive=KEEP_ALIVE,
    )
    config.load()
    return config


class WebProtocol(HttpToolsProtocol):
    """HTTP/1.1 with one peer. What fails in the application is the application's to report."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self.logger = _SILENT
        self._head = 0  # bytes since a head or a body went on

    def on_message_begin(self) -> None:
        """A request begins: it is the peer's by the latest decision, whose notes may have changed."""
        super().on_message_begin()
        self.scope["state"]["peer"] = self.transport.get_extra_info("peer")

    def data_received(self, data: bytes) -> None:
        """As asyncio.Protocol."""
        self._head += len(data)
        super().data_received(data)
        if self._head > LONGEST_HEAD and not self.transport.is_closing():
            self.transport.write(STATUS_LINE[431] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()

    def on_headers_complete(self) -> None:
        """A head is complete."""
        self._head = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Some of a body has come."""
        self._head = 0
        super().on_body(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio.Protocol."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # or its timer would keep what is over

    def eof_received(self) -> bool:  # type: ignore[override]
        """As asyncio.Protocol. Whoever has said all there is to say gets the answer still (RFC 9112 section 9.6)."""
        if getattr(self.cycle, "response_complete", True):  # at first there is no cycle
            return False
        self.cycle.keep_alive = False
        return True

"""asyncio's streams over a session: two directions that end by themselves, and errors that say what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from peerauth.tls.session import Session

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Streams(asyncio.StreamReaderProtocol):
    """The protocol below them. `explain` makes of what ended it, and of whether anything was heard, what is raised."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        handler: Handler | None = None,
        explain: Callable[[BaseException, bool], BaseException] | None = None,
    ) -> None:
        super().__init__(reader, handler)
        self._explain = explain
        self._session: Session | None = None
        self.ended_here: Exception | None = None  # why, where the connection was reset here
        self.on_lost: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio says."""
        super().connection_made(transport)
        self._session = transport.get_extra_info("sslcontext")

    def eof_received(self) -> bool:
        """The other side sends no more; we still may."""
        super().eof_received()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio says."""
        if self.on_lost is not None:
            self.on_lost()
        exc = self.ended_here or exc
        explained: BaseException | None = exc
        if exc is not None and self._explain is not None and self._session is not None:
            explained = self._explain(exc, self._session.heard)
        super().connection_lost(explained if isinstance(explained, Exception) else exc)

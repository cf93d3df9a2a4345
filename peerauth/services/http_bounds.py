"""uvicorn's HTTP/1.1, with bounds to what a peer can make it hold or wait for before there is a request.

uvicorn itself bounds an idle connection that has had an answer, and nothing else.
"""

from __future__ import annotations

import asyncio
import functools
import time
from email.utils import formatdate
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIME = 20.0  # seconds from the first byte of a request to the end of its head
MOST_HEAD = 64 << 10  # bytes of a head, or of the trailers behind a body; what is read at once may come on top
MOST_WAITING = 100  # requests on one connection that wait for the answers before theirs
_WHY = {
    HTTPStatus.BAD_REQUEST: "this is no request in HTTP/1.1, which is all that is spoken here",
    HTTPStatus.REQUEST_TIMEOUT: "the header of the request did not come in time",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "the header is longer than 64 KB",
}


class _Refused(Exception):
    """In a callback of the parser."""


class BoundedHttp(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """As asyncio has it."""
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._unread = 0  # bytes since there was a head, or a part of a body
        self._refusal = HTTPStatus.BAD_REQUEST
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio has it."""
        self._head_is_there()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As asyncio has it."""
        self._unread += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        if self._unread > MOST_HEAD:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._deadline is None and self.timeout_keep_alive_task is None and not self._under_way:
            self._deadline = self.loop.call_later(HEAD_TIME, self._refuse, HTTPStatus.REQUEST_TIMEOUT)

    @property
    def _under_way(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr] # it is None at first

    def eof_received(self) -> bool:  # type: ignore[override] # as uvicorn has it
        """As asyncio has it. Whoever has said all there is to say gets the answer still (RFC 9112 section 9.6)."""
        if not self._under_way:
            return False
        self.cycle.keep_alive = False
        return True

    # What the parser has found

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._head_is_there()
        if self._unread > MOST_HEAD and len(self.url) + sum(len(n) + len(v) + 4 for n, v in self.headers) > MOST_HEAD:
            self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise _Refused
        self._unread = 0
        if len(self.pipeline) >= MOST_WAITING:
            raise _Refused
        asked = self.parser.should_upgrade()
        upgrades = asked and self._should_upgrade()
        if asked and (self._has_body or (upgrades and self.parser.get_method() != b"GET")):
            raise _Refused  # llhttp takes no body there, and no WebSocket begins otherwise (RFC 6455 section 4.1)
        self.server_state.default_headers = _date(int(time.time()))
        super().on_headers_complete()
        if asked and not upgrades:
            self.cycle.keep_alive = False  # the parser has left what stands behind it

    @property
    def _has_body(self) -> bool:
        return any(n == b"transfer-encoding" or (n == b"content-length" and v != b"0") for n, v in self.headers)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._unread = 0
        super().on_body(body)

    def _head_is_there(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # The end of those who keep to none of it

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed, or is too much."""
        del msg
        self._refuse(self._refusal)

    def _refuse(self, status: HTTPStatus) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self._under_way:  # its answer must not look complete
            self.transport.abort()
            return
        body = f"{status.value} {status.phrase}: {_WHY[status]}\n"
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode())
        self.transport.close()


class _Date(list[tuple[bytes, bytes]]):
    """The Date of an answer that has none of its own: a second one would be malformed (RFC 9110 section 5.3).

    uvicorn puts what it is given as default in front of the fields of the application, by `+`.
    """

    def __add__(self, fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:  # type: ignore[override]
        """The fields of an answer."""
        return fields if any(name.lower() == b"date" for name, _ in fields) else [*self, *fields]


@functools.lru_cache(maxsize=1)
def _date(now: int) -> _Date:
    """The Date of an answer, RFC 9110 section 6.6.1."""
    return _Date([(b"date", formatdate(now, usegmt=True).encode())])

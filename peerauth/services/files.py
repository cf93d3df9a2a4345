"""The files beneath a directory, for peers to read: an ASGI application under uvicorn's HTTP.

Whatever may wait for a disk is done by threads of the service: a file system that hangs holds up those who ask for what is
on it, and not the loop, in which others are removed, relayed and let in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from peerauth.audit import Audit, Event
from peerauth.errors import printable
from peerauth.http.filepath import parse_path
from peerauth.services.asgi import Asgi, abort
from peerauth.services.disk_threads import DiskThreads
from peerauth.services.finding import NOT_HERE, Finder, Question, Reply, said
from peerauth.services.guarded import Receive, Scope, Send, guarded
from peerauth.services.pouring import PouringTransport
from peerauth.services.stretch import Stretch
from peerauth.store.config import Service

_THREADS = 8
_PIECE = 64 << 10  # bytes of a body that is in memory, written one after the other
_PATIENCE = 60.0  # seconds in which such a body is taken: so long it is held
_BODY = {b"content-length", b"transfer-encoding"}
_NOSNIFF = (b"x-content-type-options", b"nosniff")  # nobody guesses at what a file is
_METHODS = (b"allow", b"GET, HEAD, OPTIONS")


class Files:
    """The files of a service. `key`: the node's private key, which is never served."""

    def __init__(self, service: Service, directory: Path, key: Path | None, audit: Audit) -> None:
        self._name = service.name
        self._finder = Finder(directory, key)
        self._audit = audit
        self._threads = DiskThreads(_THREADS)
        asgi = Asgi(
            guarded(self.answer, service, audit),
            service.name,
            transport=lambda guest, protocol, patience: PouringTransport(guest, protocol, patience, self._threads),
        )
        self.serve, self.wind_down, self._close = asgi.serve, asgi.wind_down, asgi.close

    async def close(self) -> None:
        """Wait for no disk any more."""
        await self._close()
        self._threads.shutdown()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; an ASGI application."""
        del receive
        try:
            reply = await self._reply(scope)
            with reply.file or contextlib.nullcontext():
                await _send(reply, send, scope)
        except TimeoutError:
            abort(scope)
        except Exception as error:
            text = f"the service '{self._name}' failed: {type(error).__name__}: {printable(str(error))}"
            self._audit.refused(Event("problem", text, service=self._name, code="handler-failed"))
            raise  # to uvicorn, which answers with 500, or cuts the answer off

    async def _reply(self, scope: Scope) -> Reply:
        method: str = scope["method"]
        if method == "OPTIONS":
            return Reply(204, (_METHODS,))
        if method not in {"GET", "HEAD"}:
            return said(405, "files are only read here", _METHODS)
        asked = parse_path(scope["raw_path"])
        if asked is None:
            return NOT_HERE
        question = Question(method, asked, _fields(scope["headers"]), scope["query_string"])
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._finder.find, question)
        except OSError as error:
            path = printable("/" + os.fsdecode(b"/".join(asked.names)))
            reason = error.strerror or type(error).__name__
            text = f"the service '{self._name}' cannot read {path}: {reason}"
            self._audit.refused(Event("problem", text, service=self._name, code="cannot-read"))
            return said(503, "it cannot be read just now")


def _fields(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """By name in lower case; several lines of one name are one (RFC 9110 section 5.3)."""
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        fields[name] = fields[name] + b", " + value if name in fields else value
    return fields


def _is_closing(scope: Scope) -> bool:
    """Whether a body may follow that nobody reads, or none although one was announced (RFC 9110 section 10.1.1)."""
    names = {name for name, _ in scope["headers"]}
    return b"expect" in names or (scope["method"] not in {"GET", "HEAD", "OPTIONS"} and not names.isdisjoint(_BODY))


async def _send(reply: Reply, send: Send, scope: Scope) -> None:
    """Send an answer."""
    headers = [*reply.fields, _NOSNIFF]
    if _is_closing(scope):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    for part in reply.parts if scope["method"] != "HEAD" else ():
        if isinstance(part, bytes):
            async with asyncio.timeout(_PATIENCE):
                for at in range(0, len(part), _PIECE):
                    await send(_body(part[at : at + _PIECE]))
            continue
        assert reply.file is not None
        stretch = Stretch(reply.file, part.start, part.length)
        await send(_body(stretch))
        if not (stretch.taken and await stretch.gone):
            return
    await send({"type": "http.response.body", "body": b""})


def _body(body: bytes | Stretch) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}

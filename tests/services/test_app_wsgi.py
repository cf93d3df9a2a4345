"""A WSGI application: its environ says who calls, what breaks off never looks whole, and its answers end with its guests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from peerauth.services.wsgi import as_asgi
from tests.support.applications import applying, request, said, status, until_the_end
from tests.support.engine import Caller, Yard, identity, on_loops

LAST = "Connection: close"


class Wsgi:
    """/environ says what it is told, /length how long the body was, / streams without an end. `told`: what happened."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.news = threading.Event()

    def note(self, what: str) -> None:
        self.told.append(what)
        self.news.set()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401 - WSGI
        match environ["PATH_INFO"]:
            case "/environ":
                known = ("REMOTE", "SSL_", "HTTP", "peerauth.fingerprint", "wsgi.url_scheme", "wsgi.input_terminated")
                told = {key: value for key, value in environ.items() if key.startswith(known)}
                told["tags"] = environ["peerauth.peer"].tags
                return self._answer(start_response, json.dumps(told).encode())
            case "/length":
                try:
                    size = len(environ["wsgi.input"].read())
                except Exception as error:
                    self.note(f"broken: {type(error).__name__}")
                    raise
                self.note(f"complete: {size}")
                return self._answer(start_response, str(size).encode())
            case "/short":
                start_response("200 OK", [("Content-Length", "3")])
                return self._stream(1000)
            case _:
                start_response("200 OK", [])
                return self._stream(10**9)

    def _answer(self, start_response: Any, body: bytes) -> Iterable[bytes]:  # noqa: ANN401 - WSGI
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    def _stream(self, count: int) -> Iterator[bytes]:
        try:
            for _ in range(count):
                yield b"x" * 1000
        finally:
            self.note("closed")


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    made = Yard(tmp_path / "peers")
    made.pin("alice", settings='tags = ["admin"]')
    return made


@on_loops()
async def test_the_environ_says_who_calls_and_no_header_does(yard: Yard) -> None:
    lies = (
        "Remote-User: root",
        "REMOTE_USER: root",
        "SSL-Client-Verify: NONE",
        "X-Forwarded-For: 6.6.6.6",
        "X-Name: one",
        "X_Name: other",
    )
    async with applying(yard, as_asgi(Wsgi())) as node:
        data, _ = await said(node, request("/environ", LAST, *lies))
    told = json.loads(data.partition(b"\r\n\r\n")[2])
    own = identity("alice").certificate
    assert {key: value for key, value in told.items() if not key.startswith("HTTP_")} == {
        "REMOTE_USER": "alice",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": told["REMOTE_PORT"],
        "HTTPS": "on",
        "SSL_PROTOCOL": "TLSv1.3",
        "SSL_CLIENT_VERIFY": "SUCCESS",
        "SSL_CLIENT_CERT": own.pem,
        "SSL_CLIENT_S_DN": own.distinguished_name,
        "peerauth.fingerprint": str(own.fingerprint),
        "wsgi.url_scheme": "https",
        "wsgi.input_terminated": True,
        "tags": ["admin"],
    }
    assert told["HTTP_REMOTE_USER"] == "root"  # as any header, under a name of its own
    assert told["HTTP_X_NAME"] == "one"


@on_loops()
async def test_a_body_that_breaks_off_is_an_error_and_a_whole_one_is_not(yard: Yard) -> None:
    app = Wsgi()
    whole = request("/length", LAST, method="POST", body=b"b" * 300_000)
    chunked = request("/length", "Transfer-Encoding: chunked", LAST, method="POST") + b"3\r\nabc\r\n0\r\n\r\n"
    async with applying(yard, as_asgi(app)) as node:
        for sent in (whole, chunked):
            data, _ = await said(node, sent)
            assert status(data) == 200
        for sent in (whole[:-1], chunked[:-5]):
            app.news.clear()
            with contextlib.closing(await asyncio.to_thread(Caller(identity("alice")).open, node.port)) as tls:
                await asyncio.to_thread(tls.sendall, sent)
            assert await asyncio.to_thread(app.news.wait, 10), (app.told, len(sent))
    assert app.told == ["complete: 300000", "complete: 3", "broken: ConnectionResetError", "broken: ConnectionResetError"]


@on_loops("uvloop")
async def test_an_answer_without_an_end_ends_with_its_guest(yard: Yard) -> None:
    app = Wsgi()
    async with applying(yard, as_asgi(app)) as node:
        tls = await asyncio.to_thread(Caller(identity("alice")).open, node.port)
        await asyncio.to_thread(tls.sendall, request())
        await asyncio.to_thread(tls.recv, 1000)
        yard.unpin("alice")
        _, end = await asyncio.to_thread(until_the_end, tls)
        assert end == "cut"
        assert await asyncio.to_thread(app.news.wait, 10)
        tls.close()
    assert app.told == ["closed"]


@on_loops("uvloop")
async def test_an_answer_that_is_longer_than_it_says_keeps_no_thread(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    app = Wsgi()
    async with applying(yard, as_asgi(app)) as node:
        _, end = await said(node, request("/short"))
        assert end in {"cut", "goodbye"}
        assert await asyncio.to_thread(app.news.wait, 10)
        await node.until(lambda: "longer than Content-Length" in caplog.text)


@on_loops("uvloop")
async def test_a_websocket_is_not_offered_where_there_is_none(yard: Yard) -> None:
    fields = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: " + "A" * 22 + "==",
    )
    async with applying(yard, as_asgi(Wsgi())) as node:

        def ask() -> bytes:
            with Caller(identity("alice")).open(node.port) as tls:
                tls.sendall(request("/", *fields))
                return tls.recv(1000)

        assert status(await asyncio.to_thread(ask)) == 403

"""What a peer can make an application's server hold or wait for before there is a request; the twins are served."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from peerauth.services import asgi, http_bounds
from tests.support.applications import Scope, answer, applying, heard, request, said, status
from tests.support.engine import Caller, Running, Yard, identity, on_loops


async def counts(scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    """Answers how long the body was; /wait waits for the client to go."""
    if scope["type"] != "http":
        raise TypeError("no lifespan")
    size = 0
    message: dict[str, Any] = {"more_body": True}
    while message.get("more_body"):
        message = await receive()
        size += len(message.get("body", b""))
    while scope["path"] == "/wait" and message["type"] != "http.disconnect":
        message = await receive()
    await answer(send, str(size).encode())


async def refuses(scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    """Refuses every WebSocket."""
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.close"})


LAST = "Connection: close"
FIELD = "A: " + "a" * 1000


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    made = Yard(tmp_path / "peers")
    made.pin("alice")
    return made


def trailers(count: int) -> bytes:
    head = request("/", "Transfer-Encoding: chunked", LAST, method="POST")
    return head + b"3\r\nabc\r\n0\r\n" + f"{FIELD}\r\n".encode() * count + b"\r\n"


@on_loops("uvloop")
async def test_a_head_that_is_too_large_is_refused_and_one_that_is_not_is_answered(yard: Yard) -> None:
    async with applying(yard, counts) as node:
        for pieces, expected in (
            ([request("/", *[FIELD] * 60, LAST)], 200),
            ([request("/", *[FIELD] * 70, LAST)], 431),  # whole fields
            ([request("/", "A: " + "a" * 60_000, LAST)], 200),
            ([b"GET / HTTP/1.1\r\nA: ", *[b"a" * 10_000] * 20], 431),  # one that does not end
            ([b"GET /", *[b"a" * 10_000] * 20], 431),  # a target that does not end
            ([b"\r\n" * 1000, request("/", LAST)], 200),
            ([b"\r\n" * 10_000] * 20, 431),
            ([trailers(20)], 200),
            ([trailers(70)], None),  # its answer may have begun: cut
            ([request("/", "Transfer-Encoding: chunked", LAST, method="POST"), b"1;" + b"e" * 200_000], None),
            ([request("/", LAST, method="POST", body=b"b" * 1_000_000)], 200),
        ):
            data, end = await said(node, *pieces)
            if expected is None:
                assert (data, end) == (b"", "cut") or status(data) in {200, 431}, data
            else:
                assert status(data) == expected, (pieces[0][:60], data, end)


@on_loops("uvloop")
async def test_a_head_that_is_not_there_in_time_is_refused_and_a_slow_body_is_not(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_bounds, "HEAD_TIME", 0.3)
    async with applying(yard, counts) as node:
        drops = [request("/", LAST)[at : at + 1] for at in range(12)]
        data, _ = await said(node, *drops, pause=0.1)  # never silent for long
        assert status(data) == 408
        data, _ = await said(node, b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\r\n", pause=0.1)
        assert status(data) == 408
        slow = request("/", LAST, method="POST", body=b"12345678")
        data, end = await said(node, slow[:-4], slow[-4:-2], slow[-2:], pause=0.2)
        assert (status(data), data[-1:]) == (200, b"8"), end


@on_loops("uvloop")
async def test_an_idle_connection_ends_before_its_first_request_and_after_an_answer(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "KEEP_ALIVE", 0.2)
    async with applying(yard, counts) as node:
        assert await said(node) == (b"", "goodbye")
        data, end = await said(node, request())
        assert (status(data), end) == (200, "goodbye")


@on_loops("uvloop")
async def test_requests_in_a_row_are_answered_in_order_up_to_a_bound(yard: Yard) -> None:
    async with applying(yard, counts) as node:
        row = [request("/", method="POST", body=b"b" * size) for size in range(1, 60)]
        data, _ = await said(node, b"".join(row) + request("/", LAST))
        assert [part[-2:].strip() for part in data.split(b"HTTP/1.1 200")[1:]] == [
            f"{size}".encode() for size in (*range(1, 60), 0)
        ]
        data, end = await said(node, request() * (http_bounds.MOST_WAITING + 20))
        assert (data.count(b"HTTP/1.1 200") < http_bounds.MOST_WAITING, end) == (True, "cut")


@on_loops("uvloop")
async def test_an_upgrade_that_is_not_made_loses_no_body_and_no_request(yard: Yard) -> None:
    h2c = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
    websocket = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAA")
    async with applying(yard, counts) as node:
        data, end = await said(node, request("/", *h2c))
        assert (status(data), end) == (200, "goodbye")
        assert b"\r\nconnection: close\r\n" in data
        for fields in (h2c, websocket):
            data, _ = await said(node, request("/", *fields, method="POST", body=b"body"))
            assert status(data) == 400
        data, _ = await said(node, b"CONNECT node:443 HTTP/1.1\r\nHost: node:443\r\n\r\n")
        assert status(data) == 400


@on_loops("uvloop")
async def test_a_websocket_with_more_fields_than_it_may_have_is_refused(yard: Yard) -> None:
    fields = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {'A' * 22}==")
    many = tuple(f"X-{number}: y" for number in range(200))
    async with applying(yard, refuses) as node:
        for more, expected in ((many[:100], 403), (many, 431), (("X: " + "y" * 8000,), 403), (("X: " + "y" * 9000,), 431)):
            data, _ = await said(node, request("/", *fields, *more))
            assert status(data) == expected, more[0][:20]
        data, _ = await said(node, request("/" + "y" * 9000, *fields))
        assert status(data) == 414


@on_loops("uvloop")
async def test_junk_behind_a_request_under_way_does_not_become_a_part_of_its_answer(yard: Yard) -> None:
    async with applying(yard, counts) as node:
        assert await said(node, request("/wait"), b"\0\0\0 junk\r\n\r\n") == (b"", "cut")
        data, _ = await said(node, b"\0\0\0 junk\r\n\r\n")
        assert status(data) == 400


@on_loops("uvloop")
async def test_who_begins_with_http_2_is_told_what_is_spoken(yard: Yard) -> None:
    async with applying(yard, counts) as node:
        data, end = await said(node, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert (status(data), end) == (400, "goodbye")
        assert data.endswith(b"400 Bad Request: this is no request in HTTP/1.1, which is all that is spoken here\n")


@on_loops("uvloop")
async def test_an_answer_has_its_date(yard: Yard) -> None:
    async with applying(yard, counts) as node:
        data, _ = await said(node, request("/", LAST))
        assert data.count(b"\r\ndate: ") == 1


async def rate(node: Running, count: int) -> int:
    def ask() -> int:
        with Caller(identity("alice")).open(node.port) as tls:
            for _ in range(count):
                tls.sendall(request())
                assert status(heard(tls)) == 200
        return count

    return await asyncio.to_thread(ask)


@on_loops("uvloop")
async def test_a_connection_serves_as_many_requests_as_come(yard: Yard) -> None:
    async with applying(yard, counts) as node:
        assert await rate(node, 500) == 500


@on_loops("uvloop")
async def test_an_application_that_says_the_date_itself_sends_one(yard: Yard) -> None:
    """As RFC 9110 section 6.6.1 has it: who makes an answer may date it, and there is one Date."""
    asked = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {'A' * 22}==")
    own = (b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT")

    async def dates(scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        also = [own] if scope["path"] == "/own" else []
        if scope["type"] == "http":
            await answer(send, b"", 200, *also)
        else:
            await receive()
            await send({"type": "websocket.accept", "headers": also})
            await send({"type": "websocket.close"})

    async with applying(yard, dates) as node:
        for path, is_own in (("/own", True), ("/", False)):
            for fields, expected in (((LAST,), 200), (asked, 101)):
                data, _ = await said(node, request(path, *fields))
                found = [line for line in data.split(b"\r\n") if line.lower().startswith(b"date:")]
                assert (status(data), len(found)) == (expected, 1), data
                assert (own[1] in found[0]) is is_own

"""The head of a response: what is not passed on, and what of it goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.http.body import Chunked, Sized, UntilEnd
from peerauth.http.response import BadResponse, own_answer, read_response


def head(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"".join(line + b"\r\n" for line in (first, *lines, b""))


@pytest.mark.parametrize(
    "data",
    [
        head(first=b"HTTP/2 200 OK"),
        head(first=b"HTTP/1.1 20 OK"),
        head(first=b"HTTP/1.1 2000 OK"),
        head(first=b"HTTP/1.1 099 OK"),
        head(first=b"HTTP/1.1  200 OK"),
        head(first=b"http/1.1 200 OK"),
        head(first=b"HTTP/1.1 200 O\0K"),
        head(b"A: b\nC: d"),
        head(b"A: b\rC: d"),
        head(b"A: b", b" c"),
        head(b"A : b"),
        head(b"A"),
        head(b"Content-Length: 1", b"Transfer-Encoding: chunked"),
        head(b"Content-Length: 1", b"Content-Length: 1"),
        head(b"Content-Length: 1, 1"),
        head(b"Content-Length: -1"),
        head(b"Transfer-Encoding: gzip, chunked"),
        head(b"Transfer-Encoding: chunked, identity"),
        head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        head(b"Transfer-Encoding: chunked", first=b"HTTP/1.0 200 OK"),
        head(*[b"A: b"] * 501),
    ],
    ids=lambda data: data[:60].decode("latin-1"),
)
def test_what_can_be_read_in_two_ways_is_not_passed_on(data: bytes) -> None:
    with pytest.raises(BadResponse):
        read_response(data)


@pytest.mark.parametrize(
    ("data", "method", "kind", "ends"),
    [
        (head(b"Content-Length: 3"), b"GET", Sized, False),
        (head(b"Content-Length: 3", b"Connection: Close"), b"GET", Sized, True),
        (head(b"Transfer-Encoding: chunked"), b"GET", Chunked, False),
        (head(), b"GET", UntilEnd, True),
        (head(first=b"HTTP/1.0 200 OK"), b"GET", UntilEnd, True),
        (head(b"Content-Length: 3", first=b"HTTP/1.0 200 OK"), b"GET", Sized, True),
        (head(b"Content-Length: 3", b"Connection: keep-alive", first=b"HTTP/1.0 200 OK"), b"GET", Sized, False),
        (head(b"Content-Length: 3"), b"HEAD", None, False),
        (head(), b"HEAD", None, False),
        (head(b"Transfer-Encoding: chunked"), b"HEAD", None, False),
        (head(b"Content-Length: 3", first=b"HTTP/1.1 204 No Content"), b"GET", None, False),
        (head(b"Content-Length: 3", first=b"HTTP/1.1 304 Not Modified"), b"GET", None, False),
        (head(first=b"HTTP/1.1 103 Early Hints"), b"GET", None, False),
        (head(first=b"HTTP/1.1 200"), b"GET", UntilEnd, True),
        (head(first=b"HTTP/1.1 599 "), b"GET", UntilEnd, True),
    ],
)
def test_how_long_the_body_is(data: bytes, method: bytes, kind: type | None, ends: bool) -> None:
    """RFC 9112 section 6.3."""
    response = read_response(data)
    body = response.body(method)
    assert type(body) is (kind or type(None))
    assert (response.ends or kind is UntilEnd) is ends


def test_a_response_is_written_anew() -> None:
    response = read_response(
        head(
            b"Content-Length:  03",
            b"Connection: X-Gone, keep-alive",
            b"X-Gone: 1",
            b"Keep-Alive: timeout=1",
            b"Proxy-Authenticate: a",
            b"Set-Cookie:a=b",
            b"Set-Cookie: c=d ",
        ),
    )
    kept = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n"
    assert response.written(chunked=False, close=False) == kept + b"Content-Length: 3\r\n\r\n"
    assert response.written(chunked=False, close=True) == kept + b"Connection: close\r\nContent-Length: 3\r\n\r\n"


def test_a_body_without_a_length_goes_on_in_chunks() -> None:
    assert read_response(head(b"A: b")).written(chunked=True, close=False) == (
        b"HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n"
    )


def test_no_content_has_no_length() -> None:
    """RFC 9110 section 8.6; of HEAD and 304 it is that of another answer."""
    for first, has in ((b"204 No Content", False), (b"304 Not Modified", True), (b"103 Early Hints", False)):
        response = read_response(head(b"Content-Length: 3", first=b"HTTP/1.1 " + first))
        assert (b"Content-Length: 3" in response.written(chunked=False, close=False)) is has
    assert b"Content-Length: 3" in read_response(head(b"Content-Length: 3")).written(chunked=False, close=False)


def test_only_websocket_is_changed_to() -> None:
    first = b"HTTP/1.1 101 Switching Protocols"
    assert read_response(head(b"Upgrade: websocket", b"Connection: Upgrade", first=first)).websocket
    assert not read_response(head(b"Upgrade: h2c", b"Connection: Upgrade", first=first)).websocket
    assert not read_response(head(b"Upgrade: websocket", first=first)).websocket
    assert not read_response(head(b"Upgrade: websocket", b"Connection: Upgrade")).websocket


def test_an_answer_of_ours_is_whole() -> None:
    answer = own_answer(502, "no", close=True)
    top, _, body = answer.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert b"Connection: close" in top
    assert body == b"502 Bad Gateway: no\n"
    assert f"Content-Length: {len(body)}".encode() in top
    assert own_answer(502, "no", close=True, head_only=True) == top + b"\r\n\r\n"
    assert b"Connection" not in own_answer(502, "no", close=False)


@given(st.binary(max_size=200))
def test_no_junk_breaks_the_reader(junk: bytes) -> None:
    for data in (junk + b"\r\n\r\n", head(junk), head(b"A: " + junk)):
        try:
            written = read_response(data).written(chunked=False, close=False)
        except BadResponse:
            continue
        assert read_response(written).written(chunked=False, close=False) == written

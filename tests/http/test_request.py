"""The head of a request: what is refused, and what of it goes on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerauth.http import fields
from peerauth.http.body import Chunked, Sized
from peerauth.http.errors import BadRequest
from peerauth.http.request import LONGEST_HEAD, About, Request, check_beginning, read_request

PLAIN = b"GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n"
VIA = b"Via: 1.1 peerauth\r\n"
CHARACTERS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def head(*lines: bytes, first: bytes = b"GET / HTTP/1.1", host: bool = True) -> bytes:
    return b"".join(line + b"\r\n" for line in (first, *((b"Host: h",) if host else ()), *lines, b""))


def passed(*lines: bytes, first: bytes = b"GET / HTTP/1.1") -> bytes:
    """What goes on of these lines, without the first line, the Host and who we are."""
    written = read_request(head(*lines, first=first)).written(b"backend", b"")
    _, _, rest = written.partition(b"\r\nHost: h\r\n")
    assert rest.count(VIA) == 1
    assert rest.endswith(b"\r\n")
    return rest[:-2].replace(VIA, b"")


def test_a_request_is_written_anew() -> None:
    request = read_request(head(b"Accept:*/*", b"X-One:  a \t", b"x-two:\tb\xe9"))
    assert request.written(b"backend", b"X-Peer-Name: alice\r\n") == (
        b"GET / HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nX-One: a\r\nx-two: b\xe9\r\n" + VIA + b"X-Peer-Name: alice\r\n\r\n"
    )


REFUSED = {
    "bare LF at the end of the first line": (PLAIN.replace(b"1.1\r\n", b"1.1\n"), 400),
    "bare LF at the end of a field": (head(b"A: b\nC: d"), 400),
    "bare CR in a value": (head(b"A: b\rC: d"), 400),
    "NUL in a value": (head(b"A: b\0c"), 400),
    "control character in a value": (head(b"A: b\x01c"), 400),
    "DEL in a value": (head(b"A: b\x7fc"), 400),
    "folded field": (head(b"A: b", b" c"), 400),
    "folded field with a tab": (head(b"A: b", b"\tc"), 400),
    "whitespace before the first field": (head(b" A: b", host=False, first=b"GET / HTTP/1.0"), 400),
    "whitespace before the colon": (head(b"A : b"), 400),
    "tab before the colon": (head(b"A\t: b"), 400),
    "no colon": (head(b"A"), 400),
    "no name": (head(b": b"), 400),
    "parenthesis in a name": (head(b"A(: b"), 400),
    "high byte in a name": (head(b"A\xe9: b"), 400),
    "empty line before the request": (b"\r\n" + PLAIN, 400),
    "two spaces": (head(first=b"GET  / HTTP/1.1"), 400),
    "tab for a space": (head(first=b"GET\t/ HTTP/1.1"), 400),
    "space at the end of the first line": (head(first=b"GET / HTTP/1.1 "), 400),
    "no version": (head(first=b"GET /"), 400),
    "HTTP in lower case": (head(first=b"GET / http/1.1"), 400),
    "HTTP/1.2": (head(first=b"GET / HTTP/1.2"), 505),
    "HTTP/2.0": (head(first=b"GET / HTTP/2.0"), 505),
    "the preface of HTTP/2": (head(first=b"PRI * HTTP/2.0", host=False), 505),
    "HTTP/11": (head(first=b"GET / HTTP/1.10"), 505),
    "unknown method": (head(first=b"FOO / HTTP/1.1"), 501),
    "method in lower case": (head(first=b"get / HTTP/1.1"), 501),
    "fragment": (head(first=b"GET /#a HTTP/1.1"), 400),
    "high byte in the target": (head(first=b"GET /\xe9 HTTP/1.1"), 400),
    "CONNECT": (head(first=b"CONNECT h:1 HTTP/1.1"), 501),
    "target of another host": (head(first=b"GET http://other/ HTTP/1.1"), 400),
    "target of another port": (head(first=b"GET http://h:81/ HTTP/1.1"), 400),
    "target with somebody's name": (head(first=b"GET http://a@h/ HTTP/1.1"), 400),
    "* for GET": (head(first=b"GET * HTTP/1.1"), 400),
    "no Host": (head(host=False), 400),
    "two Hosts": (head(b"Host: h"), 400),
    "two Hosts, spelled differently": (head(b"hOST: i"), 400),
    "Host with a space": (head(b"Host: a b", host=False), 400),
    "Host with a path": (head(b"Host: a/b", host=False), 400),
    "empty Host": (head(b"Host:", host=False), 400),
    "both lengths": (head(b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400),
    "two lengths": (head(b"Content-Length: 1", b"Content-Length: 1"), 400),
    "two lengths in one": (head(b"Content-Length: 1, 1"), 400),
    "length with a sign": (head(b"Content-Length: +1"), 400),
    "negative length": (head(b"Content-Length: -1"), 400),
    "hexadecimal length": (head(b"Content-Length: 0x1"), 400),
    "length with an underscore": (head(b"Content-Length: 1_0"), 400),
    "length of other digits": (head(b"Content-Length: \xd9\xa1"), 400),
    "empty length": (head(b"Content-Length:"), 400),
    "length beyond all reason": (head(b"Content-Length: " + b"9" * 19), 400),
    "chunked and identity": (head(b"Transfer-Encoding: chunked, identity"), 400),
    "chunked, not last": (head(b"Transfer-Encoding: chunked, gzip"), 400),
    "gzip, chunked": (head(b"Transfer-Encoding: gzip, chunked"), 400),
    "chunked twice": (head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    "chunked with a vertical tab": (head(b"Transfer-Encoding: \x0bchunked"), 400),
    "another coding": (head(b"Transfer-Encoding: gzip"), 501),
    "no coding": (head(b"Transfer-Encoding:"), 501),
    "chunked in HTTP/1.0": (head(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"), 400),
    "Connection names Host": (head(b"Connection: close, Host"), 400),
    "Connection names Content-Length": (head(b"Connection: content-length", b"Content-Length: 1"), 400),
    "another expectation": (head(b"Expect: 200-ok"), 417),
    "too many fields": (head(*[b"A: b"] * 100), 431),
    "too long": (head(b"A: " + b"b" * LONGEST_HEAD), 431),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_two_parsers_could_read_differently_is_refused(what: str) -> None:
    data, status = REFUSED[what]
    with pytest.raises(BadRequest) as refused:
        read_request(data)
    assert refused.value.status == status, refused.value.reason
    assert refused.value.reason.isprintable()


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        head(b"Content-Length: 1"),
        head(b"Content-Length: 0001"),
        head(b"Transfer-Encoding: Chunked"),
        head(b"Connection: close, keep-alive"),
        head(b"Expect: 100-Continue", b"Content-Length: 1"),
        head(*[b"A: b"] * 99),
        head(b"A: " + b"b" * (LONGEST_HEAD - 40)),
        head(first=b"GET http://H/x HTTP/1.1"),
        head(first=b"OPTIONS * HTTP/1.1"),
        head(first=b"GET / HTTP/1.0", host=False),
        head(b"Host: [::1]:8443", host=False),
        head(b"A:"),
    ],
    ids=lambda data: data[:60].decode(),
)
def test_the_twins_of_what_is_refused_are_read(data: bytes) -> None:
    assert read_request(data).written(b"backend", b"").endswith(b"\r\n\r\n")


def test_an_absolute_target_becomes_a_path() -> None:
    written = read_request(head(first=b"GET http://h/a?b HTTP/1.1")).written(b"", b"")
    assert written.startswith(b"GET /a?b HTTP/1.1\r\nHost: h\r\n")


def test_a_request_without_a_host_gets_that_of_the_backend() -> None:
    written = read_request(head(first=b"GET / HTTP/1.0", host=False)).written(b"127.0.0.1:8000", b"")
    assert written == b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nVia: 1.0 peerauth\r\n\r\n"


@pytest.mark.parametrize(
    ("lines", "rest"),
    [
        ([b"Connection: keep-alive", b"Keep-Alive: timeout=5"], b""),
        ([b"Connection: X-Gone, close", b"X-Gone: 1", b"x-gone: 2", b"X-Stays: 3"], b"X-Stays: 3\r\n"),
        ([b"Proxy-Authorization: a", b"Proxy-Connection: b", b"Proxy-Authenticate: c"], b""),
        ([b"Proxy: http://mallory/"], b""),
        ([b"Content_Length: 5", b"transfer_Encoding: chunked", b"X_Plain: 1"], b"X_Plain: 1\r\n"),
        ([b"TE: gzip"], b""),
        ([b"TE: trailers, gzip"], b"Connection: TE\r\nTE: trailers\r\n"),
        ([b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: A"], b""),
        ([b"Upgrade: websocket"], b""),
        ([b"Upgrade: websocket, h2c", b"Connection: upgrade"], b""),
        ([b"Upgrade: WebSocket", b"Connection: keep-alive, Upgrade"], b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        ([b"Upgrade: websocket", b"Connection: Upgrade", b"Content-Length: 1"], b"Content-Length: 1\r\n"),
        ([b"Content-Length: 007"], b"Content-Length: 7\r\n"),
        ([b"Content-Length: 0"], b"Content-Length: 0\r\n"),
        ([b"Trailer: X-Sum"], b""),
        ([b"Transfer-Encoding: CHUNKED", b"Trailer: X-Sum"], b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n"),
        ([b"Expect: 100-continue"], b""),
        ([b"Expect: 100-continue", b"Content-Length: 2"], b"Content-Length: 2\r\nExpect: 100-continue\r\n"),
        ([b"X-Peer-Name: mallory", b"x_peer_name: mallory", b"X-Forwarded-For: 1.2.3.4", b"A: a"], b"A: a\r\n"),
        ([b"Connection: X-Peer-Name"], b""),
    ],
)
def test_what_is_about_the_connection_ends_here(lines: list[bytes], rest: bytes) -> None:
    assert passed(*lines) == rest


def test_nothing_of_ours_is_taken_away_by_what_connection_names() -> None:
    request = read_request(head(b"Connection: X-Peer-Name, X-Forwarded-For"))
    ours = b"X-Peer-Name: alice\r\nX-Forwarded-For: 10.0.0.1\r\n"
    assert request.written(b"", ours).endswith(ours + b"\r\n")


@pytest.mark.parametrize(
    ("said", "goes_on"),
    [
        ([], b"1.1 peerauth"),
        ([b"1.0 fred, 2 p.example.net (x)"], b"1.0 fred, 2 p.example.net (x), 1.1 peerauth"),
        ([b"1.0 fred", b" ", b"1.1 peerauth"], b"1.0 fred, 1.1 peerauth, 1.1 peerauth"),
    ],
)
def test_the_program_is_told_which_proxies_a_request_has_come_by(said: list[bytes], goes_on: bytes) -> None:
    """RFC 9110 section 7.6.3: each adds itself behind the others, with the version of what it was sent."""
    for more in ([], [b"Connection: Via"]):  # which cannot be named away
        written = read_request(head(b"A: b", *(b"Via: " + value for value in said), *more)).written(b"", b"X: y\r\n")
        assert written.endswith(b"A: b\r\nVia: " + goes_on + b"\r\nX: y\r\n\r\n")
        old = read_request(head(*(b"via:" + value for value in said), *more, first=b"GET / HTTP/1.0")).written(b"", b"")
        assert old.endswith(b"\r\nVia: " + goes_on[: -len(b"1.1 peerauth")] + b"1.0 peerauth\r\n\r\n")


def test_how_often_it_has_come_by_one_of_us_is_counted() -> None:
    said = [b"1.1 peerauth, HTTP/1.0 PeerAuth (x),1.1 peerauth", b"1.1 nginx, 1.1 xpeerauth, peerauth, ,", b"1.1\tpeerauth"]
    assert read_request(head(*(b"VIA: " + value for value in said))).about.times == 4
    assert read_request(head(b"A: 1.1 peerauth")).about.times == 0


def test_a_websocket_is_asked_for_with_get() -> None:
    upgrade = [b"Upgrade: websocket", b"Connection: Upgrade"]
    assert read_request(head(*upgrade)).websocket
    assert not read_request(head(*upgrade, first=b"POST / HTTP/1.1")).websocket
    assert not read_request(head(*upgrade, first=b"GET / HTTP/1.0")).websocket


def test_a_field_that_names_another_method_is_refused_where_routes_decide() -> None:
    data = head(b"X_HTTP_Method_Override: DELETE")
    assert read_request(data).method == b"GET"
    with pytest.raises(BadRequest):
        read_request(data, routed=True)


def test_the_body_is_as_long_as_the_head_says() -> None:
    sized = read_request(head(b"Content-Length: 12")).body()
    assert isinstance(sized, Sized)
    assert sized.left == 12
    assert isinstance(read_request(head(b"Transfer-Encoding: chunked")).body(), Chunked)


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\nHost", b"\n", b"GET / HTTP/1.1\r\nHost: a\n\n", b"G" * (LONGEST_HEAD + 1)]
)
def test_what_cannot_become_a_head_is_refused_before_its_end(data: bytes) -> None:
    with pytest.raises(BadRequest):
        check_beginning(data)


@given(st.integers(0, len(PLAIN)))
def test_the_beginning_of_a_head_is_waited_for(cut: int) -> None:
    check_beginning(PLAIN[:cut])


FIELDS = st.lists(st.tuples(st.text(CHARACTERS, min_size=1, max_size=20), st.text("abc \t,;=", max_size=20)), max_size=8)


@given(FIELDS, FIELDS)
def test_what_was_said_before_changes_nothing(first: list[tuple[str, str]], then: list[tuple[str, str]]) -> None:
    """The fields of the request before are kept to be compared: whatever they were, this one is read as it is."""

    def read(fields: list[tuple[str, str]], last: object = None) -> object:
        lines = [f"{name}: {value}".encode() for name, value in fields]
        try:
            return read_request(head(*lines), last=last)  # type: ignore[arg-type]
        except BadRequest as error:
            return error.status, error.reason

    before = read(first)
    assert read(then, getattr(before, "about", None)) == read(then)


LINES = st.sampled_from([
    b"Host: h", b"host:h", b"Host: other", b"Accept: */*", b"Accept:text/html", b"A: b", b"a:  b\t", b"A:",
    b"X-Id: 1", b"X-Id: 2", b"Cookie: a=b", b"Connection: X-Id", b"Connection: close", b"Connection: keep-alive",
    b"Connection: Upgrade, a", b"Via: 1.1 a", b"Via: 1.1 peerauth", b"Upgrade: websocket", b"Upgrade: h2c",
    b"TE: trailers", b"Expect: 100-continue", b"Expect: else", b"Content-Length: 1", b"Content-Length: 2",
    b"Content-Length: x", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Content_Length: 1",
    b"Trailer: X-Sum", b"X-Peer-Name: bob", b"x_forwarded_for: 1",
    b"X-HTTP-Method-Override: PUT", b"X_Method_Override: PUT", b"Proxy: a", b"Keep-Alive: 5", b"A : b", b" folded",
    b"\tfolded", b"A: b\nC: d", b"A: b\rC: d", b"A: \0", b"", b"A", b": b", b"A: b\r\nC: d", b"A\xe9: b",
    b"A: \xe9",
])  # fmt: skip
LIST = st.lists(LINES, max_size=6)
CHANGES = st.lists(st.tuples(st.integers(0, 6), LINES), max_size=3)
ORDINARY = [b"Host: h", b"Accept: */*", b"X-Id: 1", b"A: b", b"A: b", b"Cookie: a=b"]


@given(LIST | st.permutations(ORDINARY), st.lists(CHANGES, max_size=6), st.booleans())
@settings(max_examples=400)
def test_a_head_is_read_as_by_itself_whatever_it_shares_with_the_last(
    lines: list[bytes], changes: list[list[tuple[int, bytes]]], routed: bool
) -> None:
    """Fields that were said before, in their place, are not read again; nothing but the time that it takes may tell."""

    def read(data: bytes, last: About | None) -> object:
        try:
            return read_request(data, routed=routed, last=last)
        except BadRequest as error:
            return error.status, error.reason

    kept, last = list(lines), None
    for change in [[], *changes]:
        for place, line in change:
            kept[place : place + 1] = [line]
        data = b"\r\n".join([b"GET / HTTP/1.1", *kept, b"", b""])
        request = read(data, last)
        assert request == read(data, None)
        if isinstance(request, Request):
            assert request.written(b"backend", b"") == read_request(data).written(b"backend", b"")
            last = request.about


@pytest.mark.parametrize(
    ("before", "then"),
    [
        (head(b"X-HTTP-Method: PUT", b"A: b"), head(b"X-HTTP-Method: PUT", b"A: c")),
        (head(b"X-HTTP-Method: PUT", b"A: b"), head(b"B: c", b"A: b")),
        (head(b"B: c", b"A: b"), head(b"X-HTTP-Method: PUT", b"A: b")),
        (head(b"Connection: B", b"A: b"), head(b"Connection: B", b"B: b")),
        (head(b"X-Peer-Name: bob"), head(b"A: b")),
        (head(b"A: b"), head(b"X-Peer-Name: bob")),
        (head(b"A: b"), head(b"A: b", first=b"GET / HTTP/1.0")),
        (head(b"A: b", first=b"GET / HTTP/1.0"), head(b"A: b")),
        (head(), head(b"A: b")[:-2]),  # half a head, which nobody gives it
        (head(b"A: b"), head(b"A: b", b"C: d")),
        (head(b"A: b"), head(b"Host: h", host=False)),
    ],
)
def test_what_ordinary_fields_are_not_alone_in_is_read_anew(before: bytes, then: bytes) -> None:
    def read(data: bytes, last: About | None = None) -> object:
        try:
            return read_request(data, last=last)
        except BadRequest as error:
            return error.status, error.reason

    assert read(then, read_request(before).about) == read(then)


def test_of_fields_that_were_said_before_only_those_that_differ_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    last = read_request(head(*ORDINARY[1:])).about
    monkeypatch.delattr(fields, "sort")
    for at, line in ((2, b"X-Id: 2"), (3, b"A: \xe9"), (4, b"x:"), (5, b"Cookie: " + b"c" * 3000)):
        lines = [*ORDINARY[1:at], line, *ORDINARY[at + 1 :]]
        request = read_request(head(*lines), last=last)
        assert request.about.lines.split(b"\r\n")[at - 1] == line.replace(b"x:", b"x: ")
        last = request.about


@given(st.binary(max_size=200))
def test_no_junk_is_read_as_a_request_or_breaks_the_reader(junk: bytes) -> None:
    for data in (junk + b"\r\n\r\n", head(junk), head(b"A: " + junk)):
        try:
            written = read_request(data).written(b"backend", b"")
        except BadRequest:
            continue
        again = read_request(written).written(b"backend", b"").replace(b" peerauth, 1.1 peerauth\r\n", b" peerauth\r\n")
        assert again == written, "it is not read again as what it was"

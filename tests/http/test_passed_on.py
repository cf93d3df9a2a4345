"""What a program hears of a request that is passed on: exactly this, with who is calling, and no claim of the peer's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.http.doors import Door, door, say
from tests.http.malformed import SMUGGLED
from tests.support.engine import identity
from tests.support.recorder import OK

VIA = b"Via: 1.1 peerauth\r\n"
END = b"GET /end HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: node\r\nTransfer-Encoding: chunked\r\n"


def caller(name: str = "alice", host: str = "node") -> bytes:
    """What a program is told of a peer."""
    fingerprint = identity(name).certificate.fingerprint
    return (
        f"X-Peer-Name: {name}\r\nX-Peer-Fingerprint: {fingerprint}\r\n"
        f"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: {host}\r\n"
    ).encode()


@dataclass(frozen=True)
class Passed:
    """What is sent; and what is heard: a first line, the fields between Host and ours, and a body."""

    name: str
    data: bytes
    line: bytes = b"GET /a"
    fields: bytes = b""
    body: bytes = b""
    host: str = "node"

    def __str__(self) -> str:
        return self.name

    @property
    def heard(self) -> bytes:
        host = self.host.encode()
        told = VIA + caller(host=self.host)
        return b"%b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n%b" % (self.line, host, self.fields, told, self.body)


def _fields(name: str, lines: bytes, heard: bytes = b"") -> Passed:
    return Passed(name, b"GET /a HTTP/1.1\r\nHost: node\r\n" + lines + b"\r\n", fields=heard)


def _target(name: str, target: bytes, heard: bytes) -> Passed:
    return Passed(f"target-{name}", b"GET %b HTTP/1.1\r\nHost: node\r\n\r\n" % target, line=b"GET " + heard)


def _chunks(name: str, chunks: bytes, body: bytes, fields: bytes = b"") -> Passed:
    fields += b"Transfer-Encoding: chunked\r\n"
    return Passed(f"chunks-{name}", CHUNKED + b"\r\n" + chunks, b"POST /a", fields, body)


HIDDEN = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
PASSED = [
    _fields("plain", b""),
    Passed("empty-line-before", b"\r\nGET /a HTTP/1.1\r\nHost: node\r\n\r\n"),  # RFC 9112 2.2
    Passed("host-with-port", b"GET /a HTTP/1.1\r\nhOsT:node:8443\r\n\r\n", host="node:8443"),
    _fields("whitespace-around-values", b"X-A:b\r\nX-B: \t b c \t\r\nX-C:\r\n", b"X-A: b\r\nX-B: b c\r\nX-C: \r\n"),
    _fields("order-case-and-repetition", b"b: 1\r\nA: 2\r\nB: 3\r\n", b"b: 1\r\nA: 2\r\nB: 3\r\n"),
    _fields("odd-but-a-token", b"!#$%&'*+-.^_`|~1a: b\r\n", b"!#$%&'*+-.^_`|~1a: b\r\n"),
    _fields("high-bytes-in-a-value", b"X-A: \xc3\xa4\xff\r\n", b"X-A: \xc3\xa4\xff\r\n"),
    _fields("credentials", b"Authorization: Basic YQ==\r\nCookie: a=b\r\n", b"Authorization: Basic YQ==\r\nCookie: a=b\r\n"),
    _fields("framing-in-another-spelling", b"Content_Length: 5\r\ntransfer_ENCODING: chunked\r\n"),  # smuggler: underjoin
    _fields(
        "framing-as-CGI-would-read-it", b"Content.Length: 5\r\nTransfer~Encoding: chunked\r\nHost_: b\r\n", b"Host_: b\r\n"
    ),
    _fields("length-zero", b"Content-Length: 0\r\n", b"Content-Length: 0\r\n"),
    Passed(
        "body-of-GET (CL.0)",
        b"GET /a HTTP/1.1\r\nHost: node\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
        fields=b"Content-Length: %d\r\n" % len(SMUGGLED),
        body=SMUGGLED,
    ),
    Passed(
        "length-in-odd-spelling",
        b"POST /a HTTP/1.1\r\nHost: node\r\ncOnTeNt-LeNgTh:\t5 \r\n\r\nhello",
        b"POST /a",
        b"Content-Length: 5\r\n",
        b"hello",
    ),
    Passed("unknown-method", b"PURGE /a HTTP/1.1\r\nHost: node\r\n\r\n", b"PURGE /a"),
    Passed("options-asterisk", b"OPTIONS * HTTP/1.1\r\nHost: node\r\n\r\n", b"OPTIONS *"),
    Passed("trace", b"TRACE /a HTTP/1.1\r\nHost: node\r\n\r\n", b"TRACE /a"),
    Passed("absolute-form", b"GET https://NODE/a?b HTTP/1.1\r\nHost: node\r\n\r\n", b"GET /a?b"),
    Passed("absolute-form-of-options", b"OPTIONS http://node HTTP/1.1\r\nHost: node\r\n\r\n", b"OPTIONS *"),
    _target("dots", b"/x/./../a/%2e%2E/b", b"/b"),
    _target("escapes", b"/%7ea%2fb%c3", b"/~a%2Fb%C3"),
    _target("query-as-it-is", b"/a?/../%7e//b=%zz{|}[]\\;", b"/a?/../%7e//b=%zz{|}[]\\;"),
    _target("two-slashes", b"//a//b", b"//a//b"),
    _fields("connection-close-names-a-field", b"X-A: b\r\nX-C: d\r\nConnection: x-a, keep-alive\r\n", b"X-C: d\r\n"),
    _fields("keep-alive", b"Keep-Alive: timeout=5\r\nConnection: Keep-Alive\r\nProxy-Connection: keep-alive\r\n"),
    _fields("proxy-credentials", b"Proxy-Authorization: Basic YQ==\r\n"),
    _fields("h2c", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
    _fields("h2c-without-naming-it", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    _fields("upgrade-to-tls", b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n"),
    _fields("upgrade-list", b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"),
    _fields("upgrade-not-asked-for", b"Upgrade: websocket\r\n"),
    _fields("te", b"TE: gzip, deflate\r\n"),
    _fields("te-trailers", b"TE: trailers\r\nConnection: TE\r\n", b"Connection: TE\r\nTE: trailers\r\n"),
    _fields("expect-without-body", b"Expect: 100-continue\r\n"),
    _chunks("plain", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    _chunks("none", b"0\r\n\r\n", b"0\r\n\r\n"),
    _chunks("leading-zeros-and-capitals", b"000A\r\n0123456789\r\n000\r\n\r\n", b"a\r\n0123456789\r\n0\r\n\r\n"),
    _chunks("extensions-end-here", b'5;a=b;c="d;\\"\xff"\r\nhello\r\n0;e\r\n\r\n', b"5\r\nhello\r\n0\r\n\r\n"),
    _chunks("two-become-one", b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
    _chunks(
        "that-look-like-a-request",
        b"25\r\n" + SMUGGLED[:37] + b"\r\n0\r\n\r\n",
        b"25\r\n" + SMUGGLED[:37] + b"\r\n0\r\n\r\n",
    ),
    _chunks("trailers", b"0\r\nX-A: b\r\n\r\n", b"0\r\nX-A: b\r\n\r\n"),
    _chunks(
        "trailers-that-would-change-the-message",
        b"0\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\nHost: b\r\nX-Peer-Name: bob\r\nx_peer_name: bob\r\nCookie: c\r\n"
        b"Connection: close\r\nForwarded: for=b\r\nAuthorization: d\r\nX-A: b\r\n\r\n",
        b"0\r\nX-A: b\r\n\r\n",
    ),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with door(tmp_path_factory.mktemp("door")) as one:
        yield one


ENDED = Passed("end", END, b"GET /end").heard


@pytest.mark.parametrize("case", PASSED, ids=str)
def test_what_is_heard_is_the_one_form_of_what_was_said(shared: Door, case: Passed) -> None:
    answer = shared.say(case.data + END)
    assert shared.program.requests == [case.heard, ENDED]
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert b"".join(shared.reached()) == case.heard + ENDED


def test_who_waits_for_100_continue_is_told_to_go_on(shared: Door) -> None:
    shared.program.forget()
    head = b"POST /a HTTP/1.1\r\nHost: node\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n"
    with shared.open() as tls:
        shared.program.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"]
        heard = say(tls, [head, b"hello" + END])
    assert b"HTTP/1.1 200 OK" in heard
    fields = b"Content-Length: 5\r\nExpect: 100-continue\r\n"
    assert Passed("", b"", b"POST /a", fields, b"hello").heard in shared.program.requests


CLAIMS = [
    b"X-Peer-Name",
    b"x-peer-name",
    b"X_Peer_Name",
    b"X-Peer_Name",
    b"X.Peer.Name",
    b"X~Peer~Name",
    b"X-Peer-Fingerprint",
    b"X-Peer-Tags",
    b"X-Peer-Note",
    b"X-Forwarded-For",
    b"X_FORWARDED_FOR",
    b"X-Forwarded-Proto",
    b"X-Forwarded-Host",
    b"X-Forwarded-Port",
    b"X-Forwarded-User",
    b"X-Real-IP",
    b"Forwarded",
    b"Client-Cert",
    b"client_cert",
    b"Client-Cert-Chain",
    b"X-Forwarded-Client-Cert",
    b"X-SSL-Client-Cert",
    b"SSL_CLIENT_CERT",
    b"SSL-Client-Verify",
    b"X-Original-URL",
    b"X-Rewrite-URL",
    b"Remote-User",
    b"X-Remote-User",
]


@pytest.mark.parametrize("name", CLAIMS, ids=bytes.decode)
def test_nobody_but_us_says_who_is_calling(shared: Door, name: bytes) -> None:
    for line in (b"%b: bob", b"%b:bob", b"%b: \t bob \t", b"X-A: b\r\n%b: bob\r\n%b: carol".replace(b"%b", name)):
        said = line % name if b"%b" in line else line
        shared.say(b"GET /a HTTP/1.1\r\nHost: node\r\n" + said + b"\r\n\r\n" + END)
        kept = b"X-A: b\r\n" if said.startswith(b"X-A") else b""
        assert shared.program.requests == [_fields("", b"", kept).heard, ENDED]


OURS = [b"X-Peer-Name", b"x-peer-name", b"X-Peer-Fingerprint", b"X-Forwarded-For", b"Forwarded", b"Via"]


@pytest.mark.parametrize("name", OURS)
def test_connection_takes_nothing_of_what_we_say_away(shared: Door, name: bytes) -> None:
    shared.say(b"GET /a HTTP/1.1\r\nHost: node\r\nConnection: " + name + b", x-peer-tags\r\n\r\n" + END)
    assert shared.program.requests == [_fields("", b"").heard, ENDED]


def test_each_is_introduced_by_its_own_name_whoever_was_before(shared: Door) -> None:
    for _ in range(3):
        for name in ("alice", "bob"):
            shared.say(END, name=name)
            assert shared.program.requests == [ENDED.replace(caller(), caller(name))]


def stream(requests: int = 6) -> tuple[bytes, list[bytes]]:
    """Several requests in one stream, and what of them is heard."""
    cases = [case for case in PASSED if case.line.startswith((b"GET", b"POST"))][:: max(1, len(PASSED) // requests)]
    return b"".join(case.data for case in cases) + END, [case.heard for case in cases] + [ENDED]


STREAM, HEARD = stream()


def joined(request: bytes) -> bytes:
    """A request with its chunks put together: where they begin and end is nobody's concern."""
    head, end, body = request.partition(b"\r\n\r\n")
    if b"\r\nTransfer-Encoding: chunked\r\n" not in head + b"\r\n":
        return request
    content = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if not int(size, 16):
            return head + end + content + b"|" + body
        content, body = content + body[: int(size, 16)], body[int(size, 16) + 2 :]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(1, len(STREAM) - 1), max_size=40))
def test_records_may_begin_and_end_anywhere(shared: Door, cuts: set[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in itertools.pairwise(places)]
    answer = shared.say(*pieces)
    assert [joined(request) for request in shared.program.requests] == [joined(request) for request in HEARD]
    assert answer.startswith(OK * (len(HEARD) - 1))
    assert answer.count(b"\r\n\r\nok\n") == len(HEARD)


def test_byte_by_byte_it_is_the_same(shared: Door) -> None:
    shared.say(*(STREAM[at : at + 1] for at in range(len(STREAM))))
    assert [joined(request) for request in shared.program.requests] == [joined(request) for request in HEARD]

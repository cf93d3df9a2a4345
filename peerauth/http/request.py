"""The head of a request, read strictly and written anew.

What two parsers could read differently is refused: a request that the program behind us would see in another way than we do
could carry another one inside (request smuggling, RFC 9112 section 11.2). Our own grammar decides, and httptools (llhttp in
its strict mode) must agree. Nothing of the bytes themselves goes on, only what was read in them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from operator import eq
from typing import Any, Final

import httptools

from peerauth.http import fields, via
from peerauth.http.body import Body, Chunked, Sized
from peerauth.http.errors import BadRequest
from peerauth.http.fields import MOST_FIELDS, NOTED, Treatment
from peerauth.http.introduction import is_claim, overrides_method
from peerauth.http.target import Target, check_host, normalise

LONGEST_HEAD: Final = 32 << 10  # bytes

_LINE = re.compile(rb"(" + fields.TOKEN + rb"{1,32}+) ([\x21\x22\x24-\x7e]++) HTTP/1\.([01])\r\n")
_REQUEST_LINE = re.compile(rb"[^\r\n ]+ [^\r\n ]+ HTTP/(\d+)(?:\.(\d+))?\r\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")

TREATMENT: Final = Treatment(
    (
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"via",
    ),
    is_claim,
    overrides_method,
)
# What Connection may not name: it would end here, and the message would be another (RFC 9110 section 7.6.1).
_END_TO_END: Final = frozenset({
    b"authorization", b"content-length", b"content-type", b"cookie", b"expect", b"host", b"transfer-encoding",
})  # fmt: skip
_OPTIONS: Final = frozenset({b"close", b"keep-alive", b"te", b"upgrade"}) | fields.HOP_BY_HOP
_SAFE_TO_REPEAT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})  # RFC 9110 section 9.2.2


@dataclass(slots=True)
class About:
    """What the fields of a request say. `length` is that of the body in bytes; `chunked` says that it comes in chunks."""

    block: bytes  # the fields as they came
    old: bool  # HTTP/1.0: it knows no chunks and no interim answers
    host: bytes  # empty: an HTTP/1.0 client that named none
    passed: list[bytes]  # each field as it goes on, empty where it does not
    lines: bytes = b""  # all of them, and ours
    ours: bytes = b""  # what stands for those that we look at
    is_ordinary: bool = True  # none of the others changes what is said here
    length: int | None = None
    chunked: bool = False
    has_body: bool = False
    close: bool = False  # nothing more is asked on this connection
    upgrade: bool = False  # WebSocket is to be spoken from here on
    overrides: bool = False  # a field names another method
    times: int = 0  # that it has come by one of our kind


@dataclass(slots=True)
class Request:
    """What was asked."""

    method: bytes
    target: Target
    about: About
    close: bool  # nothing more is answered on this connection

    @property
    def old(self) -> bool:
        """Whether it is HTTP/1.0."""
        return self.about.old

    @property
    def websocket(self) -> bool:
        """Whether it asks for WebSocket, as that is asked for (RFC 6455 section 4.1)."""
        return self.about.upgrade and self.method == b"GET" and not self.about.has_body

    @property
    def is_safe_to_repeat(self) -> bool:
        """Whether asking twice is as good as asking once."""
        return self.method in _SAFE_TO_REPEAT and not self.about.has_body

    def body(self) -> Body:
        """What reads its body."""
        return Chunked(TREATMENT) if self.about.chunked else Sized(self.about.length or 0)

    def written(self, host: bytes, also: bytes) -> bytes:
        """The head that goes on, to `host` where none was named; `also`: lines that nothing of the peer's takes away."""
        about = self.about
        if about.upgrade and self.websocket:
            also += b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b\r\n" % (
            self.method,
            self.target.forwarded,
            about.host or host,
            about.lines,
            also,
        )


def check_beginning(begun: bytes | bytearray) -> None:
    """Raise BadRequest when this cannot become a head, whatever follows."""
    if b"\n" in begun.replace(b"\r\n", b""):
        raise BadRequest("a line ends with a bare LF, not with CRLF")
    if len(begun) > LONGEST_HEAD:
        raise BadRequest("the header is longer than 32 KB", 431)


def read_request(head: bytes, *, routed: bool = False, last: About | None = None) -> Request:
    """The request whose head this is, with the empty line. Raises BadRequest.

    `routed`: there are routes. `last`: what was said by the one before, which most clients say again.
    """
    if len(head) > LONGEST_HEAD:
        raise BadRequest("the header is longer than 32 KB", 431)
    line = _LINE.match(head)
    if line is None:
        raise _why_not(head)
    method, target, minor = line.groups()
    old, block = minor == b"0", head[line.end() : -2]
    about = last
    if about is None or about.block != block or about.old is not old:
        about = None if last is None or last.old is not old else _like(last, block)
        if about is None:
            if not fields.are_lines(block):
                raise _why_not(head)
            about = _about(block, old=old)
    if routed and about.overrides:
        raise BadRequest("where routes decide, no field of the header may name another method")
    _agreed(head)
    where = normalise(target, method, routed=routed)
    if where.authority is not None and where.authority.lower() != about.host.lower():
        raise BadRequest("the target names another host than the Host field")
    return Request(method, where, about, about.close)


class _Silent:
    """Hears nothing of what httptools reads."""


_SILENT: Final = _Silent()


def _agreed(head: bytes) -> None:
    """Raise BadRequest unless httptools would read it, too."""
    try:
        _new_parser(_SILENT).feed_data(head)
    except httptools.HttpParserUpgrade:
        return
    except httptools.HttpParserInvalidMethodError:
        raise BadRequest("there is no such method", 501) from None
    except httptools.HttpParserError:
        raise BadRequest("the header is malformed") from None


_new_parser: Any = httptools.HttpRequestParser


def _like(last: About, block: bytes) -> About | None:
    """What these fields say where ordinary ones alone differ from the last, each in its place; None: they are to be read."""
    now, before = block.split(b"\r\n"), last.block.split(b"\r\n")
    if len(now) != len(before) or now[-1] or not last.is_ordinary:
        return None
    passed = last.passed.copy()
    for at, is_same in enumerate(map(eq, now, before)):
        if not is_same:
            line = fields.ordinary(now[at], TREATMENT) if passed[at] else None
            if line is None:
                return None
            passed[at] = line
    lines = b"".join(passed) + last.ours
    return About(
        block, last.old, last.host, passed, lines, last.ours, True, last.length, last.chunked, last.has_body,
        last.close, last.upgrade, False, last.times,
    )  # fmt: skip


def _about(block: bytes, *, old: bool) -> About:
    """What these fields say about the connection and the body."""
    passed, judged = fields.sort(block, TREATMENT)
    if len(passed) > MOST_FIELDS:
        raise BadRequest("there are more than 100 header fields", 431)
    about = About(block, old, _host(judged.get(b"host", []), old=old), passed)
    ours = _framing(about, judged)
    connection = fields.members(judged.get(b"connection", []))
    if not _END_TO_END.isdisjoint(connection):
        raise BadRequest("Connection names a field that is about the message")
    if named := set(connection) - _OPTIONS:
        about.passed = fields.without(passed, named)
    about.close = old or b"close" in connection
    if not old:
        if expected := fields.members(judged.get(b"expect", [])):
            if expected != [b"100-continue"]:
                raise BadRequest("nothing but 100-continue can be expected", 417)
            if about.has_body:
                ours += b"Expect: 100-continue\r\n"
        # Of all that a connection could change to, WebSocket alone: what speaks HTTP in another form would go past us.
        about.upgrade = b"upgrade" in connection and fields.members(judged.get(b"upgrade", [])) == [b"websocket"]
        if not about.upgrade and b"trailers" in fields.members(judged.get(b"te", [])):
            ours += b"Connection: TE\r\nTE: trailers\r\n"
    about.overrides = NOTED in judged
    about.is_ordinary = not (about.overrides or named)
    vias = judged.get(b"via", [])
    about.times = via.times(vias)
    about.ours = ours + via.line(vias, old=old)
    about.lines = b"".join(about.passed) + about.ours
    return about


def _host(values: list[bytes], *, old: bool) -> bytes:
    if len(values) > 1:
        raise BadRequest("there is more than one Host")
    if not values and not old:
        raise BadRequest("there is no Host")
    return check_host(values[0]) if values else b""


def _framing(about: About, judged: dict[bytes, list[bytes]]) -> bytes:
    """How long the body is, and the lines that say so."""
    lengths, codings = judged.get(b"content-length", []), judged.get(b"transfer-encoding", [])
    if lengths and codings:
        raise BadRequest("there are both Content-Length and Transfer-Encoding")
    if lengths:
        if len(lengths) > 1:
            raise BadRequest("there is more than one Content-Length")
        if not _LENGTH.fullmatch(lengths[0]):
            raise BadRequest("the Content-Length is malformed")
        about.length = int(lengths[0])
        about.has_body = about.length > 0
        return b"Content-Length: %d\r\n" % about.length
    if not codings:
        return b""
    if len(codings) > 1 or codings[0].lower() != b"chunked":
        raise BadRequest("there is no Transfer-Encoding but chunked, once", 400 if b"chunked" in codings[0].lower() else 501)
    if about.old:
        raise BadRequest("HTTP/1.0 has no Transfer-Encoding")
    about.chunked = about.has_body = True
    return b"Transfer-Encoding: chunked\r\n" + fields.written(b"Trailer", judged.get(b"trailer", []))


def _why_not(head: bytes) -> BadRequest:
    """What is wrong with this head, for whoever wrote the client."""
    first, _, rest = head.partition(b"\r\n")
    if b"\0" in head:
        return BadRequest("there is a NUL in the header")
    without_ends = head.replace(b"\r\n", b"")
    if b"\n" in without_ends:
        return BadRequest("a line ends with a bare LF, not with CRLF")
    if b"\r" in without_ends:
        return BadRequest("there is a bare CR in the header")
    found = _REQUEST_LINE.fullmatch(first + b"\r\n")
    if found is None or b"#" in first:
        return BadRequest("the first line is not: METHOD TARGET HTTP/1.1")
    if found[1] != b"1" or found[2] not in {b"0", b"1"}:
        return BadRequest("only HTTP/1.1 and HTTP/1.0 are spoken here", 505)
    if re.search(rb"(?:^|\r\n)[ \t]", rest):
        return BadRequest("a header field is folded over several lines")
    if re.search(rb"(?:^|\r\n)[^\r:]*[ \t]+:", rest):
        return BadRequest("there is whitespace before the colon of a header field")
    return BadRequest("the header is malformed")

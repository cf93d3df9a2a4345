"""The head of a request, read strictly and written anew.

What two parsers could read differently is refused: a request that the program behind us would see in another way than we do
could carry another one inside (request smuggling, RFC 9112 section 11.2). Our own grammar decides, and httptools (llhttp in its
strict mode) must agree. Nothing of the bytes themselves goes on, only what was read in them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import httptools

from peerauth.http import fields
from peerauth.http.body import Body, Chunked, Sized
from peerauth.http.errors import BadRequest
from peerauth.http.fields import MOST_FIELDS, Fields, Treatment
from peerauth.http.introduction import is_claim
from peerauth.http.target import Target, check_host, normalise

LONGEST_HEAD: Final = 32 << 10  # bytes

_HEAD = re.compile(
    rb"(" + fields.TOKEN + rb"{1,32}+) ([\x21\x22\x24-\x7e]++) HTTP/1\.([01])\r\n((?:" + fields.LINE + rb")*+)\r\n"
)
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
    ),
    is_claim,
)
# What Connection may not name: it would end here, and the message would be another (RFC 9110 section 7.6.1).
_END_TO_END: Final = frozenset({
    b"authorization", b"content-length", b"content-type", b"cookie", b"expect", b"host", b"transfer-encoding",
})  # fmt: skip
_OPTIONS: Final = frozenset({b"close", b"keep-alive", b"te", b"upgrade"}) | fields.HOP_BY_HOP
_SAFE_TO_REPEAT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})  # RFC 9110 section 9.2.2


@dataclass(slots=True)
class Request:
    """What was asked. `length` is that of the body in bytes, None where there is none; `chunked` says that it comes in chunks."""

    method: bytes
    target: Target
    host: bytes  # empty: an HTTP/1.0 client that named none
    fields: Fields  # those that go on
    length: int | None
    chunked: bool
    old: bool  # HTTP/1.0: it knows no chunks and no interim answers
    close: bool  # it asks nothing more on this connection
    expects: bool = False  # it waits for 100 (Continue)
    websocket: bool = False  # it wants to speak WebSocket from here on
    takes_trailers: bool = False
    announced: tuple[bytes, ...] = ()  # the values of Trailer

    @property
    def has_body(self) -> bool:
        """Whether a body follows."""
        return self.chunked or bool(self.length)

    @property
    def is_safe_to_repeat(self) -> bool:
        """Whether asking twice is as good as asking once."""
        return self.method in _SAFE_TO_REPEAT and not self.has_body

    def body(self) -> Body:
        """What reads its body."""
        return Chunked(TREATMENT) if self.chunked else Sized(self.length or 0)

    def written(self, host: bytes, also: bytes) -> bytes:
        """The head that goes on, to `host` where none was named, and with `also`: lines that nothing of the peer's takes away."""
        ours = b""
        if self.chunked:
            ours = b"Transfer-Encoding: chunked\r\n"
            ours += b"".join([b"Trailer: %b\r\n" % value for value in self.announced])
        elif self.length is not None:
            ours = b"Content-Length: %d\r\n" % self.length
        if self.expects:
            ours += b"Expect: 100-continue\r\n"
        if self.websocket:
            ours += b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        elif self.takes_trailers:
            ours += b"Connection: TE\r\nTE: trailers\r\n"
        lines = fields.written(self.fields)
        return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b%b\r\n" % (
            self.method,
            self.target.forwarded,
            self.host or host,
            lines,
            ours,
            also,
        )


def check_beginning(begun: bytes | bytearray) -> None:
    """Raise BadRequest when this cannot become a head, whatever follows."""
    if b"\n" in begun.replace(b"\r\n", b""):
        raise BadRequest("a line ends with a bare LF, not with CRLF")
    if len(begun) > LONGEST_HEAD:
        raise BadRequest("the header is longer than 32 KB", 431)


def read_request(head: bytes, *, routed: bool = False) -> Request:
    """The request whose head this is, with the empty line. `routed`: there are routes. Raises BadRequest."""
    if len(head) > LONGEST_HEAD:
        raise BadRequest("the header is longer than 32 KB", 431)
    found = _HEAD.fullmatch(head)
    if found is None:
        raise _why_not(head)
    method, target, minor, block = found.groups()
    passed, judged, count = fields.sort(block, TREATMENT)
    if count > MOST_FIELDS:
        raise BadRequest("there are more than 100 header fields", 431)
    _agreed(head)
    old = minor == b"0"
    host = _host(judged.pop(b"host", []), old=old)
    where = normalise(target, method, routed=routed)
    if where.authority is not None and where.authority.lower() != host.lower():
        raise BadRequest("the target names another host than the Host field")
    request = Request(method, where, host, passed, None, chunked=False, old=old, close=old)
    if judged:
        _judge(request, judged)
    return request


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


def _host(values: list[bytes], *, old: bool) -> bytes:
    if len(values) > 1:
        raise BadRequest("there is more than one Host")
    if not values and not old:
        raise BadRequest("there is no Host")
    return check_host(values[0]) if values else b""


def _judge(request: Request, judged: dict[bytes, list[bytes]]) -> None:
    """Take in what the fields say that are about the connection and the body."""
    _framing(request, judged)
    connection = fields.members(judged.get(b"connection", []))
    for option in connection:
        if option in _END_TO_END:
            raise BadRequest("Connection names a field that is about the message")
    if named := set(connection) - _OPTIONS:
        request.fields = fields.without(request.fields, named)
    request.close |= b"close" in connection
    if request.old:
        return
    if expected := fields.members(judged.get(b"expect", [])):
        if expected != [b"100-continue"]:
            raise BadRequest("nothing but 100-continue can be expected", 417)
        request.expects = request.has_body
    # Of all that a connection could be upgraded to, WebSocket alone: what speaks HTTP in another form would go past us.
    wanted = fields.members(judged.get(b"upgrade", []))
    request.websocket = (
        wanted == [b"websocket"] and b"upgrade" in connection and request.method == b"GET" and not request.has_body
    )
    request.takes_trailers = b"trailers" in fields.members(judged.get(b"te", []))
    request.announced = tuple(judged.get(b"trailer", []))


def _framing(request: Request, judged: dict[bytes, list[bytes]]) -> None:
    lengths, codings = judged.get(b"content-length", []), judged.get(b"transfer-encoding", [])
    if lengths and codings:
        raise BadRequest("there are both Content-Length and Transfer-Encoding")
    if lengths:
        if len(lengths) > 1:
            raise BadRequest("there is more than one Content-Length")
        if not _LENGTH.fullmatch(lengths[0]):
            raise BadRequest("the Content-Length is malformed")
        request.length = int(lengths[0])
    if codings:
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadRequest("there is no Transfer-Encoding but chunked, once", 400 if b"chunked" in codings[0].lower() else 501)
        if request.old:
            raise BadRequest("HTTP/1.0 has no Transfer-Encoding")
        request.chunked = True


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

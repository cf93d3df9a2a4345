"""The head of a response, read strictly and written anew, as that of a request (request.py).

A response whose end can be read in two ways is not passed on: somebody could choose what one takes for the next response.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from peerauth.http import fields
from peerauth.http.body import Body, Chunked, Sized, UntilEnd
from peerauth.http.fields import Treatment

LONGEST_HEAD: Final = 64 << 10  # bytes

_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*+))?\r\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_MOST_FIELDS = 500

TREATMENT: Final = Treatment((b"connection", b"content-length", b"te", b"trailer", b"transfer-encoding", b"upgrade"))
_OPTIONS: Final = frozenset({b"close", b"keep-alive", b"upgrade", b"te"})


class BadResponse(Exception):
    """What was answered is not passed on."""


@dataclass(slots=True)
class About:
    """What the fields of a response say."""

    block: bytes  # the fields as they came
    old: bool  # HTTP/1.0
    lines: bytes = b""  # the fields as they go on, but for those that say how long the body is
    length: int | None = None
    chunked: bool = False
    ends: bool = False  # its connection carries nothing after it
    websocket: bool = False
    announced: bytes = b""  # Trailer, as lines


@dataclass(slots=True)
class Response:
    """What was answered. `body` reads its body; None: there is none, whatever the fields say."""

    status: int
    reason: bytes
    about: About
    body: Body | None

    @property
    def is_interim(self) -> bool:
        """Whether the answer itself is still to come (RFC 9110 section 15.2)."""
        return self.status < 200 and self.status != 101

    @property
    def is_websocket(self) -> bool:
        """Whether WebSocket is spoken from here on (RFC 6455 section 4.2.2)."""
        return self.status == 101 and self.about.websocket

    @property
    def ends(self) -> bool:
        """Whether its connection carries nothing after it."""
        return self.about.ends or self.body.__class__ is UntilEnd

    def written(self, *, chunked: bool, close: bool) -> bytes:
        """The head that goes on: its body comes in chunks or not, and its connection ends with it or not."""
        about = self.about
        ours = b"Connection: close\r\n" if close else b""
        if chunked:
            ours += b"Transfer-Encoding: chunked\r\n" + about.announced
        elif about.length is not None and self.status >= 200 and self.status != 204:  # RFC 9110 section 8.6
            ours += b"Content-Length: %d\r\n" % about.length
        if self.status == 101:
            ours = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (self.status, self.reason, about.lines, ours)


def read_response(head: bytes, method: bytes, last: About | None = None) -> Response:
    """The response to a request of this method whose head this is, with the empty line. Raises BadResponse.

    `last`: what was said by the one before, which most programs say again.
    """
    line = _LINE.match(head)
    if line is None:
        raise BadResponse("its first line is malformed")
    minor, digits, reason = line.groups()
    old, block = minor == b"0", head[line.end() : -2]
    about = last
    if about is None or about.block != block or about.old is not old:
        if not fields.are_lines(block):
            raise BadResponse("its header is malformed")
        about = _about(block, old=old)
    status = int(digits)
    body: Body | None
    if status < 200 or status in {204, 304} or method == b"HEAD":  # RFC 9112 section 6.3
        body = None
    elif about.length is not None:
        body = Sized(about.length)
    else:
        body = Chunked(TREATMENT) if about.chunked else UntilEnd()
    return Response(status, reason or b"", about, body)


def _about(block: bytes, *, old: bool) -> About:
    """What these fields say about the connection and the body."""
    passed, judged, count = fields.sort(block, TREATMENT)
    if count > _MOST_FIELDS:
        raise BadResponse(f"it has more than {_MOST_FIELDS} header fields")
    about = About(block, old)
    lengths, codings = judged.get(b"content-length"), judged.get(b"transfer-encoding")
    if lengths is not None and codings is not None:
        raise BadResponse("it has both Content-Length and Transfer-Encoding")
    if lengths is not None:
        if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
            raise BadResponse("its Content-Length is not one number")
        about.length = int(lengths[0])
    if codings is not None:
        if old or len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadResponse("its Transfer-Encoding is not chunked, once")
        about.chunked = True
    connection = fields.members(judged.get(b"connection", []))
    if named := set(connection) - _OPTIONS:
        passed = fields.without(passed, named)
    about.ends = b"close" in connection or (old and b"keep-alive" not in connection)
    about.websocket = b"upgrade" in connection and fields.members(judged.get(b"upgrade", [])) == [b"websocket"]
    about.announced = fields.written([(b"Trailer", value) for value in judged.get(b"trailer", [])])
    about.lines = fields.written(passed)
    return about


def own_answer(status: int, text: str, *, close: bool, head_only: bool = False) -> bytes:
    """A whole response of ours: a sentence in plain text."""
    said = f"{status} {_PHRASES.get(status, 'Error')}"
    body = f"{said}: {text}\n".encode()
    head = (
        f"HTTP/1.1 {said}\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\nCache-Control: no-store\r\n"
        + ("Connection: close\r\n" if close else "")
        + "\r\n"
    ).encode()
    return head if head_only else head + body


_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}

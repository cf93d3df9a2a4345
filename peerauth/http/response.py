"""The head of a response, read strictly and written anew, as that of a request (request.py).

A response whose end can be read in two ways is not passed on: what one takes for the next response would be somebody's choice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from peerauth.http import fields
from peerauth.http.body import Body, Chunked, Sized, UntilEnd
from peerauth.http.fields import Fields, Treatment

LONGEST_HEAD: Final = 64 << 10  # bytes

_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*+))?\r\n((?:" + fields.LINE + rb")*+)\r\n"
)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_MOST_FIELDS = 500

TREATMENT: Final = Treatment((b"connection", b"content-length", b"te", b"trailer", b"transfer-encoding", b"upgrade"))
_OPTIONS: Final = frozenset({b"close", b"keep-alive", b"upgrade", b"te"})


class BadResponse(Exception):
    """What was answered is not passed on."""


@dataclass(slots=True)
class Response:
    """What was answered. `body` reads its body; None: there is none, whatever the head says."""

    status: int
    reason: bytes
    fields: Fields  # those that go on
    body: Body | None
    length: int | None  # as declared
    ends: bool  # its connection carries nothing after it
    websocket: bool = False
    announced: tuple[bytes, ...] = ()  # the values of Trailer

    @property
    def is_interim(self) -> bool:
        """Whether the answer itself is still to come (RFC 9110 section 15.2)."""
        return self.status < 200 and self.status != 101

    def written(self, *, chunked: bool, close: bool) -> bytes:
        """The head that goes on: its body comes in chunks or not, and its connection ends with it or not."""
        ours = b""
        if chunked:
            ours = b"Transfer-Encoding: chunked\r\n"
            ours += b"".join([b"Trailer: %b\r\n" % value for value in self.announced])
        elif self.length is not None and self.status >= 200 and self.status != 204:  # RFC 9110 section 8.6
            ours = b"Content-Length: %d\r\n" % self.length
        if self.websocket:
            ours += b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        elif close:
            ours += b"Connection: close\r\n"
        return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (self.status, self.reason, fields.written(self.fields), ours)


def read_response(head: bytes, method: bytes) -> Response:
    """The response to a request of this method whose head this is, with the empty line. Raises BadResponse."""
    found = _HEAD.fullmatch(head)
    if found is None:
        raise BadResponse("its header is malformed")
    minor, digits, reason, block = found.groups()
    status = int(digits)
    passed, judged, count = fields.sort(block, TREATMENT)
    if count > _MOST_FIELDS:
        raise BadResponse(f"it has more than {_MOST_FIELDS} header fields")
    old = minor == b"0"
    lengths = judged.get(b"content-length")
    length = None
    if lengths is not None:
        if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
            raise BadResponse("its Content-Length is not one number")
        length = int(lengths[0])
    response = Response(status, reason or b"", passed, None, length, ends=old)
    if lengths is None or len(judged) > 1:
        _judge(response, judged, old=old)
    elif not (status < 200 or status in {204, 304} or method == b"HEAD"):
        response.body = Sized(length or 0)
        return response
    if status < 200 or status in {204, 304} or method == b"HEAD":  # RFC 9112 section 6.3
        response.body = None
    return response


def _judge(response: Response, judged: dict[bytes, list[bytes]], *, old: bool) -> None:
    """Take in what the fields say that are about the connection and the body."""
    connection = fields.members(judged.get(b"connection", []))
    if named := set(connection) - _OPTIONS:
        response.fields = fields.without(response.fields, named)
    response.ends = b"close" in connection or (old and b"keep-alive" not in connection)
    response.websocket = response.status == 101 and fields.members(judged.get(b"upgrade", [])) == [b"websocket"]
    response.announced = tuple(judged.get(b"trailer", []))
    codings = judged.get(b"transfer-encoding")
    if codings is not None:
        if response.length is not None:
            raise BadResponse("it has both Content-Length and Transfer-Encoding")
        if old or len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadResponse("its Transfer-Encoding is not chunked, once")
        response.body = Chunked(TREATMENT)
    elif response.length is not None:
        response.body = Sized(response.length)
    else:
        response.body = UntilEnd()
        if response.status >= 200:
            response.ends |= response.status not in {204, 304}


def own_answer(status: int, text: str, *, close: bool, head_only: bool = False) -> bytes:
    """A whole response of ours: a sentence in plain text."""
    body = f"{text}\n".encode()
    head = (
        f"HTTP/1.1 {status} {_PHRASES.get(status, 'Error')}\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\nCache-Control: no-store\r\n"
        f"{'Connection: close' + chr(13) + chr(10) if close else ''}\r\n"
    ).encode()
    return head if head_only else head + body


_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}

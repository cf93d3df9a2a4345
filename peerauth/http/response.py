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
_BEGINNING: Final = b"HTTP/1."
_TLS: Final = (b"\x15\x03", b"\x16\x03")  # how an alert and a handshake begin (RFC 8446 section 5.1)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_MOST_FIELDS = 500

TREATMENT: Final = Treatment((b"connection", b"content-length", b"te", b"trailer", b"transfer-encoding", b"upgrade"))
_OPTIONS: Final = frozenset({b"close", b"keep-alive", b"upgrade", b"te"})


class BadResponse(Exception):
    """What was answered is not passed on."""


@dataclass(slots=True)
class Response:
    """What was answered."""

    head: bytes  # as it came
    status: int
    lines: bytes  # the first, and the fields that go on, but for those that say how long the body is
    length: int | None = None  # as declared
    chunked: bool = False
    ends: bool = False  # its connection carries nothing after it
    websocket: bool = False
    announced: bytes = b""  # Trailer, as lines
    plain: bytes = b""  # the head as it goes on mostly

    @property
    def is_interim(self) -> bool:
        """Whether the answer itself is still to come (RFC 9110 section 15.2)."""
        return self.status < 200 and self.status != 101

    def body(self, method: bytes) -> Body | None:
        """What reads its body, when it answers this method; None: there is none, whatever the fields say."""
        if self.status < 200 or self.status in {204, 304} or method == b"HEAD":  # RFC 9112 section 6.3
            return None
        if self.length is not None:
            return Sized(self.length)
        return Chunked(TREATMENT) if self.chunked else UntilEnd()

    def written(self, *, chunked: bool, close: bool) -> bytes:
        """The head that goes on: its body comes in chunks or not, and its connection ends with it or not."""
        if not (chunked or close):
            return self.plain
        ours = b"Connection: close\r\n" if close else b""
        if chunked:
            ours += b"Transfer-Encoding: chunked\r\n" + self.announced
        return b"%b%b%b\r\n" % (self.lines, ours, b"" if chunked else self._length_line())

    def _length_line(self) -> bytes:
        if self.length is None or self.status < 200 or self.status == 204:  # RFC 9110 section 8.6
            return b""
        return b"Content-Length: %d\r\n" % self.length

    def settle(self) -> None:
        """Make `plain` of the rest."""
        ours = b"Connection: Upgrade\r\nUpgrade: websocket\r\n" if self.websocket else self._length_line()
        self.plain = b"%b%b\r\n" % (self.lines, ours)


def check_begun(begun: bytes) -> None:
    """Raise BadResponse when this cannot become a head, whatever follows: who waits for its end waits in vain."""
    if not begun.startswith(_BEGINNING) and not _BEGINNING.startswith(begun):
        in_tls = begun.startswith(_TLS)
        raise BadResponse("it is in TLS, and is to be in the clear" if in_tls else "it does not begin with HTTP/1.1")


def read_response(head: bytes) -> Response:
    """The response whose head this is, with the empty line. Raises BadResponse."""
    line = _LINE.match(head)
    if line is None:
        raise BadResponse("its first line is malformed")
    minor, digits, reason = line.groups()
    old, block = minor == b"0", head[line.end() : -2]
    if not fields.are_lines(block):
        raise BadResponse("its header is malformed")
    lines, judged = fields.sort(block, TREATMENT)
    if len(lines) > _MOST_FIELDS:
        raise BadResponse(f"it has more than {_MOST_FIELDS} header fields")
    connection = fields.members(judged.get(b"connection", []))
    if named := set(connection) - _OPTIONS:
        lines = fields.without(lines, named)
    first = b"HTTP/1.1 %b %b\r\n" % (digits, reason or b"")
    response = Response(head, int(digits), b"".join([first, *lines]))
    _frame(response, judged, old=old)
    response.ends = b"close" in connection or (old and b"keep-alive" not in connection)
    response.websocket = (
        response.status == 101
        and b"upgrade" in connection
        and fields.members(judged.get(b"upgrade", [])) == [b"websocket"]  # RFC 6455 section 4.2.2
    )
    response.announced = fields.written(b"Trailer", judged.get(b"trailer", []))
    response.settle()
    return response


def _frame(response: Response, judged: dict[bytes, list[bytes]], *, old: bool) -> None:
    """Take in how long the body is."""
    lengths, codings = judged.get(b"content-length"), judged.get(b"transfer-encoding")
    if lengths is not None and codings is not None:
        raise BadResponse("it has both Content-Length and Transfer-Encoding")
    if lengths is not None:
        if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
            raise BadResponse("its Content-Length is not one number")
        response.length = int(lengths[0])
    if codings is not None:
        if old or len(codings) > 1 or codings[0].lower() != b"chunked":
            raise BadResponse("its Transfer-Encoding is not chunked, once")
        response.chunked = True


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

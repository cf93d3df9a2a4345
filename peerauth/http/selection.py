"""What of a file a request gets, and what is said about it: status, fields, and the parts of the body (RFC 9110, 14)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerauth.http.conditions import Fields, Version, Wanted, evaluate, range_applies
from peerauth.http.ranges import Span, parse_range

Field = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Representation:
    """A file as it would be sent: its size in bytes, its version, and its Content-Type."""

    size: int
    version: Version
    media: str


@dataclass(frozen=True, slots=True)
class Selection:
    """An answer. The body is what the parts are, one after the other: bytes as they stand, or bytes of the file."""

    status: int
    fields: tuple[Field, ...]
    parts: tuple[bytes | Span, ...] = ()


def select(method: str, fields: Fields, file: Representation, boundary: str) -> Selection:
    """The answer to a GET or a HEAD with these fields. `boundary` (section 14.6) is not to be guessed."""
    about = _about(file.version)
    wanted = evaluate(fields, file.version)
    if wanted is Wanted.NOT_MODIFIED:
        return Selection(304, about)
    if wanted is Wanted.FAILED:
        return _saying(412, "what is here is not what the request is about", about)
    spans = _asked_for(fields, file) if method == "GET" else None
    if spans is None:
        return _whole(file, about)
    if not spans:
        return _saying(416, f"there are {file.size} bytes", (*about, (b"content-range", b"bytes */%d" % file.size)))
    return _one(file, spans[0], about) if len(spans) == 1 else _several(file, spans, about, boundary)


def _asked_for(fields: Fields, file: Representation) -> Sequence[Span] | None:
    value = fields.get(b"range")
    if value is None or not range_applies(fields, file.version):
        return None
    return parse_range(value.decode("latin-1"), file.size)


def _about(version: Version) -> tuple[Field, ...]:
    date = version.last_modified
    dated = ((b"last-modified", date.encode()),) if date else ()
    # Whoever keeps it asks each time whether it is still so; and what is for a peer is for nobody else's cache.
    always = ((b"accept-ranges", b"bytes"), (b"cache-control", b"private, no-cache"))
    return ((b"etag", version.etag.encode()), *dated, *always)


def _saying(status: int, text: str, about: tuple[Field, ...]) -> Selection:
    body = text.encode() + b"\n"
    length = ((b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body)))
    return Selection(status, (*about, *length), (body,))


def _whole(file: Representation, about: tuple[Field, ...]) -> Selection:
    fields = (*about, (b"content-type", file.media.encode()), (b"content-length", b"%d" % file.size))
    return Selection(200, fields, (Span(0, file.size),) if file.size else ())


def _content_range(span: Span, file: Representation) -> bytes:
    return b"bytes %d-%d/%d" % (span.start, span.end - 1, file.size)


def _one(file: Representation, span: Span, about: tuple[Field, ...]) -> Selection:
    kind, length = file.media.encode(), b"%d" % span.length
    fields = ((b"content-type", kind), (b"content-length", length), (b"content-range", _content_range(span, file)))
    return Selection(206, (*about, *fields), (span,))


def _several(file: Representation, spans: Sequence[Span], about: tuple[Field, ...], boundary: str) -> Selection:
    mark, kind = boundary.encode(), file.media.encode()
    parts: list[bytes | Span] = []
    for span in spans:
        begins = b"" if not parts else b"\r\n"
        head = b"--%s\r\nContent-Type: %s\r\nContent-Range: %s\r\n\r\n" % (mark, kind, _content_range(span, file))
        parts += [begins + head, span]
    parts.append(b"\r\n--%s--\r\n" % mark)
    length = sum(part.length if isinstance(part, Span) else len(part) for part in parts)
    media = b"multipart/byteranges; boundary=%s" % mark
    return Selection(206, (*about, (b"content-type", media), (b"content-length", b"%d" % length)), tuple(parts))

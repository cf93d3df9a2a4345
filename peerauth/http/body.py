"""The body of a message as it comes, piece by piece: so many bytes, chunks, or all until the end.

`feed` takes what has come and returns what is the body's and what comes after it: None while more of the body is to come. It
raises BadBody. A chunked body (RFC 9112 section 7.1) is read strictly and never passed on as it was: extensions end here,
and who passes it on makes chunks of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from peerauth.http.fields import TOKEN, Treatment, trailers

LONGEST_LINE: Final = 256  # bytes: a chunk's size and its extensions
MOST_EXTENSIONS: Final = 16 << 10  # bytes, of all chunks of a body
LONGEST_TRAILERS: Final = 8 << 10  # bytes
LAST_CHUNK: Final = b"0\r\n"

_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_SIZE = re.compile(
    rb"([0-9A-Fa-f]{1,15})((?:;" + TOKEN + rb"++(?:=(?:" + TOKEN + rb"++|" + _QUOTED + rb"))?)*+)\r\n"
)  # fifteen digits: no size that is read differently with 64 bits


class BadBody(Exception):
    """The body is not what its framing says."""


class Sized:
    """A body of so many bytes."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        self.left = length

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """What of this is the body's; and the rest, when it is complete."""
        if len(data) < self.left:
            self.left -= len(data)
            return data, None
        end, self.left = self.left, 0
        return data[:end], data[end:]


class UntilEnd:
    """A body that ends with its connection."""

    __slots__ = ()
    left = 1 << 62  # bytes, as good as any number

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """All of it."""
        return data, None


class Chunked:
    """A chunked body. `trailers`: those that go on, as lines, once it is complete."""

    __slots__ = ("_extensions", "_held", "_step", "_treatment", "left", "trailers")

    def __init__(self, treatment: Treatment) -> None:
        self._treatment = treatment
        self.left = 0  # of the chunk that has begun
        self._step: Callable[[bytes, int], int | None] = self._size
        self._held = b""  # a line that is not complete
        self._extensions = 0
        self.trailers = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """The content in this; and the rest, when the last chunk and the trailers are there."""
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at: int | None = 0
        while at is not None:
            if self.left:
                piece = data[at : at + self.left]
                pieces.append(piece)
                self.left -= len(piece)
                at += len(piece)
                if self.left:
                    break
                self._step = self._end_of_chunk
            begun = at
            at = self._step(data, begun)
            if at is None:
                self._held = data[begun:]
            elif self._step == self._done:
                return b"".join(pieces), data[at:]
        return b"".join(pieces), None

    # Each step takes its line at `at` and returns where the next begins; None: the line is not complete.

    def _size(self, data: bytes, at: int) -> int | None:
        found = _SIZE.match(data, at)
        if found is None:
            line = data[at : at + LONGEST_LINE]
            if len(line) == LONGEST_LINE or b"\n" in line:
                raise BadBody("a chunk's size is malformed")
            return None
        size, extensions = found.groups()
        self._extensions += len(extensions)
        if found.end() - at > LONGEST_LINE or self._extensions > MOST_EXTENSIONS:
            raise BadBody("its chunks have too many extensions")
        self.left = int(size, 16)
        if not self.left:
            self._step = self._trailers
        return found.end()

    def _end_of_chunk(self, data: bytes, at: int) -> int | None:
        end = data[at : at + 2]
        if end == b"\r\n":
            self._step = self._size
            return at + 2
        if end not in {b"", b"\r"}:
            raise BadBody("a chunk is longer than its size says")
        return None

    def _trailers(self, data: bytes, at: int) -> int | None:
        if data.startswith(b"\r\n", at):
            end = at
        else:
            end = data.find(b"\r\n\r\n", at, at + LONGEST_TRAILERS) + 2
            if end == 1:
                if len(data) - at >= LONGEST_TRAILERS:
                    raise BadBody("its trailers are too long")
                return None
        lines = trailers(data[at:end], self._treatment)
        if lines is None:
            raise BadBody("its trailers are malformed")
        self.trailers = lines
        self._step = self._done
        return end + 2

    def _done(self, _data: bytes, _at: int) -> int | None:
        raise AssertionError("it is complete")


Body = Sized | Chunked | UntilEnd


def chunk(data: bytes) -> bytes:
    """One chunk with this in it; nothing where there is nothing, for that would be the last."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def end_of_chunks(lines: bytes) -> bytes:
    """The last chunk, and these trailers."""
    return b"0\r\n%b\r\n" % lines


def passed_on(body: Body, data: bytes) -> tuple[bytes, bytes | None]:
    """What of this is the body's, as it goes on: what came in chunks, in chunks of our own; and the rest, as of `feed`."""
    payload, rest = body.feed(data)
    if not isinstance(body, Chunked):
        return payload, rest
    piece = chunk(payload)
    return (piece, None) if rest is None else (piece + end_of_chunks(body.trailers), rest)

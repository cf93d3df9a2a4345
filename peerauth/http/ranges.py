"""The Range field of a request (RFC 9110 section 14.2), for bytes."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

LONGEST = 1024  # bytes of the field's value
MOST_RANGES = 16  # more are not worth an answer of many parts: the whole is sent

_UNIT = re.compile(r"bytes[ \t]*=", re.IGNORECASE)  # units are case-insensitive, section 14.1
_SPEC = re.compile(r"([0-9]+)-([0-9]*)|-([0-9]+)")


@dataclass(frozen=True, slots=True)
class Span:
    """`length` bytes from `start` on."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """Where it is over."""
        return self.start + self.length


def parse_range(value: str, size: int) -> tuple[Span, ...] | None:
    """The ranges of a representation of `size` bytes that this field asks for; an empty tuple: none of them is there (416).

    None: the whole is to be sent, because the field is not valid, asks in another unit, or asks for what section 14.2 lets
    a server ignore: ranges that overlap or do not ascend, many of them, or any of an empty representation.
    """
    unit = _UNIT.match(value)
    if unit is None or len(value) > LONGEST or not size:
        return None
    texts = [text.strip(" \t") for text in value[unit.end() :].split(",")]
    specs = [_SPEC.fullmatch(text) for text in texts if text]  # a list may have empty elements, section 5.6.1
    if not specs or len(specs) > MOST_RANGES:
        return None
    spans = []
    for spec in specs:
        if spec is None or (spec[2] and int(spec[2]) < int(spec[1])):
            return None
        span = _span(spec, size)
        if span.length > 0:
            spans.append(span)
    disordered = any(after.start < before.end for before, after in itertools.pairwise(spans))
    return None if disordered else tuple(spans)


def _span(spec: re.Match[str], size: int) -> Span:
    """What one range of the field is of so many bytes; no bytes: it cannot be satisfied (section 14.1.2)."""
    if spec[3] is not None:
        length = min(int(spec[3]), size)
        return Span(size - length, length)
    start = int(spec[1])
    end = min(int(spec[2]) + 1, size) if spec[2] else size
    return Span(start, max(0, end - start))

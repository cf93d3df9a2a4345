"""The header fields of a message: one strict grammar, and which of them go on to the next.

Hop-by-hop fields end here (RFC 9110 section 7.6.1); what says how long the body is, or who is meant, is for us to judge
and to write anew. Everything else is passed on with its name, one colon, one space and its value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from peerauth.http.introduction import folded

MOST_FIELDS: Final = 100

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"  # RFC 9110 section 5.6.2
# RFC 9112 section 5: no space before the colon, no folded line, no line that ends with less than CRLF, no control
# character in a value. Possessive, so that no input is looked at twice.
LINE: Final = TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n"
_FIELD = re.compile(rb"(" + TOKEN + rb"++):([\t\x20-\x7e\x80-\xff]*+)\r\n")
_LINES = re.compile(rb"(?:" + LINE + rb")*+")

Fields = list[tuple[bytes, bytes]]

PASSED: Final = b""  # how a field is treated: it goes on,
DROPPED: Final = b"-"  # it ends here, or by its own name: we look at it

HOP_BY_HOP: Final = frozenset({
    b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection",
    b"proxy",  # is none; in CGI's environment it sets the proxy of the program (CVE-2016-5385)
})  # fmt: skip
# What a trailer may not be (RFC 9110 section 6.5.1): what frames, routes, changes or authenticates the message.
_NO_TRAILER: Final = frozenset({
    b"age", b"authorization", b"cache-control", b"content-encoding", b"content-range", b"content-type", b"cookie", b"date",
    b"expires", b"location", b"max-forwards", b"origin", b"pragma", b"range", b"referer", b"retry-after", b"set-cookie",
    b"vary", b"warning", b"www-authenticate",
})  # fmt: skip

_MOST_SPELLINGS = 1024
_LONGEST_SPELLING = 64  # bytes


class Treatment(dict[bytes, bytes]):
    """How a field is treated, by its name in any spelling: PASSED, DROPPED, or its name in lower case.

    `judged`: those that we look at; `ended`: whether one in lower case ends here besides those that are hop-by-hop. The
    spellings that were seen are kept, up to a number and a length: whoever makes up names makes us no larger.
    """

    def __init__(self, judged: Iterable[bytes], ended: Callable[[bytes], bool] = lambda _: False) -> None:
        super().__init__()
        self._judged = frozenset(judged)
        self._ended = ended

    def __missing__(self, name: bytes) -> bytes:
        lower = name.lower()
        kind = lower if lower in self._judged else PASSED
        if lower in HOP_BY_HOP or self._ended(lower) or (not kind and folded(lower) in self._judged):
            kind = DROPPED  # CGI and its kind take Content_Length for Content-Length
        if len(self) < _MOST_SPELLINGS and len(name) <= _LONGEST_SPELLING:
            self[name] = kind
        return kind


def are_lines(block: bytes) -> bool:
    """Whether this is nothing but whole lines of fields."""
    return _LINES.fullmatch(block) is not None


def sort(block: bytes, treatment: Treatment) -> tuple[Fields, dict[bytes, list[bytes]], int]:
    """The fields that go on, the values of those that we look at, and how many there are in all. `block`: whole lines."""
    passed: Fields = []
    judged: dict[bytes, list[bytes]] = {}
    found = _FIELD.findall(block)
    for name, value in found:
        kind = treatment[name]
        if not kind:
            passed.append((name, value.strip(b" \t")))
        elif kind is not DROPPED:
            judged.setdefault(kind, []).append(value.strip(b" \t"))
    return passed, judged, len(found)


def written(fields: Fields) -> bytes:
    """These fields as lines."""
    return b"".join([b"%b: %b\r\n" % field for field in fields])


def members(values: list[bytes]) -> list[bytes]:
    """The members of a list that stands in one field or several (RFC 9110 section 5.6.1), in lower case."""
    return [member for value in values for part in value.split(b",") if (member := part.strip(b" \t").lower())]


def without(fields: Fields, names: Iterable[bytes]) -> Fields:
    """These fields without those of these names, which are in lower case."""
    gone = frozenset(names)
    return [field for field in fields if field[0].lower() not in gone]


def trailers(block: bytes, treatment: Treatment) -> bytes | None:
    """The trailer fields of this block that go on, as lines; None: they are no fields."""
    if not are_lines(block):
        return None
    passed, _, count = sort(block, treatment)
    return None if count > MOST_FIELDS else written(without(passed, _NO_TRAILER))

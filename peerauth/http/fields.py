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

PASSED: Final = b""  # how a field is treated: it goes on,
NOTED: Final = b"+"  # it goes on, and we look at that,
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
    """How a field is treated, by its name in any spelling: PASSED, NOTED, DROPPED, or its name in lower case.

    `judged`: those that we look at; `ended`: whether one in lower case ends here besides those that are hop-by-hop; `noted`:
    whether one goes on that is NOTED. The spellings that were seen are kept, up to a number and a length: whoever makes up
    names makes us no larger.
    """

    def __init__(
        self,
        judged: Iterable[bytes],
        ended: Callable[[bytes], bool] = lambda _: False,
        noted: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        super().__init__()
        self._judged = frozenset(judged)
        self._ended = ended
        self._noted = noted

    def __missing__(self, name: bytes) -> bytes:
        lower = name.lower()
        kind = lower if lower in self._judged else PASSED
        if lower in HOP_BY_HOP or self._ended(lower) or (not kind and folded(lower) in self._judged):
            kind = DROPPED  # CGI and its kind take Content_Length for Content-Length
        elif not kind and self._noted(lower):
            kind = NOTED
        if len(self) < _MOST_SPELLINGS and len(name) <= _LONGEST_SPELLING:
            self[name] = kind
        return kind


def are_lines(block: bytes) -> bool:
    """Whether this is nothing but whole lines of fields."""
    return _LINES.fullmatch(block) is not None


def sort(block: bytes, treatment: Treatment) -> tuple[list[bytes], dict[bytes, list[bytes]]]:
    """Each field as a line that goes on, empty where it does not; and the values of those that we look at.

    `block`: whole lines. NOTED is the name of what is NOTED, with nothing for its values.
    """
    lines: list[bytes] = []
    judged: dict[bytes, list[bytes]] = {}
    for name, value in _FIELD.findall(block):
        kind = treatment[name]
        if not kind:
            lines.append(b"%b: %b\r\n" % (name, value.strip(b" \t")))
        elif kind is NOTED:
            lines.append(b"%b: %b\r\n" % (name, value.strip(b" \t")))
            judged[NOTED] = []
        else:
            lines.append(b"")
            if kind is not DROPPED:
                judged.setdefault(kind, []).append(value.strip(b" \t"))
    return lines, judged


def ordinary(line: bytes, treatment: Treatment) -> bytes | None:
    """One field as a line that goes on, if this is one (without its end) that is just PASSED."""
    found = _FIELD.fullmatch(line + b"\r\n")
    if found is None or treatment[found[1]] is not PASSED:
        return None
    return b"%b: %b\r\n" % (found[1], found[2].strip(b" \t"))


def written(name: bytes, values: Iterable[bytes]) -> bytes:
    """A line of this name for each value."""
    return b"".join([b"%b: %b\r\n" % (name, value) for value in values])


def members(values: list[bytes]) -> list[bytes]:
    """The members of a list that stands in one field or several (RFC 9110 section 5.6.1), in lower case."""
    if not values:
        return []
    return [member for value in values for part in value.split(b",") if (member := part.strip(b" \t").lower())]


def without(lines: list[bytes], names: Iterable[bytes]) -> list[bytes]:
    """These lines, with nothing for those of these names, which are in lower case."""
    gone = frozenset(names)
    return [b"" if line.partition(b":")[0].lower() in gone else line for line in lines]


def trailers(block: bytes, treatment: Treatment) -> bytes | None:
    """The trailer fields of this block that go on, as lines; None: they are no fields."""
    if not are_lines(block):
        return None
    lines, _ = sort(block, treatment)
    return None if len(lines) > MOST_FIELDS else b"".join(without(lines, _NO_TRAILER))

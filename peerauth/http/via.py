"""Via: which proxies a request has come by (RFC 9110 section 7.6.3).

A gateway must say so to the program behind it. It tells neither its version nor whose node it is, and the peer hears nothing
of it. Who finds itself there too often is asked by what it asks: a request that goes in a circle is ended.
"""

from __future__ import annotations

from typing import Final

from peerauth.http.fields import members

PSEUDONYM: Final = b"peerauth"
MOST_TIMES: Final = 16  # that a request may have come by one of our kind


def times(values: list[bytes]) -> int:
    """How often these Via fields name one of our kind."""
    return sum(member.split()[1:2] == [PSEUDONYM] for member in members(values))


def line(values: list[bytes], *, old: bool) -> bytes:
    """The field as it goes on: behind the others, in order, is who we are. `old`: what came was HTTP/1.0."""
    before = b"".join([b"%b, " % value for value in values if value])
    return b"Via: %b1.%b %b\r\n" % (before, b"0" if old else b"1", PSEUDONYM)

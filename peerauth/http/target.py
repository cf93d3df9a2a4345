"""Request targets (RFC 9112 section 3.2), each brought to the one form in which it is judged and passed on.

What is judged is what is forwarded, so nobody reads another path than the one that was allowed:

1. Escapes are decoded once. Of unreserved characters they go (RFC 3986 section 6.2.2.2), the others stay, in upper case.
2. `.` and `..` are resolved (section 5.2.4); who climbs above the root is refused.
3. What RFC 3986 does not allow is refused, not mended (RFC 9112 section 3.2). A query is passed on as it is.

Where there are routes, more is made plain or refused, because programs disagree about it: `//` becomes `/`, and an encoded
slash, a backslash, `;`, `?`, `#`, an escape that is itself escaped, what cannot be seen and what is not UTF-8 do not pass.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from peerauth.http.errors import BadRequest

_PLAIN = re.compile(rb"(?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*)*/?")  # nothing to be done
# What a browser writes as it is in a path: visible ASCII but the path percent-encode set of the URL standard and "\".
_PATH = re.compile(rb"/[!$%&'()*+,./0-9:;=@A-Z\[\]_a-z|~-]*")
_QUERY = re.compile(rb"[!-\"$-~]*")  # visible ASCII but "#"
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
# RFC 3986 section 3.2.2 without escapes and sub-delims, which no host on the wire has: headers read "," and ";" otherwise.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_READ_TWO_WAYS = re.compile(r"[\\;?#]|%[0-9A-Fa-f]{2}")
_LONGEST_HOST = 262  # 255 (RFC 1035 section 2.3.4), with a port


@dataclass(frozen=True, slots=True)
class Target:
    """A target in its one form.

    `path` is decoded, for people and routes; `query` is what follows the "?", None without one; `forwarded` is the target
    that goes to the backend. `authority` is the host that an absolute target names, None where the Host field alone does.
    """

    path: str
    query: bytes | None
    forwarded: bytes
    authority: bytes | None = None


def check_host(host: bytes) -> bytes:
    """`host`, if it can be the value of a Host field (RFC 9110 section 7.2): a name or an address. Raises BadRequest."""
    if len(host) > _LONGEST_HOST or _HOST.fullmatch(host) is None:
        raise BadRequest("the host is not a name or an address")
    return host


def normalise(target: bytes, method: bytes = b"GET", *, routed: bool = True) -> Target:
    """The one form of a request target. `routed`: there are routes. Raises BadRequest."""
    if method == b"CONNECT":
        raise BadRequest("CONNECT is not spoken here: this is no forward proxy", 501)
    if target == b"*":
        if method != b"OPTIONS":
            raise BadRequest("the target * is for OPTIONS alone")
        return Target("*", None, b"*")
    authority = None
    if (absolute := _ABSOLUTE.match(target)) is not None:
        authority = check_host(absolute[1])
        target = target[absolute.end() :]
        if not target and method == b"OPTIONS":
            return Target("*", None, b"*", authority)  # RFC 9112 section 3.2.4
        if not target.startswith(b"/"):
            target = b"/" + target  # RFC 9112 section 3.2.1
    raw, mark, rest = target.partition(b"?")
    query = rest if mark else None
    if query is not None and _QUERY.fullmatch(query) is None:
        raise BadRequest("the query has a character that must be percent-encoded")
    if raw and _PLAIN.fullmatch(raw) is not None:
        path = raw.decode("ascii")
    else:
        raw = _normal(raw, merge=routed)
        path = _decoded(raw, routed=routed)
    return Target(path, query, raw + mark + rest, authority)


def _normal(path: bytes, *, merge: bool) -> bytes:
    """The path with unreserved characters decoded and without dot segments; `merge`: without empty ones, too."""
    if _PATH.fullmatch(path) is None:
        if not path.startswith(b"/"):
            raise BadRequest("the target is not a path: it must begin with /")
        raise BadRequest("the path has a character that must be percent-encoded")
    return _resolved(_ESCAPE.sub(_escape, path), merge=merge)


def _escape(found: re.Match[bytes]) -> bytes:
    if found[1] is None:
        raise BadRequest("the path has a % that is not followed by two hex digits")
    byte = int(found[1], 16)
    return bytes((byte,)) if byte in _UNRESERVED else found[0].upper()


def _resolved(path: bytes, *, merge: bool) -> bytes:
    first, *segments = path.split(b"/")
    kept = [first]
    for segment in segments:
        if segment == b"..":
            if len(kept) == 1:
                raise BadRequest("the path climbs above the root")
            kept.pop()
        elif segment != b"." and (segment or not merge):
            kept.append(segment)
    if (not segments[-1] and merge) or segments[-1] in {b".", b".."}:
        kept.append(b"")
    return b"/".join(kept) if len(kept) > 1 else b"/"


def _decoded(path: bytes, *, routed: bool) -> str:
    data = unquote_to_bytes(path)
    if not routed:
        return data.decode("utf-8", "replace")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest("the path is not UTF-8") from None  # overlong forms of "/" and "." among it
    _check_plain(text, path.count(b"/"))
    if not text.isascii():
        _check_plain(unicodedata.normalize("NFKC", text), path.count(b"/"))
    return text


def _check_plain(text: str, slashes: int) -> None:
    """Raise BadRequest where some program may read another path in this text than what its slashes say."""
    if not text.isprintable():
        raise BadRequest("the path has a character that cannot be seen")
    if text.count("/") != slashes or _READ_TWO_WAYS.search(text) is not None:
        raise BadRequest("the path has a character that programs do not agree on")
    if any(segment and not segment.strip(". ") for segment in text.split("/")):
        raise BadRequest("the path has a segment of dots and spaces, which some read as another")

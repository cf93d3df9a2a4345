"""From the path of a request to the names of directories and a file, or to nothing.

The rules:
1. What is percent-encoded is decoded once, after the path was taken apart at its slashes (RFC 3986 sections 2.4 and 3.3): an
   encoded slash is part of a name, and no file has such a name.
2. One name for one thing: `.`, `..` and empty segments are never there, in any spelling. Clients remove them before they ask
   (RFC 3986 section 5.2.4), so nobody misses them, and a rule about a path cannot be walked around.
3. A name that begins with a dot is hidden, except `.well-known` at the top (RFC 8615).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

MOST_NAMES = 100
LONGEST_NAME = 255  # bytes: NAME_MAX of every usual file system
_WELL_KNOWN = b".well-known"


@dataclass(frozen=True, slots=True)
class Asked:
    """The names from the top down, as bytes of the file system; `directory`: the path ends with a slash."""

    names: tuple[bytes, ...]
    directory: bool


def parse_path(raw: bytes) -> Asked | None:
    """What this path of a request asks for (without its query); None: nothing can be there."""
    if not raw.startswith(b"/") or raw.count(b"/") > MOST_NAMES:
        return None
    *above, last = [unquote_to_bytes(segment) for segment in raw[1:].split(b"/")]
    names = (*above, last) if last else tuple(above)
    if not all(_can_be(name) for name in names) or any(is_hidden(name) for name in names[1:]):
        return None
    if names and is_hidden(names[0]) and names[0] != _WELL_KNOWN:
        return None
    return Asked(names, directory=not last)


def _can_be(name: bytes) -> bool:
    return 0 < len(name) <= LONGEST_NAME and name not in {b".", b".."} and b"/" not in name and b"\0" not in name


def is_hidden(name: bytes) -> bool:
    """Whether this name is not shown."""
    return name.startswith(b".")


def reference(name: bytes, *, directory: bool) -> str:
    """A relative reference to this name (RFC 3986 section 4.2); `./` keeps a colon from making it a scheme."""
    return f"./{quote(name, safe='')}{'/' if directory else ''}"

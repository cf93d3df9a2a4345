"""Whether a request wants what there is: entity tags, dates and preconditions (RFC 9110 sections 8.8 and 13)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate, parsedate
from enum import Enum
from hashlib import blake2b

SETTLED = 2.0  # seconds; a file that was changed later than that may change again without its times telling

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_LAST = 253402300799  # the last second that four digits of a year can say

Fields = Mapping[bytes, bytes]  # of a request, by name in lower case; several lines of one name are one, with commas


@dataclass(frozen=True, slots=True)
class Version:
    """What identifies one state of a representation. `modified`: in seconds, None where no date can say it.

    `settled`: it identifies exactly these bytes; otherwise the tag is a weak one (section 8.8.1).
    """

    tag: str
    modified: int | None
    settled: bool

    @property
    def etag(self) -> str:
        """The ETag field."""
        return f'{"" if self.settled else "W/"}"{self.tag}"'

    @property
    def last_modified(self) -> str | None:
        """The Last-Modified field."""
        return None if self.modified is None else formatdate(self.modified, usegmt=True)


def version_of(inode: int, size: int, modified: int, changed: int, now: float) -> Version:
    """The version of a file. `modified`, `changed`: its mtime and ctime, in nanoseconds; `now`: seconds.

    The tag is made of all four: whatever writes to a file changes its ctime, also where the mtime is set back.
    """
    tag = blake2b(f"{inode} {size} {modified} {changed}".encode(), digest_size=12).hexdigest()
    latest = max(modified, changed) / 1e9
    seconds = min(modified // 1_000_000_000, int(now))  # never later than Date, section 8.8.2.1
    return Version(tag, seconds if 0 <= seconds <= _LAST else None, settled=latest + SETTLED < now)


class Wanted(Enum):
    """What the preconditions of a request make of it."""

    YES = 200
    NOT_MODIFIED = 304
    FAILED = 412


def evaluate(fields: Fields, version: Version) -> Wanted:
    """Ask the preconditions of a GET or HEAD in the order of section 13.2.2."""
    if (text := _text(fields, b"if-match")) is not None:
        is_the_one = _matches(text, version, strong=True)
    else:
        is_the_one = _is_of(_date(fields, b"if-unmodified-since"), version) is not False
    if not is_the_one:
        return Wanted.FAILED
    if (text := _text(fields, b"if-none-match")) is not None:
        is_known = _matches(text, version, strong=False)
    else:
        is_known = _is_of(_date(fields, b"if-modified-since"), version) is True
    return Wanted.NOT_MODIFIED if is_known else Wanted.YES


def _is_of(date: int | None, version: Version) -> bool | None:
    """Whether the version is from then or before; None where there is no date to compare."""
    return None if date is None or version.modified is None else version.modified <= date


def range_applies(fields: Fields, version: Version) -> bool:
    """Whether If-Range lets a Range count: it is not there, or names exactly this version (section 13.1.5)."""
    text = _text(fields, b"if-range")
    if text is None:
        return True
    if '"' in text:
        return version.settled and text == version.etag
    return version.settled and version.modified is not None and text == version.last_modified


def _matches(text: str, version: Version, *, strong: bool) -> bool:
    """Whether one of these tags is the version's, by section 8.8.3.2."""
    if text == "*":
        return True
    tags = {tag for weak, tag in _TAG.findall(text) if not (strong and weak)}
    return version.tag in tags and (version.settled or not strong)


def _text(fields: Fields, name: bytes) -> str | None:
    value = fields.get(name)
    return None if value is None else value.decode("latin-1").strip(" \t")


def _date(fields: Fields, name: bytes) -> int | None:
    """A date in any of the three formats of section 5.6.7; None, which means to ignore it, where it is none."""
    text = _text(fields, name)
    if text is None or not 24 <= len(text) <= 40:
        return None
    try:
        parts = parsedate(text)
        return None if parts is None else int(datetime(*parts[:6], tzinfo=UTC).timestamp())
    except (ValueError, OverflowError, IndexError, TypeError):
        return None

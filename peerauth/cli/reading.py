"""Input that a person names on the command line: a file, `-`, or what the shell makes of `<(command)`."""

from __future__ import annotations

import sys
from pathlib import Path

from peerauth.errors import BadInput
from peerauth.store.files import read_bounded, shown

STANDARD_INPUT = "-"
_OPEN_ALREADY = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")


def read_input(path: Path, limit: int) -> bytes:
    """Everything in this input. Raises BadInput naming it: `too-large`, or as `read_bounded` does."""
    if str(path) == STANDARD_INPUT:
        return _bounded(sys.stdin.buffer.read(limit + 1), "standard input", limit)
    if str(path).startswith(_OPEN_ALREADY):
        try:
            with path.open("rb") as file:
                return _bounded(file.read(limit + 1), shown(path), limit)
        except OSError as error:
            raise BadInput("unreadable", f"{shown(path)} cannot be read: {error.strerror}") from error
    return read_bounded(path, limit)


def _bounded(data: bytes, name: str, limit: int) -> bytes:
    if len(data) > limit:
        raise BadInput("too-large", f"{name} is larger than {limit // 1024} KB")
    return data

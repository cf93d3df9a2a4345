"""The usual peer, read quickly: one file with one certificate in it and nothing else, under the peer's name and a suffix.

There may be a hundred thousand of them. What is done here is done for each, so it is little: four system calls, a hash, and
what is cheap to find out about a certificate (trust/reading.py). Everything else is left to who reads with care.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from peerauth.errors import BadInput
from peerauth.store import files
from peerauth.store.records import CERTIFICATE_SUFFIXES, NO_LOOK, look_of, peer_name, usual
from peerauth.trust.peers import NAME
from peerauth.trust.reading import glance

MAXIMUM_BYTES = 256 << 10
_RACY = 0.1  # seconds: a file written this shortly before it was read may change again within one clock tick

_BY_NAME = os.open in os.supports_dir_fd  # Windows cannot


def read_usual(directory: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The records, by peer, of those of these files that are of the usual kind; the others are left out."""
    found: dict[str, bytes] = {}
    with _opened(directory) as (descriptor, prefix):
        for file in names:
            name = peer_name(file)
            if not file.endswith(CERTIFICATE_SUFFIXES) or NAME.fullmatch(name) is None:
                continue
            try:
                status, data = files.read_with_status(prefix + file, MAXIMUM_BYTES, descriptor)
            except BadInput:
                continue
            seen = glance(data)
            if seen is not None and (record := usual(name, file, settled_look(status), *seen)) is not None:
                found[name] = record
    return found


def settled_look(status: os.stat_result) -> bytes:
    """How a file looks that had this status just now; NO_LOOK where it may change once more without looking different."""
    recent = (time.time() - _RACY) * 1e9
    return NO_LOOK if status.st_mtime_ns > recent or status.st_ctime_ns > recent else look_of(status)


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[tuple[int | None, str]]:
    """What the names of its files are said to, and what is put before them: so no path is walked through for each."""
    descriptor = None
    if _BY_NAME:
        with contextlib.suppress(OSError):
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if descriptor is None:
        yield None, os.path.join(directory, "")  # noqa: PTH118 - a Path for each of a hundred thousand costs a second
        return
    try:
        yield descriptor, ""
    finally:
        os.close(descriptor)

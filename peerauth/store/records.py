"""What is remembered of the files of a peer: how each looked, and the last good thing it said.

Nearly every peer is one file with one certificate in it. Of that 68 bytes are kept, in one object; of anything else a tuple
of `File`s. The set of files is a mapping from the peer's name (the stem in lower case) to the one or the other.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from peerauth.trust.expiry import Ending
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import NO_SETTINGS, Peer, PeerSettings, Row

CERTIFICATE_SUFFIXES = (".crt", ".pem", ".cer", ".der")
_WHICH = {suffix: bytes([number]) for number, suffix in enumerate(CERTIFICATE_SUFFIXES)}
_LOOK = struct.Struct("<QQQIH")
_WHOLE, _HALF = 0xFFFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF
NO_LOOK = bytes(_LOOK.size)  # no file looks like this: it will be read again
_END = 1 + _LOOK.size  # of the certificate: five bytes are enough until the year 9999 (RFC 5280 section 4.1.2.5)
_PIN = _END + 5


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the directory that could not be used as it is."""

    path: Path
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class File:
    """One file. `name` is its name in the directory."""

    name: str
    look: bytes
    pins: tuple[Fingerprint, ...] = ()
    keys: tuple[Fingerprint, ...] = ()
    ends: tuple[int, ...] = ()  # of each pin's certificate: not after, in seconds since 1970
    settings: PeerSettings | None = None
    problem: Problem | None = None


Record = bytes | tuple[File, ...]


def is_ours(name: str) -> bool:
    """Whether a file of this name says something about peers."""
    return not name.startswith(".") and name.lower().endswith((*CERTIFICATE_SUFFIXES, ".toml"))


def is_notes(name: str) -> bool:
    """Whether it is a peer's notes rather than its certificate."""
    return name.lower().endswith(".toml")


def peer_name(name: str) -> str:
    """The peer that a file of this name is about."""
    return name.rpartition(".")[0].lower()


def look_of(status: os.stat_result) -> bytes:
    """A file's times, size, number and mode: when these are the same, so is its content."""
    return _LOOK.pack(
        status.st_mtime_ns & _WHOLE,
        status.st_ctime_ns & _WHOLE,
        status.st_ino & _WHOLE,
        min(status.st_size, _HALF),
        status.st_mode & 0xFFFF,
    )


def usual(name: str, file: str, look: bytes, pin: bytes, end: int) -> bytes | None:
    """The record of a peer with this one file, whose name must be the peer's and a suffix; None where it is not."""
    which = _WHICH.get(file[len(name) :])
    return which + look + end.to_bytes(5) + pin if which is not None and file.startswith(name) else None


def files_of(name: str, record: Record | None) -> tuple[File, ...]:
    """The files of a peer in full, in the order of their names."""
    if isinstance(record, bytes):
        pins, ends = (Fingerprint(record[_PIN:]),), (end_of(record),)
        return (File(_usual_name(name, record), record[1:_END], pins, ends=ends),)
    return record or ()


def record_of(name: str, files: tuple[File, ...]) -> Record | None:
    """The record of these files, as small as it can be; None when there is none."""
    if len(files) == 1 and len(files[0].pins) == 1 and files[0].problem is None:
        only = files[0]
        return usual(name, only.name, only.look, only.pins[0].digest, only.ends[0]) or files
    return tuple(sorted(files, key=lambda file: file.name)) or None


def file_names(name: str, record: Record | None) -> tuple[str, ...]:
    """The names of the files of a peer."""
    return (_usual_name(name, record),) if isinstance(record, bytes) else tuple(file.name for file in record or ())


def count_of(record: Record | None) -> int:
    """How many files of a peer there are."""
    return 1 if isinstance(record, bytes) else len(record or ())


def remembered_look(name: str, record: Record | None, file: str) -> bytes | None:
    """How this file of a peer looked; None when it is not known."""
    if isinstance(record, bytes):
        return record[1:_END] if _usual_name(name, record) == file else None
    return next((known.look for known in record or () if known.name == file), None)


def row_of(name: str, record: Record | None) -> Row | None:
    """The peer that these files make; None where they make none."""
    if isinstance(record, bytes):
        return record[_PIN:]
    notes = [file for file in record or () if is_notes(file.name)]
    certificates = [file for file in record or () if file.pins]
    if not certificates or any(file.settings is None for file in notes):
        return None  # restrictions that were never readable: fail closed; the problem is in the list
    settings = next((file.settings for file in notes[::-1] if file.settings), NO_SETTINGS)
    pins = tuple(dict.fromkeys(pin for file in certificates for pin in file.pins))
    over = {pin: key for file in certificates for pin, key in zip(file.pins, file.keys, strict=False)}
    return Peer(name, pins, settings, tuple(over[pin] for pin in pins if pin in over) if settings.pin == "key" else ())


def end_of(record: bytes) -> int:
    """When the certificate of a usual peer ends, in seconds since 1970."""
    return int.from_bytes(record[_END:_PIN])


def ending_of(name: str, record: Record | None) -> Ending | None:
    """Until when the peer that these files make can come: the end of its pin that lasts longest.

    None where they make no peer, where its `until` comes first, and where it is pinned by its key and may come with newer
    certificates.
    """
    if isinstance(record, bytes):
        return Ending(name, Fingerprint(record[_PIN:]), end_of(record))
    row = row_of(name, record)
    if not isinstance(row, Peer) or row.settings.pin == "key":
        return None
    end, pin = max((end, pin.digest) for file in record or () for pin, end in zip(file.pins, file.ends, strict=True))
    until = row.settings.until
    if until is not None and until.timestamp() <= end:
        return None
    return Ending(name, Fingerprint(pin), end)


def _usual_name(name: str, record: bytes) -> str:
    return name + CERTIFICATE_SUFFIXES[record[0]]

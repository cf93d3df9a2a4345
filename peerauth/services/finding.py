"""What a request for a file gets: looked for beneath the service's directory, opened, and read at once where it is small.

All of it may wait for a disk, and is done in a thread.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from peerauth.http.conditions import Fields, version_of
from peerauth.http.filepath import Asked, is_hidden, reference
from peerauth.http.listing import MOST_ENTRIES, POLICY, Entry, Form, chosen_form, write_listing
from peerauth.http.media import media_type
from peerauth.http.ranges import Span
from peerauth.http.selection import Field, Representation, Selection, select
from peerauth.services.beneath import NotBeneath, Opened, list_names, open_beneath, open_top
from peerauth.services.stretch import Changed

SMALL = 64 << 10  # bytes of a body that is read at once, and needs no stretch
_TRIES = 3
_INDEX = b"index.html"
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; whoever has it closes its `file`, of which the parts are that are no bytes."""

    status: int
    fields: tuple[Field, ...]
    parts: tuple[bytes | Span, ...] = ()
    file: Opened | None = None


def said(status: int, text: str, *fields: Field) -> Reply:
    """An answer in one line."""
    body = text.encode() + b"\n"
    return Reply(status, (*fields, _TEXT, (b"content-length", b"%d" % len(body))), (body,))


NOT_HERE = said(404, "there is nothing here")


@dataclass(frozen=True, slots=True)
class Question:
    """A GET or a HEAD: for what, with which fields and which query."""

    method: str
    asked: Asked
    fields: Fields
    query: bytes


@dataclass(frozen=True, slots=True)
class Finder:
    """What is beneath `directory`, which is looked up anew each time. `key` is never served, whatever it is called there."""

    directory: Path
    key: Path | None

    def find(self, question: Question) -> Reply:
        """The answer. Raises OSError where the disk, and not the question, is the trouble."""
        try:
            with open_top(self.directory) as top:
                for _ in range(_TRIES):
                    with suppress(Changed):
                        return self._look(top, question)
            return said(503, "it is being written to all the time", (b"retry-after", b"1"))
        except NotBeneath:
            return NOT_HERE
        except OSError as error:
            if error.errno in _ABSENT and error.filename != str(self.directory):
                return NOT_HERE
            if error.errno in {errno.EACCES, errno.EPERM}:
                return said(403, "this node may not read it itself")
            raise

    def _look(self, top: Opened, question: Question) -> Reply:
        names, is_directory = question.asked.names, question.asked.directory
        found = open_beneath(top, names)
        if not found.is_directory:
            return self._file(question, names, found) if not is_directory else _closed(found, NOT_HERE)
        with found:
            if not is_directory:
                where = reference(names[-1], directory=True).encode() + (b"?" + question.query if question.query else b"")
                return said(301, "it is a directory", (b"location", where))
            inside = (*names, _INDEX)
            with suppress(FileNotFoundError, NotBeneath):
                index = open_beneath(top, inside)
                return _closed(index, NOT_HERE) if index.is_directory else self._file(question, inside, index)
            return _listing(top, names, found, question.fields)

    def _file(self, question: Question, names: tuple[bytes, ...], file: Opened) -> Reply:
        """The answer that is a file, or about it."""
        with ExitStack() as closing:
            closing.enter_context(file)
            if self._is_secret(file):
                return NOT_HERE
            about = file.status
            version = version_of(about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns, time.time())
            representation = Representation(about.st_size, version, media_type(names[-1]))
            chosen = select(question.method, question.fields, representation, secrets.token_hex(12))
            spans = [part for part in chosen.parts if isinstance(part, Span)]
            if question.method == "HEAD" or not spans:
                return Reply(chosen.status, chosen.fields, chosen.parts)
            if sum(span.length for span in spans) <= SMALL:
                return Reply(chosen.status, chosen.fields, (_read(file, chosen),))
            closing.pop_all()  # it is the reply's now
            return Reply(chosen.status, chosen.fields, chosen.parts, file)

    def _is_secret(self, file: Opened) -> bool:
        if self.key is None:
            return False
        with suppress(OSError):
            key = self.key.stat()
            return (key.st_dev, key.st_ino) == (file.status.st_dev, file.status.st_ino)
        return False


def _closed(opened: Opened, reply: Reply) -> Reply:
    with opened:
        return reply


def _read(file: Opened, chosen: Selection) -> bytes:
    """The whole body. Raises Changed where the file was written to meanwhile."""
    pieces = []
    for part in chosen.parts:
        piece = os.pread(file.descriptor, part.length, part.start) if isinstance(part, Span) else part
        if isinstance(part, Span) and len(piece) != part.length:
            raise Changed
        pieces.append(piece)
    if not file.is_unchanged:
        raise Changed
    return b"".join(pieces)


def _listing(top: Opened, names: tuple[bytes, ...], directory: Opened, fields: Fields) -> Reply:
    form = chosen_form(fields.get(b"accept", b""))
    inside, more = list_names(directory, MOST_ENTRIES)
    body = write_listing(form, names, _entries(top, names, directory, inside), more=more)
    policy = ((b"content-security-policy", POLICY.encode()),) if form is Form.HTML else ()
    kind = form.value.encode() + (b"" if form is Form.JSON else b"; charset=utf-8")
    about = ((b"content-type", kind), (b"content-length", b"%d" % len(body)), (b"vary", b"accept"))
    return Reply(200, (*about, (b"cache-control", b"private, no-cache"), *policy), (body,))


def _entries(top: Opened, names: tuple[bytes, ...], directory: Opened, inside: list[bytes]) -> Iterator[Entry]:
    """Those that would be found if they were asked for."""
    for name in inside:
        if is_hidden(name):
            continue
        with suppress(OSError):
            status = os.stat(name, dir_fd=directory.descriptor, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                with open_beneath(top, (*names, name)) as found:
                    status = found.status
            if stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode):
                yield Entry(name, stat.S_ISDIR(status.st_mode), status.st_size, status.st_mtime)

"""A file of settings as it is read: its values, where they stand, and what is wrong with it.

Whoever only wants the settings hears of the first mistake, which is raised. Whoever wants to know every mistake has them
gathered.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peerauth.errors import BadInput, counted, printable
from peerauth.store.files import shown

if TYPE_CHECKING:
    from peerauth.store.places import At

_AT_LINE = re.compile(r"\(at (?:line (\d+), column (\d+)|end of document)\)")
_MOST = 20  # mistakes that are named where nobody has asked for them
_SETTING = re.compile(r"""\s*[\w."'-]+\s*=""")


class Mistake(BadInput):
    """What is wrong with a file of settings, and in which of its lines, from 1, where there is one."""

    def __init__(  # noqa: PLR0917 - the first five as for any error, with where it is before what it is
        self, code: str, path: Path, line: int | None, text: str, hint: str | None = None, key: str = ""
    ) -> None:
        super().__init__(code, f"{shown(path)}{'' if line is None else f':{line}'}: {text}", hint)
        self.path = path
        self.line = line
        self.text = text
        self.key = key  # of the table that was being read, where it is about one


class Document:
    """A file of settings that is being read: where its keys stand, and what was found to be wrong with it.

    While mistakes are gathered, nothing is raised for them: a value that is none counts as not set.
    """

    def __init__(self, path: Path, text: str, *, gathering: bool = False) -> None:
        self.path = path
        self.gathering = gathering
        self.mistakes: list[Mistake] = []
        self.mended = False  # lines were left out: what is missing may have stood there
        self._text = text

    @cached_property
    def lines(self) -> dict[At, int]:
        """Where everything stands."""
        from peerauth.store.places import lines_of  # noqa: PLC0415 - only where there is something to be said

        return lines_of(self._text)

    def line(self, at: At) -> int | None:
        """The line of a key; of the table that it would stand in, where it is not there."""
        while at:
            if at in self.lines:
                return self.lines[at]
            at = at[:-1]
        return None

    def note(self, mistake: Mistake) -> None:
        """Have it listed, once."""
        if (mistake.line, mistake.text) not in [(other.line, other.text) for other in self.mistakes]:
            self.mistakes.append(mistake)


def together(mistakes: Sequence[Mistake]) -> Mistake:
    """All of them as one error: the first in the file, and with it the others, of which so many are named."""
    first, *others = sorted(mistakes, key=lambda mistake: (mistake.line is None, mistake.line or 0))
    first.also = tuple(others[: _MOST - 1])
    if left := len(others) - len(first.also):
        more = BadInput(others[-1].code, f"{shown(first.path)} has {counted(left, 'mistake')} more", "peerauth up --check")
        first.also = (*first.also, more)
    return first


def read_document(data: bytes, path: Path, *, gathering: bool = False) -> tuple[dict[str, Any], Document]:
    """The values of a document, and where they stand. Raises BadInput("bad-toml"), unless mistakes are gathered."""
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        document = Document(path, "", gathering=gathering)
        return _unreadable(document, Mistake("bad-toml", path, line, "this is not UTF-8 text"))
    document = Document(path, text, gathering=gathering)
    while True:
        try:
            return tomllib.loads(text), document
        except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
            mistake = _not_toml(error, path, text)
            before = document.mistakes[-1].line if document.mistakes else None
            rows = text.split("\n")
            if not gathering or mistake.line is None or not _is_one_setting(rows, mistake.line, before):
                return _unreadable(document, mistake)
            document.note(mistake)
            document.mended = True
            rows[mistake.line - 1] = ""
            text = "\n".join(rows)


def _unreadable(document: Document, mistake: Mistake) -> tuple[dict[str, Any], Document]:
    if not document.gathering:
        raise mistake
    document.note(mistake)
    document.mended = True
    return {}, document


def _not_toml(error: Exception, path: Path, text: str) -> Mistake:
    found = _AT_LINE.search(str(error))
    if isinstance(error, RecursionError) or found is None:
        return Mistake("bad-toml", path, None, f"is not valid TOML: {printable(str(error))}")
    line = int(found[1]) if found[1] else text.rstrip("\n").count("\n") + 1
    reason, column = printable(str(error)[: found.start()].strip()), found[2]
    hint = 'a text stands in quotes, a list in brackets: name = "alice", allow = ["alice", "bob"]'
    where = f" (column {column})" if column else " (at the end of the file)"
    return Mistake("bad-toml", path, line, f"this is not valid TOML: {reason}{where}", hint)


def _is_one_setting(rows: list[str], line: int, before: int | None) -> bool:
    """Whether the rest can be read as if this line were not there: nothing that follows belongs to it."""
    return line <= len(rows) and _SETTING.match(rows[line - 1]) is not None and (before is None or line > before + 1)

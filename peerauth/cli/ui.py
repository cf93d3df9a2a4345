"""What a command says: data on standard output, words for people on standard error.

Colours, spinners and progress bars appear on a terminal only; `NO_COLOR` is respected. Whatever is said is escaped line by
line, so that nothing a stranger wrote can move the cursor or forge a line of ours. Commands that are named in what is said,
and hints in JSON, are as they are to be typed for this node.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TextIO

from peerauth.cli.commands import PROGRAM
from peerauth.cli.typed import typed
from peerauth.errors import PeerAuthError, printable

_LONGEST_LINE = 4000
_GAP, _NARROWEST = 2, 7  # between the columns of a table, and for the last one
_CODES = {"red": "31", "yellow": "33", "bold": "1", "dim": "2", "white on black": "97;40"}
Style = Literal["", "red", "yellow", "bold", "dim", "white on black"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A text in a table that has a colour on a terminal."""

    text: str
    style: Style = ""


@dataclass(frozen=True)
class Ui:
    """How one command talks. `home` is the node's home, absolute; `verbose` counts the -v.

    `called`: how the program is called in the commands that it proposes, so that they mean this home.
    """

    home: Path = field(default_factory=Path.cwd)
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    called: str = PROGRAM

    def here(self, text: str) -> str:
        """`text` with the commands in it as they are to be typed for this node: for what is said among data."""
        return typed(text, self.called)

    def data(self, text: str) -> None:
        """Print what the command was asked for, on standard output."""
        _print(sys.stdout, escaped(text))

    def picture(self, rows: Sequence[str]) -> None:
        """Print a picture made of block characters, which are its light parts, on standard output."""
        for row in rows:
            _print(sys.stdout, painted(escaped(row), "white on black", sys.stdout))

    def emit(self, value: object) -> None:
        """Print one JSON value on standard output: on one line, or indented for a person to read."""
        indent = 2 if sys.stdout.isatty() else None
        _print(sys.stdout, json.dumps(self._hints(value), indent=indent, default=_plain))

    def say(self, text: str) -> None:
        """Tell a person something, on standard error, unless --quiet."""
        if not self.quiet:
            self.notice(text)

    def notice(self, text: str) -> None:
        """Tell a person something that --quiet does not hide."""
        _print(sys.stderr, escaped(self.here(text)))

    def detail(self, text: str) -> None:
        """Tell a person more than most want to know: only with -v."""
        if self.verbose and not self.quiet:
            _print(sys.stderr, painted(escaped(text), "dim", sys.stderr))

    def warn(self, text: str, hint: str | None = None) -> None:
        """Tell a person about something that is not as it should be; --quiet does not hide it."""
        self._labelled("warning", "yellow", text, hint)

    def error(self, error: PeerAuthError) -> None:
        """Say why the command failed: for people on standard error and, in JSON mode, for programs on standard output."""
        if self.json:
            also = {"also": list(map(_as_data, error.also))} if error.also else {}
            self.emit({"error": {**_as_data(error), **also}})
        for one in (error, *error.also):
            self._labelled("error", "red", one.message, one.hint)

    def path(self, path: Path) -> str:
        """A path for people: relative when it is in or below the current directory, and escaped."""
        with contextlib.suppress(ValueError, OSError):
            path = path.relative_to(Path.cwd())
        return printable(os.fspath(path), 300)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str | Cell]]) -> None:
        """Print a table on standard output; for a program that reads it: one line a row, tabs between, no headers."""
        cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
        if not sys.stdout.isatty():
            for row in cells:
                _print(sys.stdout, "\t".join(_one_field(cell.text) for cell in row))
            return
        from rich.cells import cell_len
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        used = [index for index in range(len(headers)) if any(row[index].text for row in cells)]
        columns = [[Text(escaped(row[index].text), style=row[index].style) for row in cells] for index in used]
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        width = 0
        for index, texts in zip(used, columns, strict=True):
            last = index == used[-1]  # it alone is folded; nothing is cut off: a part of a fingerprint is never enough
            table.add_column(headers[index], no_wrap=not last, overflow="fold")
            lines = [line for text in texts for line in text.plain.split("\n")]
            width += max(map(cell_len, [headers[index], *lines])) + _GAP if not last else _NARROWEST
        for line in zip(*columns, strict=True):
            table.add_row(*line)
        console = Console(highlight=False)
        console.width = max(console.width, width)
        console.print(table)

    def confirm(self, question: str) -> bool:
        """Ask for a yes; the answer is no where nobody can be asked, and in JSON mode."""
        if self.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        sys.stderr.write(f"{escaped(question)} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    @contextlib.contextmanager
    def spinner(self, text: str) -> Iterator[None]:
        """Show that something is under way while the block runs."""
        if not self._lively():
            yield
            return
        from rich.console import Console

        with Console(stderr=True).status(escaped(text)):
            yield

    @contextlib.contextmanager
    def progress(self, text: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show how much of `total` bytes has come; the block calls what it is given with each further number of bytes."""
        if not self._lively():
            yield lambda _count: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bars:
            task = bars.add_task(escaped(text), total=total)
            yield lambda count: bars.update(task, advance=count)

    def _hints(self, value: object) -> object:
        """`value` with each `hint` in it as it is to be typed."""
        if self.called == PROGRAM:
            return value
        if isinstance(value, dict):
            return {
                key: self.here(held) if key == "hint" and isinstance(held, str) else self._hints(held)
                for key, held in value.items()
            }
        return [self._hints(held) for held in value] if isinstance(value, list | tuple) else value

    def _lively(self) -> bool:
        return sys.stderr.isatty() and not self.quiet and os.environ.get("TERM") != "dumb"

    def _labelled(self, label: str, style: Style, text: str, hint: str | None) -> None:
        _print(sys.stderr, f"{painted(label + ':', style, sys.stderr)} {escaped(self.here(text))}")
        if hint:
            _print(sys.stderr, f"{painted('hint:', 'bold', sys.stderr)} {escaped(self.here(hint))}")


def escaped(text: str) -> str:
    """`text` with everything escaped that is not printable, except the line breaks that we put there."""
    return "\n".join(printable(line, _LONGEST_LINE) for line in text.split("\n"))


def painted(text: str, style: Style, stream: TextIO) -> str:
    """`text` in a colour, if the stream is a terminal that shows colours."""
    if not style or not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def _print(stream: TextIO, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()


def _as_data(error: PeerAuthError) -> dict[str, str | None]:
    return {"code": error.code, "message": error.message, "hint": error.hint}


def _one_field(text: str) -> str:
    return printable(" ".join(text.split()), _LONGEST_LINE)


def _plain(value: object) -> object:
    """How values that JSON does not know are written."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)

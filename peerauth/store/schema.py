"""Reading TOML strictly: every key is known, every value has its type, and an error names the file and the field."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from peerauth.address import Address, parse_address
from peerauth.errors import BadInput, printable
from peerauth.store.document import Document, Mistake, read_document
from peerauth.trust.peers import ACCEPTANCES, Acceptance

if TYPE_CHECKING:
    from peerauth.store.places import At

T = TypeVar("T")
_MISSING = " is missing"
_SPAN = re.compile(r"(\d{1,6})\s*([smhdw]?)")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def parse_toml(data: bytes, path: Path, *, gathering: bool = False) -> Table:
    """The document as a table to be read. Raises BadInput("bad-toml") with the line, unless mistakes are gathered."""
    return Table(*read_document(data, path, gathering=gathering))


class Table:
    """A TOML table that remembers which keys were asked for; `done` complains about the rest."""

    def __init__(
        self, values: dict[str, Any], document: Document, at: At = (), prefix: str = "", *, lost: bool = False
    ) -> None:
        self._values = values
        self._document = document
        self.at = at
        self._prefix = prefix
        self._known: list[str] = []
        self._struck: set[str] = set()  # what has been found to be wrong, and counts as not set
        self._lost = lost  # something else stands in its place, which was said
        self._cut_short = False  # who read it gave up: there may be more keys that are known

    @property
    def directory(self) -> Path:
        """Where its file is: the paths in it are relative to that."""
        return self._document.path.parent

    @property
    def document(self) -> Document:
        """What it is a part of."""
        return self._document

    def line(self, key: str) -> int | None:
        """Where `key` stands; the line of the table itself, where it is not there."""
        return self._document.line((*self.at, key))

    def error(self, key: str, problem: str, hint: str | None = None) -> Mistake:
        """The error to raise for the value of `key`."""
        return Mistake("bad-setting", self._document.path, self.line(key), f"{self._prefix}{key} {problem}", hint, key)

    def wrong(self, key: str, problem: str, hint: str | None = None) -> None:
        """Raise `error`, or note it while mistakes are gathered."""
        self.note(self.error(key, problem, hint))

    def note(self, error: BadInput) -> None:
        """Raise this, or note it while mistakes are gathered: the key that it is about then counts as not set."""
        if not self._document.gathering:
            raise error
        key = error.key if isinstance(error, Mistake) else ""
        mistake = error if isinstance(error, Mistake) else self.error(key, error.message, error.hint)
        explained = self._lost or key in self._struck or (self._document.mended and key not in self._values)
        if not (explained and mistake.text.endswith(_MISSING)):
            self._document.note(mistake)
        self._struck.add(key)

    def attempt(self, read: Callable[[], T]) -> T | None:
        """What `read` makes of this table.

        While mistakes are gathered: what it raises is noted, and it reads once more as if the key that was wrong were not
        set, until it has nothing more to say. None when it cannot do without.
        """
        while True:
            struck = len(self._struck)
            try:
                return read()
            except BadInput as error:
                self.note(error)
                if len(self._struck) == struck or not self._struck <= self._values.keys():
                    self._cut_short = True
                    return None

    @contextlib.contextmanager
    def about(self, key: str) -> Iterator[None]:
        """Make what the block finds wrong with the value of `key` an error that says where it stands."""
        try:
            yield
        except BadInput as error:
            raise self.error(key, f"is not usable: {error.message}", error.hint) from error

    def done(self) -> None:
        """Raise BadInput("unknown-setting") when there is a key that nobody asked for."""
        for key in self._values:
            if key in self._known:
                continue
            near = difflib.get_close_matches(key, self._known, 1, 0.6)
            if self._cut_short and not near:
                continue
            hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(sorted(set(self._known)))}"
            text = f"unknown setting '{printable(self._prefix + key, 80)}'"
            mistake = Mistake("unknown-setting", self._document.path, self.line(key), text, hint, key)
            if not self._document.gathering:
                raise mistake
            self._document.note(mistake)

    def _get(self, key: str, kind: type | tuple[type, ...], expected: str) -> Any:  # noqa: ANN401 - of `kind`
        self._known.append(key)
        value = None if key in self._struck else self._values.get(key)
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            self.wrong(key, f"must be {expected}")
            return None
        return value

    def has(self, key: str) -> bool:
        """Whether this key is there, whatever it holds."""
        self._known.append(key)
        return key in self._values and key not in self._struck

    def text(self, key: str) -> str | None:
        """A string, or None when it is not set."""
        value: str | None = self._get(key, str, "a text in quotes")
        return value

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """One of a few strings."""
        value = self.text(key) or default
        if value not in choices:
            self.wrong(key, f"must be one of {', '.join(choices)}")
            return default
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._get(key, bool, "true or false")
        return default if value is None else bool(value)

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number between low and high."""
        value = self._get(key, int, f"a whole number between {low} and {high}")
        number = default if value is None else int(value)
        if not low <= number <= high:
            self.wrong(key, f"must be between {low} and {high}")
            return default
        return number

    def seconds(self, key: str, default: float, low: float, high: float) -> float:
        """A duration: a number of seconds, or a text such as "10s", "2m"."""
        size, unit = (1.0, "seconds") if high < _UNITS["w"] else (_UNITS["d"], "days")
        bounds = f"between {low / size:g} and {high / size:g} {unit}"
        expected = f'a duration such as 10 or "10s" or "2m", {bounds}'
        value = self._get(key, (int, float, str), expected)
        if isinstance(value, str):
            span = parse_span(value)
            if span is None:
                self.wrong(key, f"must be {expected}")
                return default
            value = span.total_seconds()
        number = default if value is None else value
        if not low <= number <= high:
            self.wrong(key, f"must be {bounds}")
            return default
        return float(number)  # not before: a whole number can be too large for one

    def path(self, key: str, default: str) -> Path:
        """A path, relative to the file's directory; absolute."""
        text = self.text(key) or default
        if "\0" in text:
            raise self.error(key, "is not usable: no path has a NUL in it")
        return self.directory / text

    def texts(self, key: str, such_as: str = '["alice", "bob"]') -> list[str] | None:
        """A list of strings, or None when it is not set."""
        expected = f"a list of texts, such as {such_as}"
        value = self._get(key, list, expected)
        if value is not None and not all(isinstance(item, str) for item in value):
            self.wrong(key, f"must be {expected}")
            return None
        return None if value is None else list(value)

    def text_or_texts(self, key: str) -> list[str] | None:
        """A string or a list of strings, as a list; None when it is not set."""
        value = self._get(key, (str, list), "a text, or a list of texts")
        return [value] if isinstance(value, str) else self.texts(key)

    def moment(self, key: str) -> datetime | None:
        """A date or a date with time; without a zone it is UTC; a bare date means the end of that day."""
        value = self._get(key, (datetime, date, str), "a date such as 2027-01-31")
        if isinstance(value, str):
            try:
                return parse_moment(value)
            except ValueError:
                self.wrong(key, "must be a date such as 2027-01-31")
                return None
        try:
            return None if value is None else _moment(value)
        except OverflowError:
            self.wrong(key, "is before the year 1 or after the year 9999")
            return None

    def table(self, key: str) -> Table:
        """A table; an empty one when it is not there."""
        values = self._get(key, dict, "a table") or {}
        return Table(values, self._document, (*self.at, key), f"{self._prefix}{key}.", lost=key in self._struck)

    def tables(self, key: str) -> list[Table]:
        """An array of tables."""
        value = self._get(key, list, f"written as [[{key}]]") or []
        if not all(isinstance(item, dict) for item in value):
            self.wrong(key, f"must be written as [[{key}]]")
            return []
        return [
            Table(item, self._document, (*self.at, key, index), f"{self._prefix}{key}[{index}].")
            for index, item in enumerate(value, 1)
        ]

    def keys(self) -> list[str]:
        """Every key that is there, all of them known from now on: for tables whose keys are names."""
        self._known.extend(self._values)
        return list(self._values)


def _moment(value: date | datetime) -> datetime:
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if value == date.max:
        return datetime.max.replace(tzinfo=UTC)
    return datetime.combine(value, time(), UTC) + timedelta(days=1)


def read_address(table: Table, key: str) -> Address | None:
    """An address, or None when it is not set."""
    text = table.text(key)
    if text is None:
        return None
    with table.about(key):
        return parse_address(text)


def read_acceptance(table: Table, key: str) -> Acceptance | None:
    """`auto`, `ask` or `never`; None where it is not set."""
    chosen = table.choice(key, ACCEPTANCES, "") if table.text(key) is not None else None
    return next((one for one in ACCEPTANCES if one == chosen), None)


def parse_moment(text: str) -> datetime:
    """A date (the end of that day, UTC) or an ISO 8601 date with time. Raises ValueError."""
    try:
        return _moment(date.fromisoformat(text)) if len(text) <= 10 else _moment(datetime.fromisoformat(text))
    except OverflowError as error:
        raise ValueError(text) from error


def parse_span(text: str) -> timedelta | None:
    """A duration such as 90, 90s, 15m, 12h, 30d, 2w; None when it is something else."""
    match = _SPAN.fullmatch(text.strip())
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]]) if match else None

"""Reading TOML strictly: every key is known, every value has its type, and an error names the file and the field."""

from __future__ import annotations

import contextlib
import difflib
import re
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from peerauth.errors import BadInput, printable
from peerauth.store.files import shown
from peerauth.trust.peers import ACCEPTANCES, Acceptance

_SPAN = re.compile(r"(\d{1,6})\s*([smhdw]?)")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def parse_toml(data: bytes, path: Path) -> Table:
    """The document as a table to be read. Raises BadInput("bad-toml") with the line."""
    try:
        return Table(tomllib.loads(data.decode("utf-8-sig")), path)
    except UnicodeDecodeError as error:
        raise BadInput("bad-toml", f"{shown(path)} is not UTF-8 text") from error
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise BadInput("bad-toml", f"{shown(path)} is not valid TOML: {printable(str(error))}") from error


class Table:
    """A TOML table that remembers which keys were asked for; `done` complains about the rest."""

    def __init__(self, values: dict[str, Any], path: Path, prefix: str = "") -> None:
        self._values = values
        self._path = path
        self._prefix = prefix
        self._known: list[str] = []

    @property
    def directory(self) -> Path:
        """Where its file is: the paths in it are relative to that."""
        return self._path.parent

    def error(self, key: str, problem: str, hint: str | None = None) -> BadInput:
        """The error to raise for the value of `key`."""
        return BadInput("bad-setting", f"{shown(self._path)}: {self._prefix}{key} {problem}", hint)

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
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, 1, 0.5)
                hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(sorted(self._known))}"
                raise BadInput(
                    "unknown-setting", f"{shown(self._path)}: unknown setting '{printable(self._prefix + key, 80)}'", hint
                )

    def _get(self, key: str, kind: type | tuple[type, ...], expected: str) -> Any:  # noqa: ANN401 - of `kind`
        self._known.append(key)
        value = self._values.get(key)
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise self.error(key, f"must be {expected}")
        return value

    def has(self, key: str) -> bool:
        """Whether this key is there, whatever it holds."""
        self._known.append(key)
        return key in self._values

    def text(self, key: str) -> str | None:
        """A string, or None when it is not set."""
        value: str | None = self._get(key, str, "a text in quotes")
        return value

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """One of a few strings."""
        value = self.text(key) or default
        if value not in choices:
            raise self.error(key, f"must be one of {', '.join(choices)}")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._get(key, bool, "true or false")
        return default if value is None else bool(value)

    def whole(self, key: str, default: int, low: int = 0, high: int = 2**31) -> int:
        """A whole number between low and high."""
        value = self._get(key, int, "a whole number")
        number = default if value is None else int(value)
        if not low <= number <= high:
            raise self.error(key, f"must be between {low} and {high}")
        return number

    def seconds(self, key: str, default: float, low: float = 0.0, high: float = 86400.0) -> float:
        """A duration: a number of seconds, or a text such as "10s", "2m"."""
        value = self._get(key, (int, float, str), "a number of seconds")
        if isinstance(value, str):
            span = parse_span(value)
            if span is None:
                raise self.error(key, 'must be a duration such as 10 or "10s" or "2m"')
            value = span.total_seconds()
        number = default if value is None else value
        if not low <= number <= high:
            raise self.error(key, f"must be between {low:g} and {high:g} seconds")
        return float(number)  # not before: a whole number can be too large for one

    def path(self, key: str, default: str) -> Path:
        """A path, relative to the file's directory; absolute."""
        text = self.text(key) or default
        if "\0" in text:
            raise self.error(key, "is not usable: no path has a NUL in it")
        return self._path.parent / text

    def texts(self, key: str) -> list[str] | None:
        """A list of strings, or None when it is not set."""
        value = self._get(key, list, 'a list of texts, such as ["alice", "bob"]')
        if value is not None and not all(isinstance(item, str) for item in value):
            raise self.error(key, 'must be a list of texts, such as ["alice", "bob"]')
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
                raise self.error(key, "must be a date such as 2027-01-31") from None
        try:
            return None if value is None else _moment(value)
        except OverflowError:
            raise self.error(key, "is before the year 1 or after the year 9999") from None

    def table(self, key: str) -> Table:
        """A table; an empty one when it is not there."""
        return Table(self._get(key, dict, "a table") or {}, self._path, f"{self._prefix}{key}.")

    def tables(self, key: str) -> list[Table]:
        """An array of tables."""
        value = self._get(key, list, f"written as [[{key}]]") or []
        if not all(isinstance(item, dict) for item in value):
            raise self.error(key, f"must be written as [[{key}]]")
        return [Table(item, self._path, f"{self._prefix}{key}[{index}].") for index, item in enumerate(value, 1)]

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

"""Where in a TOML file a table or a key stands. Python's tomllib, which reads the values, does not say.

This reads no values: it finds keys, and the ends of values. What it does not understand ends the search, and what comes
after it has no line; so nothing but a number in a message rests on it. The grammar is https://toml.io/en/v1.0.0.
"""

from __future__ import annotations

import contextlib
import re
import tomllib

At = tuple[str | int, ...]  # keys from the top, and positions in arrays, from 1: ("serve", 2, "listen")

_SPACE = re.compile(r"[ \t]*")
_BETWEEN = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r"""
      \"{3} (?:[^\\]|\\.)*? \"{3,5}    # several lines; two of the quotes at the end may belong to the text
    | '{3} .*? '{3,5}
    | \" (?:[^"\\\n]|\\.)* \"
    | ' [^'\n]* '
    """,
    re.DOTALL | re.VERBOSE,
)
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_PLAIN = re.compile(r"[^,\]}#\r\n]+")


def lines_of(text: str) -> dict[At, int]:
    """The line, from 1, of every key and table in a TOML document."""
    scanner = _Scanner(text)
    with contextlib.suppress(_Lost, RecursionError):
        scanner.run()
    return scanner.lines


class _Lost(Exception):
    """This is not what was expected here."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line, self._counted = 1, 0  # the line of the place up to which line breaks were counted
        self._arrays: dict[At, int] = {}  # of tables, and how many of each there are so far
        self.lines: dict[At, int] = {}

    def run(self) -> None:
        table: At = ()
        self._skip(_BETWEEN)
        while self._at < len(self._text):
            table = self._header() if self._text[self._at] == "[" else self._setting(table)
            self._skip(_BETWEEN)

    def _header(self) -> At:
        several = self._text.startswith("[[", self._at)
        line = self._here()
        self._at += 2 if several else 1
        *above, last = self._keys()
        self._expect("]]" if several else "]")
        table: At = ()
        for key in above:
            table += (key,)
            self._note(table, line)
            if table in self._arrays:
                table += (self._arrays[table],)
        table += (last,)
        self._note(table, line)
        if several:
            self._arrays[table] = self._arrays.get(table, 0) + 1
            table += (self._arrays[table],)
            self._note(table, line)
        return table

    def _setting(self, table: At) -> At:
        line, at = self._here(), table
        for key in self._keys():
            at += (key,)
            self._note(at, line)
        self._expect("=")
        self._value(at)
        return table

    def _value(self, at: At) -> None:
        self._skip(_SPACE)
        first = self._text[self._at : self._at + 1]
        if first in ("[", "{"):
            self._at += 1
            closing, number = ("]", 0) if first == "[" else ("}", 0)
            self._skip(_BETWEEN)
            while not self._text.startswith(closing, self._at):
                if first == "[":
                    number += 1
                    self._note((*at, number), self._here())
                    self._value((*at, number))
                else:
                    self._setting(at)
                self._skip(_BETWEEN)
                if self._text.startswith(",", self._at):
                    self._at += 1
                    self._skip(_BETWEEN)
            self._at += 1
        elif not self._skip(_STRING) and not self._skip(_PLAIN):
            raise _Lost

    def _keys(self) -> list[str]:
        found = []
        while True:
            self._skip(_SPACE)
            key = _KEY.match(self._text, self._at)
            if key is None:
                raise _Lost
            self._at = key.end()
            found.append(_unquoted(key[0]))
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return found
            self._at += 1

    def _expect(self, what: str) -> None:
        if not self._text.startswith(what, self._at):
            raise _Lost
        self._at += len(what)

    def _skip(self, what: re.Pattern[str]) -> bool:
        found = what.match(self._text, self._at)
        if found is None:
            return False
        self._at = found.end()
        return True

    def _here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _note(self, at: At, line: int) -> None:
        self.lines.setdefault(at, line)


def _unquoted(key: str) -> str:
    if key[0] not in "\"'":
        return key
    try:
        return str(tomllib.loads(f"key = {key}")["key"])
    except tomllib.TOMLDecodeError:
        raise _Lost from None

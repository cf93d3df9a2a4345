"""A service by a program that starts and ends with the server."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from peerauth.address import Address
from peerauth.errors import BadInput, printable
from peerauth.store.kind import Kind
from peerauth.store.kind_http import Http, read_way
from peerauth.store.kind_relay import Relay, says_proxy
from peerauth.store.schema import Table

_SPEAKS = ("http", "tcp")
_EXAMPLE = '["gunicorn", "--bind", "unix:{backend}", "app:app"]'


@dataclass(frozen=True, slots=True)
class Command(Kind):
    """A program that starts and ends with the server, and serves at a Unix socket of its own: `backend`, while it runs.

    `way`: what carries peers' requests, or their bytes, to that socket. `directory`: where it
    is started; None: where we are.
    """

    words: tuple[str, ...]
    way: Http | Relay = field(default_factory=lambda: Http(()))
    directory: Path | None = None
    backend: Address | None = None

    def __str__(self) -> str:
        return f"runs {self.name}"

    @property
    def speaks_http(self) -> bool:
        """Unless it is a relay's target."""
        return self.way.speaks_http

    @property
    def name(self) -> str:
        """The program's, for people."""
        return printable(PurePath(self.words[0]).name, 40)

    @property
    def leads_to(self) -> str | None:
        """The command, as one would type it."""
        return printable(shlex.join(self.words), 300)

    @property
    def front(self) -> Http | Relay:
        """What serves in front of it."""
        assert self.backend is not None, "it has not been started"
        return replace(self.way, targets=(self.backend,), patient=True)


def run(words: Sequence[str], way: Http | Relay | None = None, directory: Path | None = None) -> Command:
    """A service by this command. Raises BadInput("bad-command")."""
    if not words or not words[0]:
        raise BadInput("bad-command", "there is no program to run", f"for instance: {_EXAMPLE}")
    if any("\0" in word for word in words):
        raise BadInput("bad-command", "no word of a command has a NUL in it")
    return Command(tuple(words), Http(()) if way is None else way, directory)


def read_command(table: Table) -> Command:
    """The command of a `[[serve]]` block."""
    words = table.texts("command", _EXAMPLE) or []
    speaks = table.choice("speaks", _SPEAKS, "http")
    if speaks == "http" and says_proxy(table):
        problem = "is for no program that speaks HTTP: it is told in header fields who the peer is"
        raise table.error("proxy_protocol", problem, 'for another one: speaks = "tcp"')
    way = read_way(table) if speaks == "http" else Relay((), says_proxy(table))
    with table.about("command"):
        return run(words, way, table.directory)

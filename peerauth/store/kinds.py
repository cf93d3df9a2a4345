"""What a service can be: one kind for each key of `[[serve]]` that says where it leads, and none for the hello service.

A kind is a frozen value with what its keys and options say; it does nothing by itself. server/offers.py makes it serve.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import ClassVar, Literal

from peerauth.address import Address, parse_address
from peerauth.errors import BadInput, printable
from peerauth.store.schema import Table

HTTP_TIMEOUT = 60.0  # seconds
OnUnknown = Literal["refuse", "explain"]  # what is done with somebody who is not admitted


@dataclass(frozen=True, slots=True)
class Kind:
    """What is behind a service's door. `speaks_http`: what is said there is HTTP/1.1, which ALPN is told."""

    speaks_http: ClassVar[bool] = False

    def __str__(self) -> str:
        """What it does, as in "db-1 relays to 127.0.0.1:5432 on 0.0.0.0:8443"."""
        raise NotImplementedError

    @property
    def leads_to(self) -> str | None:
        """Where it leads, as config.toml says it; None where it leads nowhere else."""
        return None


@dataclass(frozen=True, slots=True)
class Hello(Kind):
    """Says hello: GET /hello answers who the caller is."""

    speaks_http: ClassVar[bool] = True

    def __str__(self) -> str:
        return "says hello"


@dataclass(frozen=True, slots=True)
class Relay(Kind):
    """Bytes both ways between the peer and a program that listens in the clear, at one of these targets in turn.

    `proxy_protocol`: it first hears who the peer is. `patient`: it is waited for while it does not listen yet.
    """

    targets: tuple[Address, ...]
    proxy_protocol: bool = False
    patient: bool = False

    def __str__(self) -> str:
        return f"relays to {_in_turn(self.targets)}"

    @property
    def leads_to(self) -> str | None:
        """The targets."""
        return ", ".join(map(str, self.targets))


def check_on_unknown(chosen: OnUnknown, kind: Kind) -> OnUnknown:
    """`chosen`, if a service of this kind can do so with strangers. Raises BadInput("not-http")."""
    if chosen == "explain" and not kind.speaks_http:
        text = "strangers are told in HTTP why they are refused, and nobody here knows what a relay's target speaks"
        raise BadInput("not-http", text, "leave it out: they are refused by TLS, with an alert")
    return chosen


def _usual_headers() -> frozenset[str]:
    from peerauth.http.introduction import DEFAULT_HEADERS  # noqa: PLC0415 - most commands read config.toml and no HTTP

    return DEFAULT_HEADERS


@dataclass(frozen=True, slots=True)
class Http(Kind):
    """Requests of peers to a program that speaks HTTP/1.1 in the clear, which is told who is calling.

    `timeout`, in seconds, bounds each wait for the program or the peer to go on with what it has begun. `headers`: the
    fields in which the program is told. `patient`: it is waited for while it does not listen yet.
    """

    speaks_http: ClassVar[bool] = True
    targets: tuple[Address, ...]
    timeout: float = HTTP_TIMEOUT
    headers: frozenset[str] = field(default_factory=_usual_headers)
    patient: bool = False

    def __str__(self) -> str:
        return f"passes HTTP on to {_in_turn(self.targets)}"

    @property
    def leads_to(self) -> str | None:
        """The targets."""
        return ", ".join(map(str, self.targets))


def http(urls: Sequence[str], *, proxy_protocol: bool = False) -> Http:
    """A proxy to these, `http://HOST:PORT` or `unix:PATH`. Raises BadInput: "bad-address", "bad-target"."""
    if proxy_protocol:
        raise BadInput("bad-target", "a program that is spoken to in HTTP hears in header fields who the peer is")
    return Http(_each_once([_http_address(url) for url in urls]))


def _http_address(text: str) -> Address:
    scheme, there, rest = text.strip().partition("://")
    if not there:
        return parse_address(text, what="target")
    if scheme.lower() != "http":
        raise BadInput(
            "bad-address",
            f"the target '{printable(text, 80)}' is not http://HOST:PORT",
            "the program behind the door is reached in the clear: write http://, or unix:PATH",
        )
    if "/" in rest.removesuffix("/"):
        raise BadInput(
            "bad-address",
            f"the target '{printable(text, 80)}' has a path; requests are passed on with their own",
            f"write: http://{printable(rest.partition('/')[0], 60)}",
        )
    return parse_address(rest.removesuffix("/"), default_port=80, what="target")


@dataclass(frozen=True, slots=True)
class Command(Kind):
    """A program that starts and ends with the server, and serves at a Unix socket of its own: `backend`, while it runs."""

    words: tuple[str, ...]
    proxy_protocol: bool = False
    backend: Address | None = None

    def __str__(self) -> str:
        return f"runs {self.name}"

    @property
    def name(self) -> str:
        """The program's, for people."""
        return printable(PurePath(self.words[0]).name, 40)

    @property
    def leads_to(self) -> str | None:
        """The command, as one would type it."""
        return printable(shlex.join(self.words), 300)

    @property
    def front(self) -> Kind:
        """What serves in front of it."""
        assert self.backend is not None, "it has not been started"
        return Relay((self.backend,), self.proxy_protocol, patient=True)


def relay(targets: Sequence[str], *, proxy_protocol: bool = False) -> Relay:
    """A relay to these addresses. Raises BadInput: "bad-address", "bad-target"."""
    return Relay(_each_once([parse_address(target, what="target") for target in targets]), proxy_protocol)


def _each_once(targets: Sequence[Address]) -> tuple[Address, ...]:
    if not targets:
        raise BadInput("bad-target", "there is no target in the list")
    twice = next((target for target in targets if targets.count(target) > 1), None)
    if twice is not None:
        raise BadInput("bad-target", f"the target {twice} is there twice", "each has its turn once")
    return tuple(targets)


def _in_turn(targets: tuple[Address, ...]) -> str:
    *others, last = map(str, targets)
    return f"{', '.join(others)} and {last} in turn" if others else last


def run(words: Sequence[str], *, proxy_protocol: bool = False) -> Command:
    """A service by this command. Raises BadInput("bad-command")."""
    if not words or not words[0]:
        raise BadInput(
            "bad-command", "there is no program to run", 'for instance: ["gunicorn", "--bind", "unix:{backend}", "app:app"]'
        )
    if any("\0" in word for word in words):
        raise BadInput("bad-command", "no word of a command has a NUL in it")
    return Command(tuple(words), proxy_protocol)


def _relay(table: Table) -> Relay:
    targets = table.text_or_texts("target") or []
    proxy_protocol = _says_proxy(table)
    with table.about("target"):
        return relay(targets, proxy_protocol=proxy_protocol)


def _http(table: Table) -> Http:
    from peerauth.store.web import read_headers  # noqa: PLC0415 - as above

    with table.about("http"):
        targets = http(table.text_or_texts("http") or []).targets
    return Http(targets, table.seconds("timeout", HTTP_TIMEOUT, 0.1, 3600), read_headers(table))


def _command(table: Table) -> Command:
    words = table.texts("command") or []
    proxy_protocol = _says_proxy(table)
    with table.about("command"):
        return run(words, proxy_protocol=proxy_protocol)


def _says_proxy(table: Table) -> bool:
    value = table.text("proxy_protocol")
    if value not in {None, "v2"}:
        raise table.error("proxy_protocol", 'must be "v2"')
    return value is not None


# The keys of [[serve]] that say what a service is; at most one is there. Each reads its value, and what goes with it.
_KINDS: dict[str, Callable[[Table], Kind]] = {"target": _relay, "http": _http, "command": _command}


def read_kind(table: Table) -> Kind:
    """What the service of this table is. Raises BadInput("bad-setting")."""
    given = [key for key in _KINDS if table.has(key)]
    if not given:
        return Hello()
    first, *more = given
    if more:
        raise table.error(first, f"and {more[0]} are two different things to be", "write one [[serve]] block for each")
    return _KINDS[first](table)

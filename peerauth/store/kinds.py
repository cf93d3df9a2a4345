"""What a service can be: one kind for each key of `[[serve]]` that says where it leads, and none for the hello service.

A kind is a frozen value with what its keys and options say; it does nothing by itself. server/offers.py makes it serve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from peerauth.address import Address, parse_address
from peerauth.errors import BadInput, printable
from peerauth.store.schema import Table

HTTP_TIMEOUT = 60.0  # seconds


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
    """Bytes both ways between the peer and a program that listens in the clear."""

    target: Address

    def __str__(self) -> str:
        return f"relays to {self.target}"

    @property
    def leads_to(self) -> str | None:
        """The target."""
        return str(self.target)


def _usual_headers() -> frozenset[str]:
    from peerauth.http.introduction import DEFAULT_HEADERS  # noqa: PLC0415 - most commands read config.toml and no HTTP

    return DEFAULT_HEADERS


@dataclass(frozen=True, slots=True)
class Http(Kind):
    """Requests of peers to a program that speaks HTTP/1.1 in the clear, which is told who is calling.

    `timeout`, in seconds, bounds each wait for the program or the peer to go on with what it has begun. `headers`: the
    fields in which the program is told.
    """

    speaks_http: ClassVar[bool] = True
    target: Address
    timeout: float = HTTP_TIMEOUT
    headers: frozenset[str] = field(default_factory=_usual_headers)

    def __str__(self) -> str:
        return f"passes HTTP on to {self.target}"

    @property
    def leads_to(self) -> str | None:
        """The target."""
        return str(self.target)


def http(target: str) -> Http:
    """A proxy to this URL, `http://HOST:PORT`, or to `unix:PATH`. Raises BadInput("bad-address")."""
    return Http(_http_address(target))


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


def relay(target: str) -> Relay:
    """A relay to this address. Raises BadInput("bad-address")."""
    return Relay(parse_address(target, what="target"))


def _relay(table: Table, target: str) -> Relay:
    with table.about("target"):
        return relay(target)


def _http(table: Table, target: str) -> Http:
    from peerauth.store.web import read_headers  # noqa: PLC0415 - as above

    with table.about("http"):
        address = _http_address(target)
    return Http(address, table.seconds("timeout", HTTP_TIMEOUT, 0.1, 3600), read_headers(table))


# The keys of [[serve]] that say what a service is; at most one of them is there.
_KINDS: dict[str, Callable[[Table, str], Kind]] = {"target": _relay, "http": _http}


def read_kind(table: Table) -> Kind:
    """What the service of this table is. Raises BadInput("bad-setting")."""
    given = {key: value for key in _KINDS if (value := table.text(key)) is not None}
    if not given:
        return Hello()
    first, *more = given
    if more:
        raise table.error(first, f"and {more[0]} are two different things to be", "write one [[serve]] block for each")
    return _KINDS[first](table, given[first])

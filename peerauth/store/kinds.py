"""What a service can be: one kind for each key of `[[serve]]` that says where it leads, and none for the hello service.

A kind is a frozen value with what its keys and options say; it does nothing by itself. server/offers.py makes it serve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from peerauth.address import Address, parse_address
from peerauth.store.schema import Table


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


def relay(target: str) -> Relay:
    """A relay to this address. Raises BadInput("bad-address")."""
    return Relay(parse_address(target, what="target"))


def _relay(table: Table, target: str) -> Relay:
    with table.about("target"):
        return relay(target)


def _app(table: Table, reference: str) -> Kind:
    from peerauth.store.kind_app import read_app  # noqa: PLC0415 - it is a kind itself

    return read_app(table, reference)


# The keys of [[serve]] that say what a service is; at most one of them is there.
_KINDS: dict[str, Callable[[Table, str], Kind]] = {"target": _relay, "app": _app}


def read_kind(table: Table) -> Kind:
    """What the service of this table is. Raises BadInput("bad-setting")."""
    given = {key: value for key in _KINDS if (value := table.text(key)) is not None}
    if not given:
        return Hello()
    first, *more = given
    if more:
        raise table.error(first, f"and {more[0]} are two different things to be", "write one [[serve]] block for each")
    return _KINDS[first](table, given[first])

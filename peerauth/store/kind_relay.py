"""A service that carries bytes to a program in the clear, and what all services that lead to programs have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerauth.address import Address, parse_address
from peerauth.errors import BadInput, printable
from peerauth.store.kind import Kind
from peerauth.store.schema import Table


@dataclass(frozen=True, slots=True)
class Relay(Kind):
    """Bytes both ways between the peer and a program that listens in the clear, at one of these targets in turn.

    `proxy_protocol`: it first hears who the peer is. `patient`: it is waited for while it does not listen yet.
    """

    targets: tuple[Address, ...]
    proxy_protocol: bool = False
    patient: bool = False

    def __str__(self) -> str:
        return f"relays to {in_turn(self.targets)}"

    @property
    def speaks_http(self) -> bool:
        """Nobody knows."""
        return False

    @property
    def leads_to(self) -> str | None:
        """The targets."""
        return ", ".join(map(str, self.targets))


def relay(targets: Sequence[str], *, proxy_protocol: bool = False) -> Relay:
    """A relay to these addresses. Raises BadInput: "bad-address", "bad-target"."""
    return Relay(each_once([_address(target) for target in targets]), proxy_protocol)


def read_relay(table: Table) -> Relay:
    """The relay of a `[[serve]]` block."""
    targets = table.text_or_texts("target") or []
    proxy_protocol = says_proxy(table)
    with table.about("target"):
        return relay(targets, proxy_protocol=proxy_protocol)


def _address(text: str) -> Address:
    scheme, there, rest = text.partition("://")
    if there:
        problem = f"the target '{printable(text, 80)}' is a URL, and a relay leads to HOST:PORT"
        other = "; what speaks HTTP is better served by http than by target" if scheme.lower() == "http" else ""
        raise BadInput("bad-address", problem, f"write: {printable(rest.partition('/')[0], 60)}{other}")
    return parse_address(text, what="target")


def says_proxy(table: Table) -> bool:
    """Whether the PROXY protocol is spoken."""
    value = table.text("proxy_protocol")
    if value not in {None, "v2"}:
        raise table.error("proxy_protocol", 'must be "v2"')
    return value is not None


def each_once(targets: Sequence[Address]) -> tuple[Address, ...]:
    """These, if they can have their turns. Raises BadInput("bad-target")."""
    if not targets:
        raise BadInput("bad-target", "there is no target in the list")
    twice = next((target for target in targets if targets.count(target) > 1), None)
    if twice is not None:
        raise BadInput("bad-target", f"the target {twice} is there twice", "each has its turn once")
    return tuple(targets)


def in_turn(targets: tuple[Address, ...]) -> str:
    """These, for people."""
    *others, last = map(str, targets)
    return f"{', '.join(others)} and {last} in turn" if others else last

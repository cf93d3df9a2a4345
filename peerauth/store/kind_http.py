"""A service that passes HTTP on to a program in the clear, which is told who is calling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from peerauth.address import Address, parse_address
from peerauth.errors import BadInput, printable
from peerauth.store.kind import Kind
from peerauth.store.kind_relay import each_once, in_turn
from peerauth.store.schema import Table

TIMEOUT = 60.0  # seconds


def _usual_headers() -> frozenset[str]:
    from peerauth.http.introduction import DEFAULT_HEADERS  # noqa: PLC0415 - most commands read config.toml and no HTTP

    return DEFAULT_HEADERS


@dataclass(frozen=True, slots=True)
class Http(Kind):
    """Requests of peers to a program that speaks HTTP/1.1 in the clear, at one of these targets in turn.

    `timeout`, in seconds, bounds each wait for the program or the peer to go on with what it has begun. `headers`: the
    fields in which the program is told who is calling. `patient`: it is waited for while it does not listen yet.
    """

    targets: tuple[Address, ...]
    timeout: float = TIMEOUT
    headers: frozenset[str] = field(default_factory=_usual_headers)
    patient: bool = False

    def __str__(self) -> str:
        return f"passes HTTP on to {in_turn(self.targets)}"

    @property
    def leads_to(self) -> str | None:
        """The targets."""
        return ", ".join(map(str, self.targets))


def http(urls: Sequence[str]) -> Http:
    """A proxy to these, `http://HOST:PORT` or `unix:PATH`. Raises BadInput: "bad-address", "bad-target"."""
    return Http(each_once([_address(url) for url in urls]))


def read_http(table: Table) -> Http:
    """The proxy of a `[[serve]]` block."""
    way = read_way(table)
    with table.about("http"):
        return replace(way, targets=http(table.text_or_texts("http") or []).targets)


def read_way(table: Table) -> Http:
    """How requests go on, to nobody yet."""
    from peerauth.store.web import read_headers  # noqa: PLC0415 - as above

    return Http((), table.seconds("timeout", TIMEOUT, 0.1, 3600), read_headers(table))


def _address(text: str) -> Address:
    scheme, there, rest = text.strip().partition("://")
    if not there:
        rest = text.strip()
    elif scheme.lower() != "http":
        raise BadInput(
            "bad-address",
            f"the target '{printable(text, 80)}' is not http://HOST:PORT",
            "the program behind the door is reached in the clear: write http://, or unix:PATH",
        )
    if rest.startswith("unix:"):
        return parse_address(text, what="target")
    where, _, path = rest.partition("/")
    if path and where:
        raise BadInput(
            "bad-address",
            f"the target '{printable(text, 80)}' has a path; requests are passed on with their own",
            f"write: http://{printable(where, 60)}",
        )
    try:
        return parse_address(where, default_port=80 if there else None, what="target")
    except BadInput as error:
        raise BadInput(error.code, f"the target '{printable(text, 80)}' is not http://HOST:PORT", _meant(rest)) from error


def _meant(text: str) -> str:
    """What somebody may have meant who wrote this."""
    if text.startswith("/"):
        return f"write: unix:{printable(text, 80)}"
    if text.isascii() and text.isdigit() and len(text) <= 5:
        return f"write: http://127.0.0.1:{text}"
    return "for instance http://127.0.0.1:8000 or unix:/run/app.sock"

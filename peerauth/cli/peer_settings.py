"""What the options of `peer add` and `peer approve` note about a peer, checked.

Options that were not given leave what is noted alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from peerauth.cli.command import option
from peerauth.errors import UsageError, printable

if TYPE_CHECKING:
    from peerauth.trust.peers import Network, PeerSettings

NoteOption = Annotated[str | None, typer.Option(metavar="TEXT", help="A note for people.", show_default=False)]
TagOption = Annotated[
    list[str] | None,
    typer.Option(metavar="TAG", help='A tag, for allow = ["tag:TAG"]; repeatable.', show_default=False),
]
AddressOption = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where this peer serves.", show_default=False)]
UntilOption = Annotated[
    str | None,
    typer.Option(metavar="DATE|TIME", help="Admit it until then: 2027-01-31, or 30d, 12h.", show_default=False),
]
FromOption = Annotated[
    list[str] | None,
    typer.Option("--from", metavar="CIDR", help="Admit it only from there; repeatable.", show_default=False),
]
MaxConnectionsOption = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, max=1_000_000, help="Admit this many at a time.", show_default=False),
]
PinOption = Annotated[
    Literal["cert", "key"] | None,
    typer.Option(help="Pin the certificate (the default), or its key in any certificate.", show_default=False),
]

RotationOption = Annotated[
    Literal["auto", "ask", "never"] | None,
    typer.Option(help="When it says which certificate comes next: follow, ask a person, or refuse.", show_default=False),
]

_LONGEST_NOTE = 1000
_LONGEST_TAG = 64


@dataclass(frozen=True)
class SettingsOptions:
    """The options themselves, as they were typed."""

    note: NoteOption = None
    tag: TagOption = None
    address: AddressOption = None
    until: UntilOption = None
    source: FromOption = None
    max_connections: MaxConnectionsOption = None
    pin: PinOption = None
    rotation: RotationOption = None

    def read(self, now: datetime) -> Wanted:
        """What they ask for. Raises UsageError naming the one that cannot be read."""
        wanted = {
            "note": _note(self.note) if self.note is not None else None,
            "tags": read_tags(self.tag) if self.tag else None,
            "address": _address(self.address) if self.address is not None else None,
            "until": _until(self.until, now) if self.until is not None else None,
            "sources": tuple(dict.fromkeys(_network(source) for source in self.source)) if self.source else None,
            "max_connections": self.max_connections,
            "pin": self.pin,
            "rotation": self.rotation,
        }
        return Wanted({key: value for key, value in wanted.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Wanted:
    """The fields of PeerSettings that were asked for."""

    changes: dict[str, Any]

    def over(self, known: PeerSettings | None) -> PeerSettings | None:
        """The settings of a peer that has `known` so far; None where nothing was asked for."""
        from peerauth.trust.peers import NO_SETTINGS

        return replace(known or NO_SETTINGS, **self.changes) if self.changes else None


def _note(text: str) -> str:
    if len(text) > _LONGEST_NOTE:
        raise UsageError("bad-note", f"--note: it is longer than {_LONGEST_NOTE} characters")
    return _encodable(text, "--note")


def read_tags(texts: Sequence[str]) -> tuple[str, ...]:
    """What --tag says, each once. Raises UsageError("bad-tag")."""
    return tuple(dict.fromkeys(_tag(text) for text in texts))


def _tag(text: str) -> str:
    if not text or len(text) > _LONGEST_TAG or not text.isprintable() or set(text) & set(' ,@"'):
        raise UsageError(
            "bad-tag",
            f"--tag: '{printable(text, 80)}' cannot be a tag",
            f"1 to {_LONGEST_TAG} characters, without spaces, commas, quotes and @",
        )
    return text


def _address(text: str) -> str:
    from peerauth.address import parse_address

    with option("--address"):
        parse_address(text)
    return text


def _until(text: str, now: datetime) -> datetime:
    from peerauth.store.schema import parse_moment, parse_span

    try:
        span = None if text.strip().isdigit() else parse_span(text)
        moment = parse_moment(text) if span is None else (now + span).replace(microsecond=0)
    except (ValueError, OverflowError):
        raise UsageError(
            "bad-until",
            f"--until: '{printable(text, 40)}' is no date and no length of time",
            "for instance 2027-01-31, 30d or 12h",
        ) from None
    if moment <= now:
        raise UsageError("bad-until", f"--until: {moment:%Y-%m-%d %H:%M} UTC has passed already")
    return moment


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise UsageError(
            "bad-from",
            f"--from: '{printable(text, 60)}' is no address and no network",
            "for instance 10.0.0.0/8 or 2001:db8::1",
        ) from None


def _encodable(text: str, name: str) -> str:
    """`text`, if it can be written as UTF-8: words of the command line need not be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("bad-text", f"{name}: it is not UTF-8 text") from None
    return text

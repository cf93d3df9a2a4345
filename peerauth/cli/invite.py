"""`invite`: make a token by which a new node joins in one step; list what was made, and take it back."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from peerauth.address import DEFAULT_PORT, Address, parse_address
from peerauth.cli.command import command, option
from peerauth.cli.peer import open_peers
from peerauth.cli.peer_settings import TagOption, read_tags
from peerauth.cli.ui import Cell, Ui
from peerauth.errors import BadInput, UsageError, printable

if TYPE_CHECKING:
    from peerauth.store.config import Config
    from peerauth.store.invitations import Invitation, Invitations
    from peerauth.store.peerdir import PeerDirectory
    from peerauth.trust.invitation import Token

_MOST_TAGS = 16
_MOST_GUESSED = 4  # addresses that nobody gave


@command
def invite(
    ui: Ui,
    *,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What who joins is called here (else what it calls itself).", show_default=False),
    ] = None,
    uses: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="How many nodes may join by it.")] = 1,
    ttl: Annotated[str, typer.Option(metavar="TIME", help="How long it is good: 15m, 12h, up to 30d.")] = "1h",
    tag: TagOption = None,
    address: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="Where who joins reaches this node; repeatable.", show_default=False),
    ] = None,
    qr: Annotated[bool, typer.Option("--qr", help="Show the token as a QR code as well.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the invitations that were made.")] = False,
    revoke: Annotated[
        str | None, typer.Option(metavar="ID|all", help="Take an invitation back, or all of them.", show_default=False)
    ] = None,
) -> None:
    """Make an invitation: a token by which a new node joins in one step, with `peerauth join`.

    The token alone is printed on standard output. Whoever has it can join: hand it over as you would a password.
    """
    from peerauth.store.invitations import Invitations
    from peerauth.store.state import State

    _check_together(listing=listing, revoke=revoke, making=bool(name or tag or address or qr))
    config, directory = open_peers(ui)
    book = Invitations(State(config.path.parent))
    now = datetime.now(UTC)  # to the microsecond: who was removed just before may come in by it
    if listing:
        _list(ui, book, directory, now)
        return
    if revoke is not None:
        _revoke(ui, book, revoke, now)
        return
    wish = _Wish.parse(name, uses, ttl, tag or ())
    if wish.name is not None and (wish.name in directory.current or directory.files_of(wish.name)):
        raise BadInput("name-taken", f"there is a peer {wish.name} already", "choose another --name")
    token = _make(ui, config, wish, address or (), now.replace(microsecond=0))
    book.add(wish.invitation(token, now), now)
    _show(ui, token, wish)
    if qr:
        _show_qr(token.text)


@dataclass(frozen=True)
class _Wish:
    """What the options say of the invitation."""

    name: str | None
    uses: int
    ttl: timedelta
    tags: tuple[str, ...]

    @classmethod
    def parse(cls, name: str | None, uses: int, ttl: str, tags: Sequence[str]) -> _Wish:
        """Read the options. Raises UsageError naming the one that cannot be read."""
        from peerauth.store.invitations import LONGEST
        from peerauth.store.schema import parse_span
        from peerauth.trust.peers import check_name

        if name is not None:
            with option("--name"):
                check_name(name)
            if uses != 1:
                raise UsageError("usage", "--name is one node's: it does not go with --uses", "leave one of them out")
        span = parse_span(ttl)
        if span is None or not timedelta(seconds=1) <= span <= LONGEST:
            text = f"--ttl: '{printable(ttl, 40)}' is no time between a second and {LONGEST.days} days"
            raise UsageError("bad-ttl", text, "for instance 15m, 12h or 7d")
        if len(tags) > _MOST_TAGS:
            raise UsageError("bad-tag", f"--tag: at most {_MOST_TAGS} tags")
        return cls(name, uses, span, read_tags(tags))

    def invitation(self, token: Token, now: datetime) -> Invitation:
        """What is noted of the token's invitation."""
        from peerauth.store.invitations import Invitation

        return Invitation(token.id, token.verifier, now, token.expires, self.uses, self.name, self.tags)


def _check_together(*, listing: bool, revoke: str | None, making: bool) -> None:
    if (listing or revoke is not None) and (making or (listing and revoke is not None)):
        raise UsageError("usage", "--list and --revoke go with no other option", "peerauth invite --help")


def _make(ui: Ui, config: Config, wish: _Wish, given: Sequence[str], now: datetime) -> Token:
    from peerauth.store.home import read_own_certificate
    from peerauth.trust.invitation import SECRET, make_token

    pin = read_own_certificate(config).fingerprint
    with option("--address", "bad-address"):
        addresses = [parse_address(text, default_port=DEFAULT_PORT) for text in given] or _guessed(ui, config)
        return make_token(secrets.token_bytes(SECRET), pin, now + wish.ttl, list(dict.fromkeys(addresses)))


def _guessed(ui: Ui, config: Config) -> list[Address]:
    """Where this node is reached: as far as this machine can know it."""
    from peerauth.cli.reachable import listening

    usable = [address for address in listening(config) if address.path is None and address.port]
    found = [one for address in usable for one in _reachable(address)]
    outside = [address for address in found if not address.is_loopback]
    chosen = list(dict.fromkeys(outside or found))[:_MOST_GUESSED]
    if not chosen:
        raise BadInput("no-address", "it is not known where this node is to be reached", "say it: --address HOST:PORT")
    if not outside:
        ui.warn("this node listens for its own machine alone: no other can join", "say --address HOST:PORT")
    return chosen


def _reachable(address: Address) -> list[Address]:
    """The address itself; of every interface, the one that leads outside and the host's full name, where it has one."""
    import socket

    from peerauth.net.sockets import outgoing_address

    if address.host not in {"", "0.0.0.0", "::"}:  # noqa: S104 - compared with, not listened at
        return [address]
    host = socket.gethostname()
    outside = outgoing_address()
    names = [outside] if outside else []
    if "." in host or not names:
        names.append(host)
    found = []
    for name in names:
        try:
            found.append(parse_address(f"[{name}]:{address.port}" if ":" in name else f"{name}:{address.port}"))
        except BadInput:
            continue  # a host's name that no address can be written with
    return found


def _show(ui: Ui, token: Token, wish: _Wish) -> None:
    from peerauth.trust.expiry import span

    if ui.json:
        facts = {"token": token.text, "id": token.id.hex(), "expires": token.expires, "uses": wish.uses, "name": wish.name}
        ui.emit({**facts, "tags": wish.tags, "addresses": token.addresses, "fingerprint": token.pin})
    else:
        ui.data(token.text)
    often = "once" if wish.uses == 1 else f"{wish.uses} times"
    as_whom = f", as {wish.name}" if wish.name else ""
    ui.say(f"good {often} within {span(wish.ttl)}{as_whom}; to take it back: peerauth invite --revoke {token.id.hex()}")
    where = ", ".join(map(str, token.addresses))
    ui.say(f"it leads to {where}; if this node is to be reached elsewhere: --address HOST:PORT")
    ui.say("on the new node, after `peerauth keygen`: peerauth join TOKEN")


def _show_qr(text: str) -> None:
    import segno

    segno.make_qr(text, error="l").terminal(out=sys.stderr, compact=True)


def _list(ui: Ui, book: Invitations, directory: PeerDirectory, now: datetime) -> None:
    from peerauth.trust.expiry import span

    invitations = book.all()
    if ui.json:
        ui.emit([_facts(invitation, now) for invitation in invitations])
        return
    rows: list[list[str | Cell]] = []
    for known in invitations:
        over = known.over(now)
        state = Cell(over, "dim") if over else Cell(f"expires in {span(known.expires - now)}")
        names = (use.name for use in known.used.values() if use.name)
        who = ", ".join(name if name in directory.current else f"{name} (removed)" for name in names)
        often = f"{len(known.used)} of {known.uses}"
        rows.append([known.id.hex(), state, often, known.name or "", ", ".join(known.tags), who])
    if rows:
        ui.table(["id", "state", "used", "for", "tags", "joined"], rows)
    else:
        ui.say("there are no invitations: peerauth invite")


def _facts(known: Invitation, now: datetime) -> dict[str, object]:
    used = [
        {"fingerprint": who, "name": use.name or None, "at": use.at, "unfinished": use.name is None}
        for who, use in known.used.items()
    ]
    return {
        "id": known.id.hex(),
        "state": known.over(now) or "open",
        "made": known.made.replace(microsecond=0),
        "expires": known.expires,
        "uses": known.uses,
        "used": used,
        "name": known.name,
        "tags": known.tags,
    }


def _revoke(ui: Ui, book: Invitations, which: str, now: datetime) -> None:
    known = [invitation.id for invitation in book.all()]
    chosen = known if which == "all" else [id_ for id_ in known if id_.hex() == which.lower()]
    if which != "all" and not chosen:
        text = f"there is no invitation '{printable(which, 40)}'"
        raise BadInput("no-such-invitation", text, "to see them: peerauth invite --list")
    revoked = [id_.hex() for id_ in book.revoke(chosen, now)]
    if ui.json:
        ui.emit({"revoked": revoked})
    for text in revoked:
        ui.say(f"revoked {text}")
    if not revoked:
        ui.say("there was nothing to revoke: it is over already" if chosen else "there are no invitations")

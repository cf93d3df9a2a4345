"""`join`: become known to the node that made an invitation, and pin it."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from peerauth.address import parse_address
from peerauth.cli.command import command, option
from peerauth.cli.node import load_peers, run
from peerauth.cli.reading import STANDARD_INPUT
from peerauth.cli.secret import PassphraseFileOption, load_own
from peerauth.cli.ui import Ui
from peerauth.errors import PeerAuthError, UsageError, printable

if TYPE_CHECKING:
    from peerauth.client.invitation import Welcome
    from peerauth.trust.certificate import Certificate
    from peerauth.trust.invitation import Token

VARIABLE = "PEERAUTH_INVITE"
_LONGEST_WAIT = timedelta(days=1)


@command
def join(
    ui: Ui,
    token: Annotated[
        str | None,
        typer.Argument(
            metavar="TOKEN",
            help=f"What `peerauth invite` printed; - is standard input (else ${VARIABLE}).",
            show_default=False,
        ),
    ] = None,
    *,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What to call it here (else what it calls itself).", show_default=False),
    ] = None,
    known_as: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="What to be called there (else this node's name).", show_default=False),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where this node serves, to be noted there.", show_default=False),
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Go on trying for so long while it does not answer.", show_default=False),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
) -> None:
    """Join the node that made this invitation: it pins this node, and this node pins it.

    It may be typed again: who has joined already is told so, and no use is counted.
    """
    from peerauth.client.invitation import Joining, pin
    from peerauth.store.config import reserved_names
    from peerauth.trust.invitation import read_token
    from peerauth.trust.peers import check_name

    for flag, text in (("--name", name), ("--as", known_as)):
        if text is not None:
            with option(flag):
                check_name(text)
    if address is not None:
        with option("--address"):
            address = str(parse_address(address))
    seconds = _seconds(wait)
    invitation = read_token(_given(token))
    own = load_own(ui, passphrase_file)
    config, identity = own.config, own.identity
    if identity.certificate.fingerprint == invitation.pin:
        raise UsageError("usage", "this node made the invitation itself", "type it on the node that is to join")
    directory = load_peers(ui, config.peers)

    def look(certificate: Certificate) -> None:
        if name is not None and directory.current.holder(certificate.fingerprint) is None:
            directory.check_addition(name, [certificate])

    def waiting(error: PeerAuthError) -> None:
        ui.say(f"{error.message}; trying again for {wait}")

    joining = Joining(identity, invitation, known_as or config.name, address, look)
    try:
        welcome = run(joining.join(seconds, waiting))
    except PeerAuthError as error:
        raise _with_clock(error, invitation) from error
    here = pin(welcome, directory, reserved_names(config), name)
    if name not in {None, here}:
        ui.warn(f"it is pinned here already, as {here}", f"peerauth peer rename {here} {name}")
    _report(ui, welcome, here)


def _given(token: str | None) -> str:
    """The token, from wherever it comes. Raises UsageError."""
    if token == STANDARD_INPUT:
        return sys.stdin.buffer.read(64 << 10).decode("ascii", "replace")
    token = token or os.environ.get(VARIABLE)
    if not token:
        raise UsageError("usage", "which invitation?", f"peerauth join TOKEN, or - to read it, or ${VARIABLE}")
    return token


def _seconds(wait: str | None) -> float:
    from peerauth.store.schema import parse_span

    span = timedelta() if wait is None else parse_span(wait)
    if span is None or span > _LONGEST_WAIT:
        text = f"--wait: '{printable(wait or '', 40)}' is no time up to a day"
        raise UsageError("bad-wait", text, "for instance 30s or 5m")
    return span.total_seconds()


def _with_clock(error: PeerAuthError, token: Token) -> PeerAuthError:
    """The error; where the invitation is over by our clock, that may be the reason."""
    if datetime.now(UTC) >= token.expires and error.code not in {"usage", "name-taken"}:
        error.hint = (
            f"by this machine's clock it expired on {token.expires:%Y-%m-%d %H:%M} UTC; a new one, there: peerauth invite"
        )
    return error


def _report(ui: Ui, welcome: Welcome, here: str) -> None:
    answer, fingerprint = welcome.answer, welcome.certificate.fingerprint
    there = printable(answer.name, 64)
    if ui.json:
        facts = {"peer": here, "address": str(welcome.address), "fingerprint": fingerprint, "known_as": there}
        ui.emit({**facts, "already": answer.already})
    else:
        ui.data(f"{here} {fingerprint}")
    joined = "this node had joined already" if answer.already else "joined"
    ui.say(f"{joined}: it is {there} there, and {here} at {welcome.address} is pinned here")
    ui.say(f"to reach it: peerauth connect {here}")

"""`rotate`: make the next identity, tell the peers in the name of this one, and go over to it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

import typer

from peerauth.cli.command import command, option
from peerauth.cli.node import load_peers
from peerauth.cli.secret import PassphraseFileOption, load_own
from peerauth.cli.ui import Ui
from peerauth.errors import BadInput, UsageError

_LONGEST = timedelta(days=36_500)


@command
def rotate(
    ui: Ui,
    *,
    kind: Annotated[
        Literal["rsa4096", "rsa3072", "p256", "ed25519"] | None,
        typer.Option("--key-type", "--type", help="The kind of the next key (else as now).", show_default=False),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=36_500, help="How long it is valid (else as now).", show_default=False),
    ] = None,
    san: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further name, besides those that there are; repeatable.", show_default=False),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Switch then, whoever knows: 12h, 7d (else 7d); 0: now.", show_default=False),
    ] = None,
    overlap: Annotated[str, typer.Option(metavar="TIME", help="How long peers keep the old one after the deadline.")] = "7d",
    wait: Annotated[bool, typer.Option("--wait", help="Go on telling, and return when it is done.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only show who knows, and what comes next.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Take it back, before the switch.")] = False,
    compromised: Annotated[
        bool, typer.Option("--compromised", help="The key is in other hands: a clean break, now.")
    ] = False,
    passphrase_file: PassphraseFileOption = None,
) -> None:
    """Replace this node's key and certificate without losing a connection or a peer.

    The next certificate is endorsed by the present key. Every peer that can be reached is told; when all have accepted,
    or at the deadline, it is presented. Typed again, it goes on.
    """
    asked = [kind, days, san, deadline]
    if sum((status, abort, compromised)) > 1 or ((status or abort) and (wait or any(x is not None for x in asked))):
        raise UsageError("usage", "--status, --abort and --compromised go alone", "peerauth rotate --help")
    if compromised and deadline is not None:
        raise UsageError("usage", "--compromised has no deadline: it is done now")
    with option("--deadline"):
        until = None if deadline is None else _span(deadline)
    with option("--overlap"):
        after = _span(overlap)
    with option("--san"):
        _check_names(san or [])
    if status:
        _show(ui)
        return
    own = load_own(ui, passphrase_file)
    directory = load_peers(ui, own.config.peers)

    from peerauth.cli.rotating import Wanted, carry_out, take_back

    if abort:
        take_back(ui, own, directory)
    else:
        wanted = Wanted(kind, days, tuple(san or ()), until, after, compromised)
        carry_out(ui, own, directory, wanted, wait=wait)


def _show(ui: Ui) -> None:
    from peerauth.cli.rotation_status import show_status
    from peerauth.store.config import load_config
    from peerauth.store.succession import read_succession

    config = load_config(ui.home)
    show_status(ui, config, load_peers(ui, config.peers).current, read_succession(config))


def _span(text: str) -> timedelta:
    from peerauth.store.schema import parse_span

    span = parse_span(text)
    if span is None or span > _LONGEST:
        raise BadInput("bad-span", f"it is a time such as 12h or 7d, between 0 and {_LONGEST.days} days")
    return span


def _check_names(names: list[str]) -> None:
    if names:
        from peerauth.trust.identity import general_name

        for text in names:
            general_name(text)

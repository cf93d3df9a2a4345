"""`peer pending`, `approve`, `deny`: the strangers who tried to come in, and a person's word about them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peerauth.cli.command import command, option
from peerauth.cli.peer import folded, open_peers
from peerauth.cli.peer_settings import SettingsOptions, Wanted
from peerauth.cli.strangers import same_key, say_if_off, waiting
from peerauth.cli.ui import Cell, Ui
from peerauth.errors import BadInput, UsageError

if TYPE_CHECKING:
    from peerauth.store.peerdir import PeerDirectory
    from peerauth.store.pending import Stranger
    from peerauth.store.state import State
    from peerauth.trust.certificate import Certificate
    from peerauth.trust.peers import PeerSettings

_WHOLE = 64  # hex digits


@command
def pending(
    ui: Ui,
    everyone: Annotated[bool, typer.Option("--all", help="Also those who were denied.")] = False,
) -> None:
    """List the strangers who tried to come in.

    On a terminal a table; otherwise one line each, with tabs between what it calls itself, fingerprint, address, last visit,
    number of visits, whether its key was proven, and what else there is to say.
    """
    from peerauth.store.state import State

    config, directory = open_peers(ui)
    state = State(config.path.parent)
    known = waiting(state, directory)
    shown = [stranger for stranger in known if everyone or stranger.denied is None]
    if ui.json:
        ui.emit([_facts(stranger, directory) for stranger in shown])
    elif shown:
        headers = ["calls itself", "fingerprint", "from", "last", "times", "key", "note"]
        ui.table(headers, [_row(stranger, directory) for stranger in shown])
        ui.say("whose owner confirms the fingerprint: peerauth peer approve FINGERPRINT --name NAME")
        ui.say("who is not to be listed again: peerauth peer deny FINGERPRINT")
    else:
        hidden = f" (denied: {len(known)}; to see them: peerauth peer pending --all)" if known else ""
        ui.say(f"nobody is pending{hidden}")
    say_if_off(ui, config)


def _row(stranger: Stranger, directory: PeerDirectory) -> list[str | Cell]:
    return [
        stranger.claim or "?",
        folded(stranger.fingerprint),
        stranger.address,
        f"{stranger.last:%Y-%m-%d %H:%M:%S}",
        str(stranger.times),
        "proven" if stranger.proven else Cell("not proven", "yellow"),
        "; ".join(_notes(stranger, directory)),
    ]


def _notes(stranger: Stranger, directory: PeerDirectory) -> list[str]:
    found = []
    if stranger.successor_of:
        later = stranger.retire is not None and stranger.retire > stranger.first  # one whose key was lost is out already
        retire = f", which is to be retired on {stranger.retire:%Y-%m-%d}" if later else ""
        whose = f"the next certificate of {stranger.successor_of}, put forward by whoever holds the key of the one before"
        found.append(f"{whose}{retire}")
    elif twin := same_key(stranger.certificate, directory):
        found.append(f"its key is that of {twin}'s pinned certificate")
    elif stranger.claim.lower() in directory.current:
        found.append(f"not the certificate that is pinned as {stranger.claim.lower()}")
    if stranger.denied:
        found.append(f"denied {stranger.denied:%Y-%m-%d}")
    return found


def _facts(stranger: Stranger, directory: PeerDirectory) -> dict[str, Any]:
    return {
        "claim": stranger.claim or None,
        "fingerprint": stranger.fingerprint,
        "address": stranger.address,
        "first": stranger.first,
        "last": stranger.last,
        "times": stranger.times,
        "key_proven": stranger.proven,
        "successor_of": stranger.successor_of,
        "retire": stranger.retire,
        "denied": stranger.denied,
        "notes": _notes(stranger, directory),
    }


@command
def approve(
    ui: Ui,
    fingerprint: Annotated[str, typer.Argument(metavar="FINGERPRINT", help="All of it, or the first 8 digits or more.")],
    *,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What to call it; needed, except for a peer's next certificate.", show_default=False
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; its owner has confirmed the fingerprint.")] = False,
    settings: SettingsOptions,
) -> None:
    """Admit a stranger who tried to come in: pin the certificate that it showed.

    A running server admits it at once. With a part of the fingerprint you are shown all of it, and asked; a script gives all
    of it, or --yes.
    """
    from peerauth.store.config import reserved_names
    from peerauth.store.pending import approving
    from peerauth.store.state import State
    from peerauth.trust.certificate import Certificate
    from peerauth.trust.explain import free_name

    now = datetime.now(UTC)
    wanted = settings.read(now)
    prefix = _prefix(fingerprint)
    config, directory = open_peers(ui)
    state = State(config.path.parent)
    stranger = _find(state, directory, prefix)
    free = free_name(stranger.claim, directory.current, reserved_names(config))
    given = _name(stranger, name, wanted, prefix, free)
    certificate = Certificate(stranger.certificate)
    if stranger.successor_of is None:
        directory.check_addition(given, [certificate])
    for sentence in certificate.unusual(now):
        ui.warn(f"{given}: {sentence}")
    _confirm(ui, stranger, certificate, given, sure=yes or len(prefix) == _WHOLE)
    with approving(state, stranger.fingerprint, stranger.successor_of):
        _pin(directory, stranger, certificate, given, wanted.over(None))
    if ui.json:
        ui.emit({"name": given, "fingerprint": stranger.fingerprint, "unusual": certificate.unusual(now)})
    else:
        ui.data(f"{given} {stranger.fingerprint}")
        ui.say(f"pinned {given}, who tried to come in from {stranger.address}")


def _find(state: State, directory: PeerDirectory, prefix: str) -> Stranger:
    """Who is meant. Raises BadInput."""
    from peerauth.store.pending import find
    from peerauth.trust.fingerprint import Fingerprint

    holder = directory.current.holder(Fingerprint(bytes.fromhex(prefix))) if len(prefix) == _WHOLE else None
    if holder is not None:
        raise BadInput("already-pinned", f"this certificate is pinned already, as {holder.name}")
    return find(waiting(state, directory), prefix)


def _name(stranger: Stranger, name: str | None, wanted: Wanted, prefix: str, proposed: str | None) -> str:
    """Under which name it is to be pinned. Raises UsageError, which proposes one where there is one to propose."""
    from peerauth.trust.peers import check_name

    successor_of = stranger.successor_of
    if successor_of is not None:
        if name not in (None, successor_of) or wanted.changes:
            text = f"this is to be the next certificate of {successor_of}, who keeps name and notes"
            raise UsageError("usage", text, f"leave the other options out: peerauth peer approve {stranger.fingerprint}")
        return successor_of
    if name is None:
        begins = ":".join(prefix[at : at + 2] for at in range(0, len(prefix), 2)).upper()
        hint = f"peerauth peer approve {begins} --name {proposed or 'NAME'}"
        hint = f"it calls itself {proposed}: {hint}" if proposed else f"choose one: {hint}"
        raise UsageError("usage", "under which name is it to be pinned? --name is missing", hint)
    with option("--name"):
        return check_name(name)


def _confirm(ui: Ui, stranger: Stranger, certificate: Certificate, name: str, *, sure: bool) -> None:
    """Have a person compare the whole fingerprint. Raises UsageError("not-confirmed")."""
    if sure:
        return
    from peerauth.cli.describe import aligned, certificate_lines

    proven = "yes" if stranger.proven else "no: who presented it has not shown yet that they hold its key"
    facts = [*certificate_lines(certificate, datetime.now(UTC)), ("came from", stranger.address), ("key proven", proven)]
    ui.say(aligned(facts))
    if not ui.confirm(f"Does its owner say the same fingerprint (peerauth id --fingerprint)? Pin it as {name}?"):
        raise UsageError(
            "not-confirmed",
            f"nothing was pinned: nobody said that {stranger.fingerprint} is the right fingerprint",
            f"if its owner confirms it: peerauth peer approve {stranger.fingerprint} --name {name}",
        )


def _pin(
    directory: PeerDirectory, stranger: Stranger, certificate: Certificate, name: str, settings: PeerSettings | None
) -> None:
    if stranger.successor_of is not None:
        old = next((held for held in directory.certificates(name) if held.fingerprint == stranger.old), None)
        if old is None and not directory.has_followed(name):
            text = f"the certificate that it would follow is not {name}'s any more; nothing was pinned"
            raise BadInput("no-such-stranger", text, f"if it is {name}'s all the same: peerauth peer add FILE --name {name}")
        # Where the old one is gone already, as one is whose key was lost, the others of the peer stay as they are.
        directory.succeed(name, certificate, stranger.retire if old else None, of=old)
    else:
        directory.add(name, [certificate], settings)


@command
def deny(
    ui: Ui,
    fingerprints: Annotated[
        list[str], typer.Argument(metavar="FINGERPRINT...", help="All of it, or the first 8 digits or more.")
    ],
    undo: Annotated[bool, typer.Option("--undo", help="Show them again.")] = False,
) -> None:
    """Do not list a stranger as pending again, although it may go on trying. Nobody is admitted or removed by this."""
    from peerauth.store import pending as store
    from peerauth.store.state import State

    prefixes = [_prefix(text) for text in fingerprints]
    config, _ = open_peers(ui)
    state = State(config.path.parent)
    if undo:
        found = store.take_back(state, prefixes)
    else:
        found = [stranger.fingerprint for stranger in store.deny(state, prefixes, datetime.now(UTC))]
    if ui.json:
        ui.emit({"shown_again" if undo else "denied": found})
    for fingerprint in found:
        ui.say(f"{fingerprint} " + ("is shown again when it is pending" if undo else "is not shown again"))


def _prefix(text: str) -> str:
    from peerauth.trust.fingerprint import parse_prefix

    with option("FINGERPRINT"):
        return parse_prefix(text)

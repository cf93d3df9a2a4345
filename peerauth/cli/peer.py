"""`peer list`, `show`, `remove`, `rename`: the allow-list as a person sees and changes it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from peerauth.cli.command import command, option
from peerauth.cli.ui import Cell, Ui
from peerauth.errors import BadInput

if TYPE_CHECKING:
    from peerauth.store.config import Config
    from peerauth.store.peerdir import PeerDirectory
    from peerauth.trust.certificate import Certificate
    from peerauth.trust.fingerprint import Fingerprint
    from peerauth.trust.peers import Peer

_PER_LINE = ((160, 32), (100, 16), (0, 8))  # from that many columns on: bytes of a fingerprint in one line


def open_peers(ui: Ui) -> tuple[Config, PeerDirectory]:
    """The node's configuration and its peers as they are now. Raises BadInput."""
    from peerauth.store.config import load_config
    from peerauth.store.peerdir import PeerDirectory

    config = load_config(ui.home)
    directory = PeerDirectory(config.peers)
    directory.refresh()
    return config, directory


def open_directory(ui: Ui) -> PeerDirectory:
    """The node's peers as they are now, whatever is wrong with its services: who is to go, goes. Raises BadInput."""
    from peerauth.store.config import load_config, peers_of
    from peerauth.store.peerdir import PeerDirectory

    try:
        path = peers_of(ui.home)
    except BadInput:
        from peerauth.cli.standing import running  # what runs was told before config.toml became unreadable

        path = (running(ui.home) or load_config(ui.home)).peers  # the second names all that is wrong
    directory = PeerDirectory(path)
    directory.refresh()
    return directory


@command
def list_peers(ui: Ui) -> None:
    """List the peers that this node admits.

    On a terminal a table; otherwise one line a pin, with tabs between name, fingerprint, key, expiry, tags and note.
    """
    directory = open_directory(ui)
    now = datetime.now(UTC)
    held = directory.everything()
    for problem in directory.problems:
        ui.warn(problem.message)
    if ui.json:
        from peerauth.cli.describe import peer_facts

        ui.emit([peer_facts(peer, held[peer.name], now) for peer in directory.current])
        return
    rows = [row for peer in directory.current for row in _rows(peer, held[peer.name], now)]
    if rows:
        ui.table(["name", "fingerprint", "key", "expires in", "tags", "note"], rows)
    else:
        ui.say("nobody is admitted" if directory.problems else "nobody is pinned yet: peerauth peer add FILE")


def _rows(peer: Peer, certificates: Sequence[Certificate], now: datetime) -> list[list[str | Cell]]:
    from peerauth.cli.describe import in_time

    known = {certificate.fingerprint: certificate for certificate in certificates}
    until = peer.settings.until
    rows: list[list[str | Cell]] = []
    for pin in peer.pins:
        certificate = known.get(pin)
        if until is not None and now >= until:
            left: str | Cell = Cell(f"was admitted until {until:%Y-%m-%d}", "red")
        elif peer.settings.pin == "key":
            left = "key pinned"
        else:
            left = in_time(certificate, now, peer.settings) if certificate else "?"
        key = certificate.key_type if certificate else "?"
        rows.append([peer.name, folded(pin), key, left, ", ".join(peer.tags), peer.settings.note])
    return rows


def folded(pin: Fingerprint) -> str:
    """A fingerprint in full; on a terminal in as many lines as its width asks for."""
    import shutil
    import sys

    text = str(pin)
    if not sys.stdout.isatty():
        return text
    columns = shutil.get_terminal_size().columns
    step = 3 * next(count for least, count in _PER_LINE if columns >= least)
    return "\n".join(text[start : start + step] for start in range(0, len(text), step))


@command
def show(
    ui: Ui,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The peer's name.")],
    *,
    pem: Annotated[bool, typer.Option("--pem", help="Print its certificates as PEM.")] = False,
) -> None:
    """Show everything that is known about a peer."""
    from peerauth.cli.describe import aligned, certificate_lines, peer_facts, settings_lines

    directory = open_directory(ui)
    _checked(name)
    peer = _peer(directory, name)
    certificates = directory.certificates(name)
    now = datetime.now(UTC)
    for problem in directory.problems:
        if problem.path.stem.lower() == name:
            ui.warn(problem.message)
    if ui.json:
        extra = {"pem": [certificate.pem for certificate in certificates]} if pem else {}
        ui.emit({**peer_facts(peer, certificates, now), **extra})
    elif pem:
        ui.data("".join(certificate.pem for certificate in certificates).rstrip("\n"))
    else:
        parts = [aligned([("name", peer.name), *settings_lines(peer.settings)])]
        parts += [aligned(certificate_lines(certificate, now, peer.settings)) for certificate in certificates]
        ui.data("\n\n".join(parts))


def _peer(directory: PeerDirectory, name: str) -> Peer:
    """The peer; one whose files are broken has them named. Raises BadInput."""
    if name not in directory.current and directory.files_of(name):
        for problem in directory.problems:
            if problem.path.stem.lower() == name:
                raise BadInput(problem.code, f"{name} cannot be used: {problem.message}", "mend or remove that file")
    return directory.peer(name)


@command
def remove(
    ui: Ui,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Who is no longer to be admitted.")],
    *,
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="It is no error if there is no such peer.")] = False,
) -> None:
    """Take peers out of the list; a running server ends their connections.

    All of them or, where there is no peer of one of the names, none.
    """
    from peerauth.trust.peers import no_such_peer

    directory = open_directory(ui)
    names = list(dict.fromkeys(_checked(name) for name in names))
    missing = [name for name in names if not directory.left_of(name)]
    if missing and not missing_ok:
        error = no_such_peer(missing[0], directory.current)
        raise BadInput(error.code, f"{error.message}; nobody was removed", error.hint)
    removed = []
    for name in missing:
        ui.say(f"there is no peer {name}: nothing is to be removed")
    for name in (name for name in names if name not in missing):
        pins = directory.remove(name)
        removed.append({"name": name, "fingerprints": pins})
        ui.say(f"removed {name}")
        _shut_out(ui, name, pins)
    if ui.json:
        ui.emit({"removed": removed, "missing": missing})


def _shut_out(ui: Ui, name: str, pins: Sequence[Fingerprint]) -> None:
    """See to it that who was removed does not come back by its invitation, and say where another way is left."""
    from peerauth.store.invitations import Invitations
    from peerauth.store.pending import forget_peer
    from peerauth.store.state import State

    forget_peer(State(ui.home), name)
    for invitation in Invitations(State(ui.home)).forget(pins, datetime.now(UTC)):
        ui.warn(
            f"{name} has an invitation that is still good: with another certificate it can join once more",
            f"peerauth invite --revoke {invitation.id.hex()}",
        )


@command
def rename(
    ui: Ui,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The name it has.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The name it is to have.")],
) -> None:
    """Give a peer another name."""
    from peerauth.store.pending import forget_peer
    from peerauth.store.state import State

    config, directory = open_peers(ui)
    directory.rename(_checked(old), _checked(new))
    forget_peer(State(config.path.parent), old)
    for service in config.services:
        if any(old in (policy.names or ()) for policy in service.policies):
            ui.warn(
                f"{ui.path(config.path)} still says {old}: the service '{service.name}' does not admit {new}",
                f"write {new} instead of {old} there",
            )
    if ui.json:
        ui.emit({"renamed": {"from": old, "to": new}})
    ui.say(f"{old} is now {new}")


def _checked(name: str) -> str:
    from peerauth.trust.peers import check_name

    with option("NAME"):
        return check_name(name)

"""`peer add`: pin certificates. Everything is checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peerauth.cli.command import command, option
from peerauth.cli.peer import open_peers
from peerauth.cli.peer_settings import SettingsOptions, Wanted
from peerauth.cli.reading import STANDARD_INPUT, read_input
from peerauth.cli.secret import PassphraseFileOption, Source
from peerauth.cli.ui import Ui
from peerauth.errors import BadInput, TrustRefused, UsageError
from peerauth.store.files import shown

if TYPE_CHECKING:
    from peerauth.store.config import Config
    from peerauth.store.peerdir import PeerDirectory
    from peerauth.trust.certificate import Certificate
    from peerauth.trust.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class _Addition:
    """One peer to be: its name, its certificates, and where they came from."""

    name: str
    certificates: list[Certificate]
    origin: str


@command
def add(
    ui: Ui,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", readable=False, help="PEM, DER or PKCS12; - is standard input.")
    ],
    *,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The peer's name (else the file's, or the certificate's CN).", show_default=False),
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option(metavar="FINGERPRINT", help="Pin nothing unless this is its SHA-256 fingerprint.", show_default=False),
    ] = None,
    settings: SettingsOptions,
    passphrase_file: PassphraseFileOption = None,
) -> None:
    """Admit peers: pin the certificates in these files.

    Adding a peer again is fine; the options then change what is noted about it. NAME and FINGERPRINT of each are printed.
    """
    from peerauth.trust.fingerprint import Fingerprint

    if name is not None and len(files) > 1:
        raise UsageError("usage", "--name goes with one file", "add the files one by one")
    now = datetime.now(UTC)
    wanted = settings.read(now)
    with option("--expect"):
        expected = Fingerprint.parse(expect) if expect is not None else None
    config, directory = open_peers(ui)
    additions = [addition for file in files for addition in _named(_read(ui, file, passphrase_file), file, name, directory)]
    _check(additions, expected, directory)
    subjects = {certificate.subject for addition in additions for certificate in addition.certificates}
    others = [(known, certificate.subject) for known, certificate in directory.each() if certificate.subject in subjects]
    reports: list[dict[str, Any]] = []
    for addition in additions:
        new, changed = _add(ui, addition, wanted, directory)
        noted = directory.current.get(addition.name)
        told = _tell(ui, addition, config, others, now, by_key=noted is not None and noted.settings.pin == "key")
        others += [(addition.name, certificate.subject) for certificate in addition.certificates]
        pins = [certificate.fingerprint for certificate in addition.certificates]
        reports.append({"name": addition.name, "fingerprints": pins, "added": new, "changed": changed, "unusual": told})
        if not ui.json:
            ui.data("\n".join(f"{addition.name} {pin}" for pin in pins))
    if ui.json:
        ui.emit({"peers": reports})
    elif expected is None and any(report["added"] for report in reports):
        ui.say("compare the fingerprint with what the other machine says: peerauth id --fingerprint")


def _read(ui: Ui, file: Path, passphrase_file: Path | None) -> list[Certificate]:
    """The certificates to pin out of one file. Raises BadInput naming it."""
    from peerauth.trust.reading import MAXIMUM_BYTES, leaves, read_certificates

    data = read_input(file, MAXIMUM_BYTES)
    origin = _origin(file)
    try:
        try:
            found = read_certificates(data)
        except BadInput as error:
            if error.code != "password-needed":
                raise
            password = Source(f"password of {origin}", "--passphrase-file")
            found = password.unlock(
                passphrase_file, f"Password of {origin}: ", lambda secret: read_certificates(data, secret)
            )
    except BadInput as error:
        message = error.message if origin in error.message else f"{origin}: {error.message}"
        raise BadInput(error.code, message, error.hint) from error
    held = leaves(found)
    if len(held) < len(found):
        left_out = len(found) - len(held)
        ui.say(f"{origin} holds a chain: {left_out} certificate(s) of issuers are left out, because a pin is for the leaf")
    return held


def _named(held: list[Certificate], file: Path, name: str | None, directory: PeerDirectory) -> list[_Addition]:
    """Who these certificates are: --name, the name they are pinned under, the file's name, or their own CN."""
    from peerauth.trust.peers import check_name, suggest_name

    origin = _origin(file)
    if name is not None:
        with option("--name"):
            return [_Addition(check_name(name), held, origin)]
    by_file = len(held) == 1 and str(file) != STANDARD_INPUT and not str(file).startswith("/dev/")
    pinned: dict[str, list[Certificate]] = {}
    fresh: list[_Addition] = []
    for certificate in held:
        holder = directory.current.known(certificate)
        if holder is not None:
            pinned.setdefault(holder.name, []).append(certificate)
        else:
            fresh.append(_Addition(suggest_name(file.stem if by_file else certificate.common_name), [certificate], origin))
    return [*(_Addition(holder, certificates, origin) for holder, certificates in pinned.items()), *fresh]


def _check(additions: Sequence[_Addition], expected: Fingerprint | None, directory: PeerDirectory) -> None:
    """Raise what is wrong with any of them, before any is written."""
    if expected is not None:
        _compare([(addition.origin, held) for addition in additions for held in addition.certificates], expected)
    by_name: dict[str, _Addition] = {}
    by_pin: dict[Fingerprint, _Addition] = {}
    for addition in additions:
        name, pins = addition.name, {certificate.fingerprint for certificate in addition.certificates}
        twin = by_name.setdefault(name, addition)
        if pins != {certificate.fingerprint for certificate in twin.certificates}:
            raise BadInput(
                "same-name",
                f"two certificates would both be named {name}: one in {twin.origin}, one in {addition.origin}",
                f"one peer's: put them into one file and use --name {name}; otherwise add them one by one, each with --name",
            )
        for pin in pins:
            first = by_pin.setdefault(pin, addition)
            if first.name != name:
                raise BadInput(
                    "same-certificate", f"{first.origin} and {addition.origin} hold the same certificate", "name one of them"
                )
        try:
            directory.check_addition(name, addition.certificates)
        except BadInput as error:
            raise BadInput(error.code, f"{addition.origin}: {error.message}", error.hint) from error


def _compare(found: Sequence[tuple[str, Certificate]], expected: Fingerprint) -> None:
    if len(found) > 1:
        raise UsageError("usage", f"--expect goes with one certificate, and there are {len(found)}", "add them one by one")
    origin, certificate = found[0]
    if certificate.fingerprint != expected:
        raise TrustRefused(
            "not-expected",
            f"{origin} is not the certificate that was expected; nothing was pinned\n"
            f"  expected {expected}\n  found    {certificate.fingerprint}",
            "to see the right one, type on the other machine: peerauth id --fingerprint",
        )


def _tell(
    ui: Ui, addition: _Addition, config: Config, others: Sequence[tuple[str, str]], now: datetime, *, by_key: bool
) -> list[str]:
    """Say what a careful person would want to know, and return it. `others` are peers and subjects that they have."""
    told = []
    for certificate in addition.certificates:
        told += certificate.unusual(now, by_key=by_key)
        told += [
            f"it has the same subject as the peer {name}: software that looks at names cannot tell them apart"
            for name, subject in dict.fromkeys(others)
            if name != addition.name and subject == certificate.subject
        ]
        if certificate == _own(config):
            told.append("it is this node's own certificate: whoever has this node's key is admitted")
    for sentence in told:
        ui.warn(f"{addition.name}: {sentence}")
    return told


def _own(config: Config) -> Certificate | None:
    from peerauth.store.home import read_own_certificate

    try:
        return read_own_certificate(config)
    except BadInput:
        return None


def _add(ui: Ui, addition: _Addition, wanted: Wanted, directory: PeerDirectory) -> tuple[bool, bool]:
    """Pin one peer; whether it is new, and whether anything changed."""
    known = directory.current.get(addition.name)
    settings = wanted.over(known.settings if known else None)
    changed = directory.add(addition.name, addition.certificates, settings)
    if known is None:
        ui.say(f"pinned {addition.name} ({addition.origin})")
    elif not {certificate.fingerprint for certificate in addition.certificates} <= set(known.pins):
        ui.say(f"{addition.name} is pinned by its key already; its newer certificate was put in the place of the old one")
    elif changed:
        ui.say(f"{addition.name} is pinned already; what is noted about it was changed")
    else:
        ui.say(f"{addition.name} is pinned already")
    return known is None, changed


def _origin(file: Path) -> str:
    return "standard input" if str(file) == STANDARD_INPUT else shown(file)

"""`id`: who this node is, and its identity in the forms that other programs want."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peerauth.cli.command import command
from peerauth.cli.secret import PassphraseFileOption, Source, unlocked
from peerauth.cli.ui import Ui
from peerauth.errors import BadInput, UsageError

if TYPE_CHECKING:
    from peerauth.store.config import Config
    from peerauth.trust.certificate import Certificate

_ARCHIVE = Source("password for the PKCS12 file", "--p12-password-file", "PEERAUTH_P12_PASSWORD")
_KEYTOOL_MINIMUM = 6


@command
def identity(
    ui: Ui,
    *,
    pem: Annotated[bool, typer.Option("--pem", help="Print the certificate as PEM, to hand to others.")] = False,
    fingerprint: Annotated[bool, typer.Option("--fingerprint", help="Print the fingerprint alone.")] = False,
    words: Annotated[bool, typer.Option("--words", help="Print the fingerprint as 24 words, to read aloud.")] = False,
    qr: Annotated[bool, typer.Option("--qr", help="Print fingerprint and address as a QR code.")] = False,
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="HOST:PORT", help="With --qr: where others reach this node.", show_default=False),
    ] = None,
    p12: Annotated[
        Path | None,
        typer.Option(
            "--p12",
            metavar="FILE",
            readable=False,
            help="Write key and certificate as PKCS12, for curl, Java and browsers.",
            show_default=False,
        ),
    ] = None,
    p12_password_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", readable=False, help="The PKCS12's password is this file's first line.", show_default=False
        ),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    force: Annotated[bool, typer.Option("--force", help="With --p12: replace the file if it is there.")] = False,
) -> None:
    """Show this node's name, fingerprint and validity.

    The password for --p12 comes from --p12-password-file, $PEERAUTH_P12_PASSWORD or the terminal.
    """
    from peerauth.cli.describe import certificate_facts
    from peerauth.store.config import load_config
    from peerauth.trust import expiry

    if sum((pem, fingerprint, words, qr, p12 is not None)) > 1:
        raise UsageError("usage", "--pem, --fingerprint, --words, --qr and --p12 exclude each other: choose one")
    if address is not None and not qr:
        raise UsageError("usage", "--address goes with --qr")
    config = load_config(ui.home)
    if p12 is not None:
        _write_archive(ui, config, p12, p12_password_file, passphrase_file, force=force)
        return
    certificate = _certificate(ui, config)
    now = datetime.now(UTC)
    if qr:
        _show_qr(ui, config, certificate, address)
    elif ui.json:
        files = {"key": config.key, "certificate": config.certificate, "config": config.path, "peers": config.peers}
        extra = {"pem": certificate.pem} if pem else {"words": certificate.fingerprint.words} if words else {}
        ui.emit({"name": config.name, **certificate_facts(certificate, now), "files": files, **extra})
    elif pem:
        ui.data(certificate.pem.rstrip("\n"))
    elif fingerprint:
        ui.data(str(certificate.fingerprint))
    elif words:
        _show_words(ui, certificate)
    else:
        _show(ui, config, certificate, now)
    if expiry.level(certificate.not_after, now) is not None:
        text = f"this certificate {expiry.sentence(certificate.not_after, now)}"
        ui.warn(text, expiry.advice(None, certificate.not_after, now))


def _certificate(ui: Ui, config: Config) -> Certificate:
    """The node's certificate; compared with its key where that can be read without asking anybody."""
    from peerauth.store.home import key_is_encrypted, key_is_exposed, read_identity, read_own_certificate

    if key_is_exposed(config):
        ui.warn(f"others on this machine can read {ui.path(config.key)}", f"chmod 600 {ui.path(config.key)}")
    if not key_is_encrypted(config):
        try:
            return read_identity(config).certificate
        except BadInput as error:
            if not isinstance(error.__cause__, PermissionError):
                raise
            ui.detail(f"not compared with its key: {error.message}")
    return read_own_certificate(config)


def _show(ui: Ui, config: Config, certificate: Certificate, now: datetime) -> None:
    from peerauth.cli.describe import aligned, validity

    lines = [
        ("name", config.name),
        ("fingerprint", str(certificate.fingerprint)),
        ("key", certificate.key_type),
        ("valid", validity(certificate, now)),
        ("names", ", ".join(certificate.alternative_names) or "none"),
        ("certificate", ui.path(config.certificate)),
        ("private key", ui.path(config.key)),
        ("peers", ui.path(config.peers)),
    ]
    ui.data(aligned(lines))


def _show_words(ui: Ui, certificate: Certificate) -> None:
    from peerauth.trust.words import in_rows

    ui.data("\n".join(in_rows(certificate.fingerprint.words)))
    ui.say("these words say what the fingerprint says: they are no secret, and open nothing (a wallet's look the same)")


def _show_qr(ui: Ui, config: Config, certificate: Certificate, address: str | None) -> None:
    import io

    import segno

    from peerauth.cli.reachable import reachable

    where = reachable(config, address)
    link = certificate.fingerprint.link(str(where), config.name)
    if where.is_loopback:
        ui.warn(f"{where} leads nowhere from other machines", "say where they reach this one: --address HOST:PORT")
    if ui.json:
        ui.emit({"name": config.name, "fingerprint": certificate.fingerprint, "address": str(where), "link": link})
        return
    picture = io.StringIO()
    segno.make_qr(link).terminal(picture, compact=True)
    ui.picture(picture.getvalue().splitlines())
    ui.say(link)


def _write_archive(
    ui: Ui, config: Config, file: Path, password_file: Path | None, passphrase_file: Path | None, *, force: bool
) -> None:
    from peerauth.store.files import shown, write_atomic, write_new

    if str(file) == "-":
        raise UsageError("usage", "--p12 writes a file, because a private key is in it: name one")
    if not force and (file.exists() or file.is_symlink()):
        raise BadInput("exists", f"{shown(file)} is there already, and nothing was overwritten", "to replace it: --force")
    own = unlocked(ui, config, passphrase_file).identity
    password = _ARCHIVE.make(password_file, "Password for the PKCS12 file")
    if not password.isascii():
        raise BadInput(
            "password-not-ascii",
            "the password for the PKCS12 file has other characters than ASCII: programs disagree on how to read it",
            "choose one of letters, digits and punctuation",
        )
    if len(password) < _KEYTOOL_MINIMUM:
        ui.warn(f"Java's keytool wants {_KEYTOOL_MINIMUM} characters or more and will not open this file")
    archive = own.pkcs12(config.name, password)
    if force:
        write_atomic(file, archive, 0o600)
    else:
        write_new(file, archive, 0o600)
    if ui.json:
        ui.emit({"name": config.name, "fingerprint": own.certificate.fingerprint, "files": {"p12": file}})
    ui.say(f"wrote {ui.path(file)}: the private key is in it, under the password; keep it to this machine")

"""`keygen`: give this machine an identity."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from peerauth.cli.command import command, option
from peerauth.cli.secret import NODE_KEY, PassphraseFileOption
from peerauth.cli.ui import Ui
from peerauth.errors import BadInput, PeerAuthError

if TYPE_CHECKING:
    from peerauth.store.home import Created

T = TypeVar("T")
_TICK = 0.1


@command
def keygen(
    ui: Ui,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The node's name (else the host's name).", show_default=False)
    ] = None,
    *,
    kind: Annotated[
        Literal["rsa4096", "rsa3072", "p256", "ed25519"],
        typer.Option("--type", help="The kind of key. Every TLS stack takes rsa4096; ed25519 many do not."),
    ] = "rsa4096",
    days: Annotated[int, typer.Option(metavar="N", min=1, max=36_500, help="How long the certificate is valid.")] = 365,
    san: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A further DNS name, IP address or URI of this node; repeatable.", show_default=False
        ),
    ] = None,
    passphrase: Annotated[bool, typer.Option("--passphrase", help="Encrypt the key; the passphrase is asked for.")] = False,
    passphrase_file: PassphraseFileOption = None,
    auto_rotate: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Have serve rotate when the certificate is so old: 60d.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make a new pair and keep the old one beside it.")] = False,
) -> None:
    """Make this node's private key and certificate, config.toml and peers/.

    The fingerprint is printed on standard output, and what to do next on standard error. The passphrase comes from
    --passphrase-file, $PEERAUTH_PASSPHRASE, $PEERAUTH_PASSPHRASE_FILE or the terminal.
    """
    from peerauth.store.config import check_every
    from peerauth.store.home import check_free, create, existing_name
    from peerauth.trust.identity import KeyType, general_name, new_key, self_signed
    from peerauth.trust.peers import check_name

    if name is None:
        name = existing_name(ui.home) or _host_names()[0]
    with option("NAME"):
        check_name(name)
    with option("--san"):
        for text in san or ():
            general_name(text)
    with option("--auto-rotate"):
        every = None if auto_rotate is None else check_every(auto_rotate)
    try:
        check_free(ui.home, name, force=force)
    except BadInput as error:
        if error.code == "exists" and every is not None:
            error.hint = f'to have serve rotate this one, write in config.toml, below [rotation]: every = "{every}"'
        raise
    secret = NODE_KEY.make(passphrase_file, "Passphrase for the new key") if passphrase else NODE_KEY.given(passphrase_file)
    key = made_aside(ui, lambda: new_key(KeyType(kind)))
    now = datetime.now(UTC)
    identity = self_signed(key, name, now, days=days, names=(*_host_names()[1:], *(san or ())))
    created = create(ui.home, name, identity, now, secret, force=force, every=every)
    if every is not None and created.config.rotation is None:
        hint = f'write there: [rotation]\nevery = "{every}"'
        ui.warn(f"{ui.path(created.config.path)} is yours, and stays as it is", hint)
    _report(ui, created, encrypted=secret is not None)


def _host_names() -> tuple[str, ...]:
    """A node's name made of the host's, and the host's name itself where a certificate can hold it.

    The domain is not looked up: a resolver may be slow, and what it says is not ours to certify.
    """
    from peerauth.trust.identity import general_name
    from peerauth.trust.peers import suggest_name

    host = socket.gethostname()
    try:
        general_name(host)
    except BadInput:
        return (suggest_name(host.partition(".")[0]),)
    return (suggest_name(host.partition(".")[0]), host)


def made_aside(ui: Ui, make: Callable[[], T]) -> T:
    """What has a new key in it, made in a thread that Ctrl-C need not wait for: it runs in C, for seconds."""
    made: list[T] = []
    failed: list[Exception] = []

    def work() -> None:
        try:
            made.append(make())
        except Exception as error:  # noqa: BLE001 - it is raised again below, in the thread that reports
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    with ui.spinner("making the key"):
        thread.start()
        while thread.is_alive():
            thread.join(_TICK)
    if failed and isinstance(failed[0], PeerAuthError):
        raise failed[0]
    if failed:
        raise PeerAuthError("no-key", f"the key could not be made: {failed[0]}") from failed[0]
    return made[0]


def _report(ui: Ui, created: Created, *, encrypted: bool) -> None:
    config, certificate = created.config, created.identity.certificate
    written: dict[str, Path] = {
        "key": config.key,
        "certificate": config.certificate,
        "config": config.path,
        "peers": config.peers,
    }
    if ui.json:
        ui.emit(
            {
                "name": config.name,
                "fingerprint": certificate.fingerprint,
                "key_type": certificate.key_type,
                "not_after": certificate.not_after,
                "encrypted": encrypted,
                "files": written,
                "kept": created.kept,
            }
        )
    else:
        ui.data(str(certificate.fingerprint))
    lock = "encrypted, " if encrypted else ""
    for path in created.kept:
        ui.say(f"kept the old pair: {ui.path(path)}")
    ui.say(f"wrote {ui.path(config.key)}: the private key, {lock}which never leaves this machine")
    until = f"{certificate.not_after:%Y-%m-%d}"
    ui.say(f"wrote {ui.path(config.certificate)}: the certificate, valid until {until}; hand it to your peers")
    ui.say(f"those whom this node admits go into {ui.path(config.peers)}/ (peerauth peer add FILE)")
    there = f"  peerauth peer add {config.certificate.name} --expect {certificate.fingerprint}"
    ui.say(f"\nNow copy {config.certificate.name} to the other machine and type there:\n\n{there}")

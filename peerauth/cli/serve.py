"""`serve`: offer services to the pinned peers until told to stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from peerauth.address import DEFAULT_PORT, Address, parse_address
from peerauth.cli.command import command, option
from peerauth.cli.secret import PassphraseFileOption, load_own
from peerauth.cli.serving import offer
from peerauth.cli.ui import Ui
from peerauth.errors import UsageError

if TYPE_CHECKING:
    from peerauth.store.config import Config, Service
    from peerauth.store.kind_app import Interface
    from peerauth.store.kinds import Kind


@command
def serve(
    ui: Ui,
    listen: Annotated[
        list[str] | None, typer.Option("--listen", metavar="ADDRESS", help="HOST:PORT, :PORT or unix:PATH; repeatable.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="ADDRESS", help="Relay to HOST:PORT or unix:PATH; without it: say hello."),
    ] = None,
    app: Annotated[
        str | None,
        typer.Option("--app", metavar="MODULE:ATTRIBUTE", help="Run this ASGI or WSGI application.", show_default=False),
    ] = None,
    app_dir: Annotated[
        Path | None,
        typer.Option("--app-dir", metavar="DIR", help="Where its module is; else here.", show_default=False),
    ] = None,
    interface: Annotated[
        Literal["asgi", "wsgi"] | None,
        typer.Option("--interface", help="What the application is, where that cannot be seen.", show_default=False),
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", metavar="PEER", help="Only this peer, tag:NAME or @group; repeatable.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, max=64, help="Serve with N processes.", show_default=False),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
) -> None:
    """Run the services of config.toml, or the one described by the options, for pinned peers only.

    Peers that are added, changed or removed meanwhile count at once; a removed peer's connections end.
    """
    own = load_own(ui, passphrase_file)
    for name, value in (("--app-dir", app_dir), ("--interface", interface)):
        if value is not None and app is None:
            raise UsageError("usage", f"{name} needs --app", "for instance: --app main:app")
    makers: dict[str, tuple[str | None, Callable[[str], Kind]]] = {
        "--target": (target, _relay),
        "--app": (app, lambda reference: _app(reference, app_dir, interface)),
    }
    offer(ui, own, _services(own.config, listen or [], makers, allow), workers)


def _services(
    config: Config, listen: list[str], kinds: dict[str, tuple[str | None, Callable[[str], Kind]]], allow: list[str] | None
) -> tuple[Service, ...]:
    """The services that the options describe, or those of config.toml.

    `kinds`: what each option for a kind was given, and what makes a kind of it.
    """
    from peerauth.store.config import Service, policy_for
    from peerauth.store.kinds import Hello

    given = {name: (value, make) for name, (value, make) in kinds.items() if value is not None}
    if not (listen or allow or given):
        if config.services:
            return config.services
        return (Service("hello", Address("0.0.0.0", DEFAULT_PORT)),)  # noqa: S104 - a server serves
    if len(given) > 1:
        raise UsageError("two-kinds", f"{' and '.join(given)} are different things to be", "a service is one of them")
    kind: Kind = Hello()
    for name, (value, make) in given.items():
        with option(name):
            kind = make(value)
    if given and not listen:
        raise UsageError("no-listen", f"{next(iter(given))} needs --listen", "for instance: --listen 0.0.0.0:8443")
    with option("--listen"):
        addresses = [parse_address(text, what="address") for text in listen or [f"0.0.0.0:{DEFAULT_PORT}"]]
    name = type(kind).__name__.lower()
    with option("--allow"):
        policy = policy_for(config, name, allow)
    return tuple(Service(name, address, kind, policy) for address in addresses)


def _relay(target: str) -> Kind:
    from peerauth.store.kinds import relay

    return relay(target)


def _app(reference: str, directory: Path | None, interface: Interface | None) -> Kind:
    from peerauth.store.kind_app import app

    return app(reference, Path.cwd() / (directory or "."), interface or "auto")

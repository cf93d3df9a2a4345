"""`serve`: offer services to the pinned peers until told to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from peerauth.address import DEFAULT_PORT, Address, parse_address
from peerauth.cli.command import command, option
from peerauth.cli.secret import PassphraseFileOption, load_own
from peerauth.cli.serving import offer
from peerauth.cli.ui import Ui
from peerauth.errors import UsageError

if TYPE_CHECKING:
    from peerauth.store.config import Config, Service
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
    kinds = {"--target": target}
    services = _services(own.config, listen or [], kinds, allow)
    configured = not (listen or allow or any(kinds.values()))
    offer(ui, own, services, workers, choose=(lambda config: (_services(config, [], {}, None), ())) if configured else None)


def _services(
    config: Config, listen: list[str], kinds: dict[str, str | None], allow: list[str] | None
) -> tuple[Service, ...]:
    """The services that the options describe, or those of config.toml. `kinds`: what each option for a kind was given."""
    from peerauth.store.config import Service, policy_for
    from peerauth.store.kinds import Hello

    given = {name: value for name, value in kinds.items() if value is not None}
    if not (listen or allow or given):
        if config.services:
            return config.services
        return (Service("hello", Address("0.0.0.0", DEFAULT_PORT)),)  # noqa: S104 - a server serves
    if len(given) > 1:
        raise UsageError("two-kinds", f"{' and '.join(given)} are different things to be", "a service is one of them")
    kind = _kind(*next(iter(given.items()))) if given else Hello()
    if given and not listen:
        raise UsageError("no-listen", f"{next(iter(given))} needs --listen", "for instance: --listen 0.0.0.0:8443")
    with option("--listen"):
        addresses = [parse_address(text, what="address") for text in listen or [f"0.0.0.0:{DEFAULT_PORT}"]]
    name = type(kind).__name__.lower()
    with option("--allow"):
        policy = policy_for(config, name, allow)
    return tuple(Service(name, address, kind, policy) for address in addresses)


def _kind(name: str, value: str) -> Kind:
    """What this option says that the service is."""
    from peerauth.store import kinds

    makers = {"--target": kinds.relay}
    with option(name):
        return makers[name](value)

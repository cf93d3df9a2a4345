"""`serve`: offer services to the pinned peers until told to stop."""

from __future__ import annotations

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
    from peerauth.store.kinds import Kind, OnUnknown


@command
def serve(
    ui: Ui,
    listen: Annotated[
        list[str] | None, typer.Option("--listen", metavar="ADDRESS", help="HOST:PORT, :PORT or unix:PATH; repeatable.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="ADDRESS",
            help="Relay to HOST:PORT or unix:PATH; repeatable: in turn. Without it: say hello.",
        ),
    ] = None,
    proxy_protocol: Annotated[
        Literal["v2"] | None,
        typer.Option("--proxy-protocol", help="Tell the target who the peer is, before all else.", show_default=False),
    ] = None,
    http: Annotated[
        list[str] | None,
        typer.Option(
            "--http", metavar="URL", help="Pass HTTP on to http://HOST:PORT or unix:PATH, with who is calling; repeatable."
        ),
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", metavar="PEER", help="Only this peer, tag:NAME or @group; repeatable.")
    ] = None,
    on_unknown: Annotated[
        Literal["refuse", "explain"] | None,
        typer.Option("--on-unknown", help="Refuse strangers by TLS, or tell them why, in HTTP."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, max=64, help="Serve with N processes.", show_default=False),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- COMMAND ARG",
            help="Start this, and relay to the Unix socket at which it listens: $PEERAUTH_BACKEND, {backend} in it.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run the services of config.toml, or the one described by the options, for pinned peers only.

    Peers that are added, changed or removed meanwhile count at once; a removed peer's connections end.
    """
    own = load_own(ui, passphrase_file)
    kinds = {"--target": target, "--http": http, "COMMAND": words}
    proxied = proxy_protocol is not None
    offer(ui, own, _services(own.config, listen or [], kinds, allow, on_unknown, proxy_protocol=proxied), workers)


def _services(
    config: Config,
    listen: list[str],
    kinds: dict[str, list[str] | None],
    allow: list[str] | None,
    on_unknown: OnUnknown | None,
    *,
    proxy_protocol: bool = False,
) -> tuple[Service, ...]:
    """The services that the options describe, or those of config.toml. `kinds`: what each option for a kind was given."""
    from peerauth.store.config import Service, policy_for
    from peerauth.store.kinds import Hello, check_on_unknown

    given = {name: value for name, value in kinds.items() if value}
    if proxy_protocol and not given:
        raise UsageError("no-target", "--proxy-protocol needs --target", "for instance: --target 127.0.0.1:5432")
    if not (listen or allow or given or on_unknown):
        if config.services:
            return config.services
        return (Service("hello", Address("0.0.0.0", DEFAULT_PORT)),)  # noqa: S104 - a server serves
    if len(given) > 1:
        raise UsageError("two-kinds", f"{' and '.join(given)} are different things to be", "a service is one of them")
    kind = _kind(*next(iter(given.items())), proxy_protocol=proxy_protocol) if given else Hello()
    if given and not listen:
        raise UsageError("no-listen", f"{next(iter(given))} needs --listen", "for instance: --listen 0.0.0.0:8443")
    with option("--listen"):
        addresses = [parse_address(text, what="address") for text in listen or [f"0.0.0.0:{DEFAULT_PORT}"]]
    name = type(kind).__name__.lower()
    with option("--allow"):
        policy = policy_for(config, name, allow)
    with option("--on-unknown"):
        strangers = check_on_unknown(on_unknown or "refuse", kind)
    return tuple(Service(name, address, kind, policy, strangers) for address in addresses)


def _kind(name: str, value: list[str], *, proxy_protocol: bool) -> Kind:
    """What this option says that the service is."""
    from peerauth.store import kinds

    makers = {"--target": kinds.relay, "--http": kinds.http, "COMMAND": kinds.run}
    with option(name):
        return makers[name](value, proxy_protocol=proxy_protocol)

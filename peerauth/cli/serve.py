"""`serve`: offer services to the pinned peers until told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from peerauth.cli.command import command
from peerauth.cli.described import Described
from peerauth.cli.secret import PassphraseFileOption, load_own
from peerauth.cli.serving import offer
from peerauth.cli.ui import Ui

ListenOption = Annotated[
    list[str] | None, typer.Option("--listen", metavar="ADDRESS", help="HOST:PORT, :PORT or unix:PATH; repeatable.")
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="ADDRESS",
        help="Relay bytes to HOST:PORT or unix:PATH; repeatable: in turn.",
    ),
]
ProxyProtocolOption = Annotated[
    Literal["v2"] | None,
    typer.Option("--proxy-protocol", help="Tell the target who the peer is, before all else.", show_default=False),
]
HttpOption = Annotated[
    list[str] | None,
    typer.Option(
        "--http", metavar="URL", help="Pass HTTP on to http://HOST:PORT or unix:PATH, with who calls; repeatable: in turn."
    ),
]
RootOption = Annotated[
    str | None,
    typer.Option("--root", metavar="DIR", help="Serve the files in DIR over HTTP, to be read only."),
]
AppOption = Annotated[
    str | None,
    typer.Option("--app", metavar="MODULE:ATTRIBUTE", help="Run this ASGI or WSGI application.", show_default=False),
]
AppDirOption = Annotated[
    Path | None,
    typer.Option("--app-dir", metavar="DIR", help="Where the module of --app is; else here.", show_default=False),
]
InterfaceOption = Annotated[
    Literal["asgi", "wsgi"] | None,
    typer.Option("--interface", help="What --app is, where that cannot be seen.", show_default=False),
]
AllowOption = Annotated[
    list[str] | None, typer.Option("--allow", metavar="PEER", help="Only this peer, tag:NAME or @group; repeatable.")
]
OnUnknownOption = Annotated[
    Literal["refuse", "explain"] | None,
    typer.Option("--on-unknown", help="Refuse strangers by TLS, or tell them why, in HTTP."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=1, max=64, help="Serve with N processes.", show_default=False),
]
SpeaksOption = Annotated[
    Literal["http", "tcp"] | None,
    typer.Option("--speaks", help="What COMMAND speaks: HTTP (as without this), or something else.", show_default=False),
]
CommandArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="-- COMMAND ARG...",
        help="Start this, and lead to the Unix socket at which it listens: $PEERAUTH_BACKEND, {backend} in it.",
        show_default=False,
    ),
]


@command
def serve(
    ui: Ui,
    listen: ListenOption = None,
    http: HttpOption = None,
    app: AppOption = None,
    app_dir: AppDirOption = None,
    interface: InterfaceOption = None,
    root: RootOption = None,
    target: TargetOption = None,
    proxy_protocol: ProxyProtocolOption = None,
    speaks: SpeaksOption = None,
    allow: AllowOption = None,
    on_unknown: OnUnknownOption = None,
    workers: WorkersOption = None,
    words: CommandArgument = None,
    passphrase_file: PassphraseFileOption = None,
) -> None:
    """Run the services of config.toml, or the one described by the options, for pinned peers only.

    What it is, one of --http, --app, --root, --target and COMMAND says; without any, it says hello.

    Peers that are added, changed or removed meanwhile count at once; a removed peer's connections end.
    """
    own = load_own(ui, passphrase_file)
    described = Described(
        listen or [],
        target,
        http,
        root,
        app,
        words,
        app_dir=app_dir,
        interface=interface,
        proxy_protocol=proxy_protocol,
        speaks=speaks,
        allow=allow,
        on_unknown=on_unknown,
    )
    choose = None if described.anything else (lambda config: (described.services(config), ()))
    offer(ui, own, described.services(own.config), workers, choose=choose)

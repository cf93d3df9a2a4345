"""`up`: run everything that config.toml describes, or see whether it could be run."""

from __future__ import annotations

from typing import Annotated

import typer

from peerauth.cli.command import command
from peerauth.cli.secret import PassphraseFileOption, load_own
from peerauth.cli.ui import Ui
from peerauth.errors import BadInput, UsageError


@command
def up(
    ui: Ui,
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Say what would run, and everything that is wrong with config.toml.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", min=1, max=64, help="Run in N processes.", show_default=False),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
) -> None:
    """Run every service and every tunnel of config.toml, and follow it when it changes.

    SIGHUP has config.toml read again: what did not change keeps its connections.
    """
    if check:
        from peerauth.cli.up_check import examine

        if workers is not None:
            raise UsageError("usage", "--check and --workers do not go together: with --check, nothing is run")
        examine(ui, passphrase_file)
        return

    from peerauth.cli.serving import offer

    own = load_own(ui, passphrase_file)
    config = own.config
    if not config.services and not config.tunnels:
        hint = '[[serve]]\nlisten = ":8443"\ntarget = "127.0.0.1:5432"'
        raise BadInput("nothing-to-run", "config.toml has no [[serve]] and no [[tunnel]]", f"write, for instance:\n{hint}")
    offer(
        ui,
        own,
        config.services,
        workers,
        tunnels=config.tunnels,
        choose=lambda config: (config.services, config.tunnels),
    )

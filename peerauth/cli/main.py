"""The program `peerauth`: its commands by name, and the way in.

A command's module is imported here, so its top level stays light: typer, `command`, `ui` and `errors`. Whatever is heavy
(cryptography, OpenSSL, uvicorn, rich) is imported inside the command.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

import peerauth
from peerauth.cli.command import (
    INTERRUPTED,
    PIPE_CLOSED,
    Common,
    HomeOption,
    JsonOption,
    QuietOption,
    VerboseOption,
    close_output,
    remember,
    unexpected,
)
from peerauth.cli.connect import connect
from peerauth.cli.demo import demo
from peerauth.cli.get import get
from peerauth.cli.identity import identity
from peerauth.cli.keygen import keygen
from peerauth.cli.peer import list_peers, remove, rename, show
from peerauth.cli.peer_add import add
from peerauth.cli.scan import scan
from peerauth.cli.serve import serve
from peerauth.cli.ui import Ui
from peerauth.errors import PeerAuthError, UsageError

PROGRAM = "peerauth"
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

app = typer.Typer(
    name=PROGRAM,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=_SETTINGS,
)
peer_app = typer.Typer(rich_markup_mode=None, context_settings=_SETTINGS)


def _version(wanted: bool) -> None:
    if wanted:
        Ui().data(f"{PROGRAM} {peerauth.__version__}")
        raise typer.Exit


@app.callback(no_args_is_help=True)
def _root(
    context: typer.Context,
    home: HomeOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    _show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Mutual TLS between machines that pin each other's certificate: authorized_keys for TLS.

    Start with `peerauth keygen`, or see it work with `peerauth demo`.
    """
    remember(context, Common(home, json, quiet, verbose))


@peer_app.callback(no_args_is_help=True)
def _peer(
    context: typer.Context,
    home: HomeOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Say who is trusted: add, remove, list, show, rename, scan."""
    remember(context, Common(home, json, quiet, verbose))


for _name, _function in (("keygen", keygen), ("id", identity)):
    app.command(_name)(_function)
app.add_typer(peer_app, name="peer")
for _name, _function in (("serve", serve), ("connect", connect), ("get", get), ("demo", demo)):
    app.command(_name)(_function)
for _name, _function in (
    ("add", add),
    ("remove", remove),
    ("list", list_peers),
    ("show", show),
    ("rename", rename),
    ("scan", scan),
):
    peer_app.command(_name)(_function)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what a library dislikes about a stranger's certificate is not a person's matter
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale may lack what a note is written in
    ui = Ui(json="--json" in words)
    try:
        code = typer.main.get_command(app).main(words, prog_name=PROGRAM, standalone_mode=False)
    except typer.TyperException as error:
        return _misused(ui, error)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        close_output()
        return PIPE_CLOSED
    except Exception as error:  # noqa: BLE001 - no traceback reaches a person
        ui.error(unexpected(error))
        return PeerAuthError.exit_code
    return code if isinstance(code, int) else 0


def _misused(ui: Ui, error: typer.TyperException) -> int:
    """Say what typer has against the command line, in our own voice."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    if type(error).__name__ == "NoArgsIsHelpError":  # typer has no public name for it
        ui.say(context.get_help() if context is not None else "")
        return UsageError.exit_code
    text = error.format_message().rstrip(".")
    ui.error(UsageError("usage", text[:1].lower() + text[1:], f"{path} --help"))
    return UsageError.exit_code

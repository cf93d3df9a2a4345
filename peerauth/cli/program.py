"""How a command is run: its module is imported when it is typed, so that no command waits for the others."""

from __future__ import annotations

import re
from functools import cache, cached_property
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

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
from peerauth.cli.commands import COMMANDS, PEER_COMMANDS, PROGRAM
from peerauth.cli.plain import QuickCommand, QuickGroup
from peerauth.cli.ui import Ui
from peerauth.errors import PeerAuthError, UsageError


class LaterCommand(TyperCommand):
    """A command that is not imported yet: its name and the first sentence of its help, until it is typed."""

    def __init__(self, name: str, place: str, summary: str) -> None:
        super().__init__(name, help=summary)
        self._place = place

    @cached_property
    def loaded(self) -> TyperCommand:
        """The command itself."""
        module, _, function = self._place.partition(":")
        app = _typer()
        app.command(self.name, cls=QuickCommand)(getattr(import_module(f"peerauth.cli.{module}"), function))
        command = typer.main.get_command(app)
        assert isinstance(command, TyperCommand)
        return command

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:  # noqa: ANN401 - as in typer
        """Parse the words after the command's name; what is to be run is the command itself from here on."""
        return self.loaded.make_context(info_name, args, parent, **extra)


def _typer(name: str | None = None, settings: dict[str, Any] | None = None) -> typer.Typer:
    return typer.Typer(
        name=name,
        cls=QuickGroup,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=settings,
    )


_WRONG = re.compile(r"^No such (?:command|option):? ('?[\w-]+'?)")
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_app = _typer(PROGRAM, _SETTINGS)
_peer_app = _typer("peer", _SETTINGS)


def _version(wanted: bool) -> None:
    if wanted:
        Ui().data(f"{PROGRAM} {peerauth.__version__}")
        raise typer.Exit


@_app.callback(no_args_is_help=True)
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


@_peer_app.callback(no_args_is_help=True)
def _peer(
    context: typer.Context,
    home: HomeOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Say who is trusted: add, remove, list, show, rename, pending, approve, deny, scan."""
    remember(context, Common(home, json, quiet, verbose))


@cache
def program() -> TyperGroup:
    """The program as typer runs it, made once in a process; its commands are `LaterCommand`s."""
    root = _group(_app, COMMANDS)
    root.add_command(_group(_peer_app, PEER_COMMANDS))
    return root


def _group(app: typer.Typer, commands: dict[str, tuple[str, str]]) -> TyperGroup:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for name, (place, summary) in commands.items():
        group.add_command(LaterCommand(name, place, summary))
    return group


def run(words: list[str]) -> int:
    """Run one command and return its exit code; typer's complaints are said in our own voice."""
    ui = Ui(json="--json" in words)
    try:
        code = program().main(words, prog_name=PROGRAM, standalone_mode=False)
    except typer.TyperException as error:
        return _misused(ui, error, words)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        close_output()
        return PIPE_CLOSED
    except Exception as error:  # noqa: BLE001 - no traceback reaches a person
        ui.error(unexpected(error))
        return PeerAuthError.exit_code
    return code if isinstance(code, int) else 0


def _misused(ui: Ui, error: typer.TyperException, words: list[str]) -> int:
    """Say what typer has against the command line, in our own voice, or in that of a monitoring plugin."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    if type(error).__name__ == "NoArgsIsHelpError":  # typer has no public name for it
        ui.say(context.get_help() if context is not None else "")
        return UsageError.exit_code
    text, hint = error.format_message().rstrip(".").replace(": Value error, ", ": "), f"{path} --help"
    if found := _WRONG.search(text):
        from peerauth.cli.meant import meant

        known = meant(path, found[1].strip("'"), words)
        text, hint = (found[0], known) if known else (text, hint)
    misuse = UsageError("usage", text[:1].lower() + text[1:], hint)
    if "--nagios" in words:
        from peerauth.cli.nagios import unknown

        return unknown(ui, misuse)
    ui.error(misuse)
    return UsageError.exit_code

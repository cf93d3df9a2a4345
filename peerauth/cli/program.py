"""The commands by name, and how one of them is run.

The tables name a command's module and function and the first sentence of its help. The module is imported when the command
is typed, so that no command waits for the others.
"""

from __future__ import annotations

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
from peerauth.cli.plain import QuickCommand, QuickGroup
from peerauth.cli.typed import PROGRAM
from peerauth.cli.ui import Ui
from peerauth.errors import PeerAuthError, UsageError

COMMANDS = {
    "keygen": ("keygen:keygen", "Make this node's private key and certificate, config.toml and peers/."),
    "id": ("identity:identity", "Show this node's name, fingerprint and validity."),
    "serve": ("serve:serve", "Run the services of config.toml, or the one described by the options, for pinned peers only."),
    "up": ("up:up", "Run every service and every tunnel of config.toml, and follow it when it changes."),
    "status": (
        "status:status",
        "Show how this node stands: its certificate, its peers, its services, and the server that runs here.",
    ),
    "connect": ("connect:connect", "Reach a peer: standard input goes there, what it answers comes to standard output."),
    "get": ("get:get", "Ask a peer for something over HTTPS."),
    "check": ("check:check", "See whether a peer and this node admit each other, and if not, why, and what to type."),
    "pair": ("pair:pair", "Pair with another node by a short code: both pin each other."),
    "why": ("why:why", "Show the last refusals: who came, why it was refused, and what to type."),
    "invite": ("invite:invite", "Make an invitation: a token by which a new node joins in one step, with `peerauth join`."),
    "join": ("join:join", "Join the node that made this invitation: it pins this node, and this node pins it."),
    "rotate": ("rotate:rotate", "Replace this node's key and certificate without losing a connection or a peer."),
    "demo": (
        "demo:demo",
        "Watch it work: two nodes pin each other, a stranger is refused, a removed peer's connection ends.",
    ),
}
PEER_COMMANDS = {
    "add": ("peer_add:add", "Admit peers: pin the certificates in these files."),
    "remove": ("peer:remove", "Take peers out of the list; a running server ends their connections."),
    "list": ("peer:list_peers", "List the peers that this node admits."),
    "show": ("peer:show", "Show everything that is known about a peer."),
    "rename": ("peer:rename", "Give a peer another name."),
    "pending": ("pending:pending", "List the strangers who tried to come in."),
    "approve": ("pending:approve", "Admit a stranger who tried to come in: pin the certificate that it showed."),
    "deny": ("pending:deny", "Do not list a stranger as pending again, although it may go on trying."),
    "scan": ("scan:scan", "Show the certificate that a server presents."),
}


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
        return _misused(ui, error, nagios="--nagios" in words)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        close_output()
        return PIPE_CLOSED
    except Exception as error:  # noqa: BLE001 - no traceback reaches a person
        ui.error(unexpected(error))
        return PeerAuthError.exit_code
    return code if isinstance(code, int) else 0


def _misused(ui: Ui, error: typer.TyperException, *, nagios: bool) -> int:
    """Say what typer has against the command line, in our own voice, or in that of a monitoring plugin."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    if type(error).__name__ == "NoArgsIsHelpError":  # typer has no public name for it
        ui.say(context.get_help() if context is not None else "")
        return UsageError.exit_code
    text = error.format_message().rstrip(".").replace(": Value error, ", ": ")
    misuse = UsageError("usage", text[:1].lower() + text[1:], f"{path} --help")
    if nagios:
        from peerauth.cli.nagios import unknown

        return unknown(ui, misuse)
    ui.error(misuse)
    return UsageError.exit_code

"""What every command has in common: its options, and what becomes of its errors.

`@command` takes a function whose first parameter is `ui: Ui` and makes of it what typer can register. The common options
may stand before the command's name as well as after it; the later wins. No traceback reaches a person, except with -vv.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, NoReturn, ParamSpec

import typer

from peerauth.cli.typed import HOME_VARIABLE, call
from peerauth.cli.ui import Ui
from peerauth.errors import BadInput, PeerAuthError, UsageError, printable

P = ParamSpec("P")
INTERRUPTED, PIPE_CLOSED = 130, 141  # 128 + SIGINT, 128 + SIGPIPE, as the shell has it

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        readable=False,
        help=f"The node's home (else ${HOME_VARIABLE}, else this directory).",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value for programs to read.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but data, warnings and errors.")]
VerboseOption = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Say more; twice for tracebacks.", show_default=False)
]


@dataclass(frozen=True, slots=True)
class Common:
    """The common options as they were given so far, from the left."""

    home: Path | None = None
    json: bool = False
    quiet: bool = False
    verbose: int = 0

    def then(self, later: Common) -> Common:
        """These options, with those that were given further to the right."""
        return Common(
            self.home if later.home is None else later.home,
            self.json or later.json,
            self.quiet or later.quiet,
            self.verbose + later.verbose,
        )

    def ui(self) -> Ui:
        """The Ui that these options ask for."""
        home = Path(os.path.abspath(self.home or os.environ.get(HOME_VARIABLE) or "."))  # noqa: PTH100 - resolves no links
        return Ui(home, self.json, self.quiet, self.verbose, call(home))


_COMMON = (
    ("home", HomeOption, None),
    ("json", JsonOption, False),
    ("quiet", QuietOption, False),
    ("verbose", VerboseOption, 0),
)
_CONTEXT = "context_"


def command(function: Callable[Concatenate[Ui, P], None]) -> Callable[..., None]:
    """Give a command the common options and a Ui, and its errors a voice and an exit code.

    A parameter that is a dataclass stands for its fields: options that several commands have.
    """
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    together = {one.name: one.annotation for one in own if isinstance(one.annotation, type) and is_dataclass(one.annotation)}
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, annotation, default in _COMMON
    ]
    context = inspect.Parameter(_CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    own = [
        option.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in own
        for option in (_fields(together[parameter.name]) if parameter.name in together else [parameter])
    ]

    @functools.wraps(function)
    def wrapper(**values: Any) -> None:  # noqa: ANN401 - as the signature below says
        before = values.pop(_CONTEXT).obj or Common()
        given = before.then(Common(**{name: values.pop(name) for name, _, _ in _COMMON}))
        ui = given.ui()
        for name, options in together.items():
            values[name] = options(**{option.name: values.pop(option.name) for option in _fields(options)})
        with speaking(ui):
            function(ui, **values)  # type: ignore[call-arg]  # typer gives what the signature says

    del wrapper.__wrapped__  # typer must see the signature below
    parameters = [*own, *common, context]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _fields(options: type) -> list[inspect.Parameter]:
    return list(inspect.signature(options, eval_str=True).parameters.values())


def remember(context: typer.Context, given: Common) -> None:
    """Keep the common options that stood before a command's name."""
    context.obj = (context.obj or Common()).then(given)


@contextlib.contextmanager
def speaking(ui: Ui) -> Iterator[None]:
    """Turn what goes wrong in the block into words and an exit code. Raises typer.Exit."""
    try:
        yield
    except PeerAuthError as error:
        _trace(ui)
        _leave(ui, error)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        close_output()
        raise typer.Exit(PIPE_CLOSED) from None
    except (typer.Exit, typer.TyperException):
        raise
    except OSError as error:
        _trace(ui)
        _leave(ui, PeerAuthError("system", _system_text(error)))
    except Exception as error:  # noqa: BLE001 - no traceback reaches a person
        _trace(ui)
        _leave(ui, unexpected(error))


def _system_text(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return f"{reason}: {printable(os.fsdecode(error.filename))}" if isinstance(error.filename, str | bytes) else reason


def unexpected(error: Exception) -> PeerAuthError:
    """The error for what should not have happened."""
    return PeerAuthError(
        "unexpected",
        f"unexpected: {type(error).__name__}: {printable(str(error))}",
        "this is a defect of peerauth; please report it with what the same command prints with -vv",
    )


def close_output() -> None:
    """Nobody reads any more: close the streams, so that Python does not complain at its end."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
            continue
        with contextlib.suppress(OSError):
            stream.close()


@contextlib.contextmanager
def option(name: str, *codes: str) -> Iterator[None]:
    """Turn BadInput about the value of an option or argument into a usage error (exit code 2) that names it.

    With `codes`, only these are about the value; others are about what is or is not there.
    """
    try:
        yield
    except BadInput as error:
        if codes and error.code not in codes:
            raise
        raise UsageError(error.code, f"{name}: {error.message}", error.hint) from error


def _leave(ui: Ui, error: PeerAuthError) -> NoReturn:
    with contextlib.suppress(OSError):  # nobody reads, or the disk is full: the exit code still says it
        ui.error(error)
    close_output()
    raise typer.Exit(error.exit_code) from None


def _trace(ui: Ui) -> None:
    if ui.verbose > 1:
        traceback.print_exc(file=sys.stderr)

"""Words of the command line that need no checking, taken as they are.

typer hands each value to pydantic, those that were not given included, and importing pydantic takes longer than most
commands run. What is plainly right means the same without it: an option that was not given, a printable word where a text
or a path is asked for, one of the choices, a small number within its bounds. All else goes typer's way. A test holds the
two ways against each other (tests/cli/test_plain.py). What is no number that an option takes is said in our own words,
with those that it takes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.models import ParameterInfo

from peerauth.errors import printable

UNSURE: Final = object()
_NUMBERS: Final = {int: "whole number", float: "number"}
_DIGITS = 9


class QuickCommand(TyperCommand):
    """A command that takes plain values as they are."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer has no public name for it
        """Parse the words that stand after the command's name."""
        _take_plain_values(self.get_params(ctx))
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            if getattr(error, "ctx", ctx) is None:  # an option without its value: whose, the parser does not say
                error.ctx = ctx  # type: ignore[attr-defined]
            raise

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401 - typer has no public name for it
        """What stands behind the command's name in the first line of its help, in brackets where it may be left out."""
        pieces = ["[OPTIONS]"]
        for argument in self.get_params(ctx):
            if isinstance(argument, TyperArgument):
                name = argument.display_name_raw
                pieces.append(name if argument.required or name.startswith("[") else f"[{name}]")
        return pieces

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - the same
        """Write the arguments, by their names alone, and the options."""
        for argument in self.get_params(ctx):
            if isinstance(argument, TyperArgument):
                argument.display_type_rich = lambda **_: None  # type: ignore[method-assign]
        super().format_options(ctx, formatter)


class QuickGroup(TyperGroup):
    """A group whose own options are taken as they are where they are plain."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer has no public name for it
        """Parse the words that stand after the group's name."""
        _take_plain_values(self.get_params(ctx))
        return super().parse_args(ctx, args)


def _take_plain_values(parameters: Iterable[object]) -> None:
    for parameter in parameters:
        if isinstance(parameter, TyperArgument | TyperOption) and "process_value" not in vars(parameter):
            _take_plain(parameter)


def _take_plain(parameter: TyperArgument | TyperOption) -> None:
    by_typer = parameter.process_value

    def process_value(context: Any, value: Any) -> Any:  # noqa: ANN401 - whatever a command has for a parameter
        taken = plain_value(parameter, value)
        if taken is UNSURE:
            with _in_our_words(parameter, value):
                return by_typer(context, value)
        return taken if parameter.callback is None else parameter.callback(context, parameter, taken)

    parameter.process_value = process_value  # type: ignore[method-assign, assignment]


@contextlib.contextmanager
def _in_our_words(parameter: TyperArgument | TyperOption, value: object) -> Iterator[None]:
    """Say which numbers a parameter takes, where it is about one and the block finds that `value` is none of them."""
    try:
        yield
    except typer.BadParameter as error:
        asked, info = parameter.type_descriptor.annotation, parameter.type_descriptor.parameter_info
        if asked in _NUMBERS and isinstance(value, str):
            error.message = f"'{printable(value, 40)}' is no {_NUMBERS[asked]} {_range(info)}"
        raise


def _range(info: ParameterInfo) -> str:
    return f"from {info.min} on" if info.max is None else f"between {info.min} and {info.max}"


def plain_value(parameter: TyperArgument | TyperOption, value: object) -> object:
    """What a command gets for this value of the parameter, or UNSURE."""
    asked, info = parameter.type_descriptor.annotation, parameter.type_descriptor.parameter_info
    many = parameter.multiple or parameter.nargs == -1
    if info.parser is not None or parameter.nargs not in {1, -1}:
        return UNSURE
    if value is None:
        return UNSURE if parameter.required else () if many else None
    if not many:
        return _one(asked, info, value)
    kind: object = get_origin(asked)
    if not isinstance(value, tuple | list) or not value or kind is not list:
        return UNSURE
    taken = [_one(get_args(asked)[0], info, item) for item in value]
    return UNSURE if any(item is UNSURE for item in taken) else taken


def _one(asked: object, info: ParameterInfo, value: object) -> object:
    if isinstance(value, bool):
        return value if asked is bool else UNSURE
    if isinstance(value, int):
        return _within(value, info) if asked is int else UNSURE
    if not isinstance(value, str) or not value or not value.isprintable():
        return UNSURE  # what is not printable may not be encodable either, or holds a NUL
    if asked is str or (get_origin(asked) is Literal and value in get_args(asked)):
        return value
    if asked is Path and _any_path(info):
        return Path(value)
    if asked is int and value.isascii() and value.isdigit() and len(value) <= _DIGITS:
        return _within(int(value), info)
    return UNSURE


def _within(number: int, info: ParameterInfo) -> object:
    least, most = info.min, info.max
    fits = (least is None or least <= number) and (most is None or number <= most)
    return number if fits else UNSURE


def _any_path(info: ParameterInfo) -> bool:
    """Whether the file itself plays no part: typer would look at it otherwise."""
    looked_at = info.exists or info.readable or info.writable or info.resolve_path
    return info.file_okay and info.dir_okay and not looked_at and info.path_type is None

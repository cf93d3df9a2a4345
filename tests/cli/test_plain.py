"""Plain words are taken without pydantic, and mean what pydantic would have made of them."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.core import TyperArgument, TyperCommand, TyperOption

from peerauth.cli.plain import UNSURE, plain_value
from peerauth.cli.program import LaterCommand, program

Parameter = TyperArgument | TyperOption
ODD = [
    "", " ", "-", ".", "0", "1", "007", "-1", "+1", "1_0", "1e3", "4096", "36501", "999999999", "1000000001", "٣", "²",
    " 5", "5\n", "a\0b", "\udcff", "\u202e", "é", "p256", "P256", "cert", "key", "x" * 5000, "~", "a//b/", "true", "None",
]  # fmt: skip


def _parameters() -> list[Any]:
    """Every parameter of every command, the groups' own and --help included."""
    root = program()
    groups = [root, root.commands["peer"]]
    laters = [command for group in groups for command in getattr(group, "commands", {}).values()]
    commands = [*groups, *(command.loaded for command in laters if isinstance(command, LaterCommand))]
    return [
        pytest.param(command, parameter, id=f"{command.name}-{parameter.name}")
        for command in commands
        for parameter in command.get_params(_context(command))
    ]


def _context(command: Any) -> Any:  # noqa: ANN401 - typer has no public name for them
    return typer.Context(command, help_option_names=["-h", "--help"])


def _by_typer(command: TyperCommand, parameter: Parameter, value: object) -> object:
    """What the command gets for this value when typer alone takes it; its refusal as UNSURE."""
    silent = functools.partial(type(parameter).process_value, parameter)
    callback, parameter.callback = parameter.callback, None
    try:
        return silent(_context(command), value)
    except typer.TyperException:
        return UNSURE
    finally:
        parameter.callback = callback


def _same(command: TyperCommand, parameter: Parameter, value: object) -> bool:
    """Hold the two ways against each other; whether the value was taken as it is."""
    taken = plain_value(parameter, value)
    if taken is UNSURE:
        return False
    expected = _by_typer(command, parameter, value)
    assert (type(taken), taken) == (type(expected), expected)
    return True


@pytest.mark.parametrize("number", ["-1", "1e400", "nan", "x", "", "1\n2"])
@pytest.mark.parametrize(
    ("command", "parameter"),
    [
        known
        for known in _parameters()
        if known.values[1].type_descriptor.annotation in {int, float} and "-v" not in known.values[1].opts
    ],
)
def test_what_is_no_number_that_is_taken_is_said_with_those_that_are(
    command: TyperCommand, parameter: Parameter, number: str
) -> None:
    command.make_context("it", [], resilient_parsing=True)  # as when it is typed
    with pytest.raises(typer.BadParameter) as error:
        parameter.process_value(_context(command), number)

    info = parameter.type_descriptor.parameter_info
    assert str(info.min) in error.value.message
    assert info.max is None or str(info.max) in error.value.message
    assert "Input" not in error.value.message
    assert "\n" not in error.value.message


@pytest.mark.parametrize(("command", "parameter"), _parameters())
def test_odd_words_mean_the_same_or_are_left_to_typer(command: TyperCommand, parameter: Parameter) -> None:
    values: list[Any] = [None, True, False, 0, 1, -1, 10**6 + 1, *ODD]
    for value in values:
        _same(command, parameter, value)
        _same(command, parameter, (value,))
        _same(command, parameter, ("plain", value))


@given(value=st.none() | st.booleans() | st.integers() | st.text() | st.tuples(st.text()) | st.lists(st.text(), max_size=3))
@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("keygen", "kind"),
        ("keygen", "days"),
        ("keygen", "san"),
        ("keygen", "passphrase_file"),
        ("keygen", "name"),
        ("get", "url"),
    ],
)
def test_any_word_means_the_same_or_is_left_to_typer(name: str, of: str, value: object) -> None:
    command, parameter = _parameter(name, of)
    _same(command, parameter, value)


@functools.cache
def _parameter(name: str, of: str) -> tuple[TyperCommand, Parameter]:
    later = program().commands[name]
    assert isinstance(later, LaterCommand)
    (parameter,) = [parameter for parameter in later.loaded.params if parameter.name == of]
    assert isinstance(parameter, TyperArgument | TyperOption)
    return later.loaded, parameter


@pytest.mark.parametrize(
    ("name", "of", "value"),
    [
        ("keygen", "name", None),
        ("keygen", "name", "db-1"),
        ("keygen", "days", "30"),
        ("keygen", "days", 365),
        ("keygen", "kind", "p256"),
        ("keygen", "san", ("a", "ž")),
        ("keygen", "san", None),
        ("keygen", "force", False),
        ("keygen", "home", "some/where"),
        ("keygen", "verbose", 2),
    ],
)
def test_plain_words_are_taken_as_they_are(name: str, of: str, value: object) -> None:
    assert _same(*_parameter(name, of), value)


@pytest.mark.parametrize(
    ("name", "of", "value"),
    [
        ("keygen", "name", "a\0b"),
        ("keygen", "days", "0"),
        ("keygen", "days", "36501"),
        ("keygen", "days", "1_0"),
        ("keygen", "kind", "P256"),
        ("keygen", "san", ("a", "\udcff")),
        ("get", "url", None),
    ],
)
def test_what_may_be_wrong_is_left_to_typer(name: str, of: str, value: object) -> None:
    assert plain_value(_parameter(name, of)[1], value) is UNSURE

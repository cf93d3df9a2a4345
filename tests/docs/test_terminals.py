"""Typing and comparing can fail: each page that is true has a twin that differs in one fact and is found out."""

from __future__ import annotations

import pytest

from tests.docs.pages import Block
from tests.docs.terminals import Terminals, pattern, plain, steps

FINGERPRINT = ":".join(["AB"] * 32)


@pytest.mark.parametrize(
    ("shown", "twin"),
    [
        ("$ echo one\none\n", "$ echo one\ntwo\n"),
        ("$ echo one two\none …\n", "$ echo one two\ntwo …\n"),
        ("$ printf 'a\\nb\\n'\na\nb\n", "$ printf 'a\\nb\\n'\na\n"),
        ("$ printf 'a\\nb\\n'\n…\nb\n", "$ printf 'a\\nb\\n'\n…\na\n"),
        ("$ true\n", "$ false\n"),
        ("$ echo said >&2\n", "$ echo said\n"),
        ("$ echo said >&2\nsaid\n", "$ echo said >&2\nunsaid\n"),
        ("$ echo error: no >&2; false\nerror: no\n", "$ echo error: no >&2\nerror: no\n"),
        (f"$ echo {FINGERPRINT}\nAB:CD:EF:12:…\n", "$ echo AB:CD\nAB:CD:EF:12:…\n"),
        ("$ mkdir d && cd d\n$ touch x\n$ ls\nx\n", "$ mkdir d\n$ touch x\n$ ls\nd\n"),
    ],
)
def test_a_page_that_is_not_true_is_found_out(terminals: Terminals, shown: str, twin: str) -> None:
    terminals.type(Block("console", shown, "a"))
    with pytest.raises(AssertionError, match=r"--- shown:"):
        terminals.type(Block("console", twin, "b"))


def test_the_exit_code_of_a_command_is_there_for_the_next(terminals: Terminals) -> None:
    terminals.type(Block("console", "$ echo error: no >&2; (exit 3)\nerror: no\n$ echo $?\n3\n", "a"))


def test_a_command_may_go_on_in_a_second_line() -> None:
    assert steps(Block("console", "$ one \\\n  two\nthree\n", "a"))[0].command == "one \\\n  two"


def test_a_fingerprint_is_compared_by_its_shape_and_other_text_is_not() -> None:
    assert pattern(["alice AB:CD:EF:12:…"]).fullmatch(plain(f"alice {FINGERPRINT}\n"))
    assert not pattern(["alice AB:CD:EF:12:…"]).fullmatch(plain(f"bob {FINGERPRINT}\n"))
    assert not pattern(["alice AB:CD:EF:12:…"]).fullmatch("alice AB:CD\n")

"""A command in a message can be pasted: it means the node that the message is about, wherever that lives."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from peerauth.cli.typed import call, typed
from tests.cli.making import make, pem
from tests.cli.running import Result, peerauth, process

CALLED = "peerauth --home '/a b'"


@pytest.fixture
def odd(made_home: Path, tmp_path: Path) -> Path:
    """The home of a node that no shell takes for one word."""
    return shutil.copytree(made_home, tmp_path / "of 'a'; not b")


def hint(result: Result) -> str:
    """What the message proposes, from the program's name on."""
    text = result.err.partition("hint: ")[2]
    return text[text.index("peerauth ") :].splitlines()[0]


def test_a_pasted_hint_means_the_home_that_it_was_said_of(odd: Path, tmp_path: Path) -> None:
    (odd / "node.crt").unlink()
    (odd / "node.key").unlink()
    failed = process("id", "--home", odd)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    program, *words = shlex.split(hint(failed))
    done = process(*words, "--type", "p256", cwd=elsewhere)

    assert program == "peerauth"
    assert (failed.code, done.code) == (1, 0), done.err
    assert (odd / "node.crt").exists()
    assert list(elsewhere.iterdir()) == []


def test_where_the_home_is_found_anyhow_the_hint_is_short(odd: Path) -> None:
    (odd / "node.crt").unlink()

    assert hint(process("id", cwd=odd)) == "peerauth keygen --force"
    assert hint(process("id", "--home", ".", cwd=odd)) == "peerauth keygen --force"


def test_a_variable_may_be_gone_when_the_hint_is_pasted(odd: Path) -> None:
    (odd / "node.crt").unlink()
    said = [process("id", env={"PEERAUTH_HOME": str(odd)}), process("id", cwd=odd, env={"PEERAUTH_HOME": "."})]
    long = f"peerauth --home {shlex.quote(str(odd))} keygen --force"

    assert [hint(result) for result in said] == [long, long]


def test_a_relative_home_is_named_from_the_root_on(odd: Path) -> None:
    (odd / "node.crt").unlink()

    assert hint(process("id", "--home", odd.name, cwd=odd.parent)).startswith(f"peerauth --home {shlex.quote(str(odd))} ")


def test_hints_in_json_warnings_and_what_is_only_said_have_it_too(odd: Path) -> None:
    here = f"peerauth --home {shlex.quote(str(odd))} "

    said = peerauth("--home", odd, "peer", "list").err
    wrong = peerauth("--home", odd, "peer", "show", "nobody", "--json").json["error"]["hint"]
    (odd / "config.toml").write_text('[node]\nname = "node"\n[[serve]]\nlisten = ":0"\nallow = ["alice"]\n')
    warned = peerauth("--home", odd, "up", "--check").err
    mistakes = peerauth("--home", odd, "up", "--check", "--json").json

    assert f"nobody is pinned yet: {here}peer add FILE" in said
    assert f"{here}peer list" in wrong
    assert f"hint: {here}peer add FILE --name alice" in warned
    assert f"{here}peer add FILE --name alice" in [found["hint"] for found in mistakes["warnings"]]


def test_what_is_for_another_machine_has_our_home_nowhere(odd: Path, tmp_path: Path) -> None:
    file = tmp_path / "bob.crt"
    file.write_bytes(pem(make("bob")))
    made = peerauth("--home", tmp_path / "new", "keygen", "alice", "--type", "p256")
    added = peerauth("--home", odd, "peer", "add", file)
    invited = peerauth("--home", odd, "invite", "--address", "db.example:1")

    assert "\n  peerauth peer add alice.crt --expect " in made.err
    assert "says: peerauth id --fingerprint\n" in added.err
    assert ": peerauth join TOKEN\n" in invited.err
    assert f"to take it back: peerauth --home {shlex.quote(str(odd))} invite --revoke " in invited.err


def test_status_and_monitoring_say_it(odd: Path) -> None:
    here = f"peerauth --home {shlex.quote(str(odd))} "
    assert peerauth("--home", odd, "invite", "--address", "db.example:1").code == 0
    status = peerauth("--home", odd, "status").out
    (odd / "node.crt").unlink()
    nagios = peerauth("--home", odd, "check", "127.0.0.1:1", "--nagios").out

    assert f"to see them: {here}invite --list" in status
    assert f"{here}keygen --force" in nagios


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("to see them: peerauth peer list", "to see them: CALLED peer list"),
        ("type: peerauth keygen   (or another, with --home)", "type: CALLED keygen   (or another, with --home)"),
        ("here: peerauth rotate; there: peerauth peer list", "here: CALLED rotate; there: peerauth peer list"),
        ("on its machine: peerauth rotate; peerauth id", "on its machine: peerauth rotate; CALLED id"),
        ("ask its owner: peerauth id", "ask its owner: peerauth id"),
        ("ask its owner for `peerauth id`, then: peerauth why", "ask its owner for `peerauth id`, then: CALLED why"),
        ("there are none: peerauth invite", "there are none: CALLED invite"),
        ("peerauth serve --help", "peerauth serve --help"),
        ("peerauth keygen a --home DIR", "peerauth keygen a --home DIR"),
        ("if it is peerauth: say so to peerauth people", "if it is peerauth: say so to peerauth people"),
        (f"{CALLED} peer list", f"{CALLED} peer list"),
    ],
)  # fmt: skip
def test_whose_a_command_is(text: str, expected: str) -> None:
    assert typed(text, CALLED) == expected.replace("CALLED", CALLED)
    assert typed(text, "peerauth") == text


def test_how_the_program_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PEERAUTH_HOME", raising=False)

    assert call(tmp_path) == "peerauth"
    assert call(tmp_path / "a b") == f"peerauth --home '{tmp_path}/a b'"

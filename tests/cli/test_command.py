"""What all commands share: where options may stand, what goes to which stream, exit codes, and how failures are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from peerauth import __version__
from peerauth.cli.command import command, speaking
from peerauth.cli.ui import Ui
from peerauth.errors import BadInput, ConnectFailed, PeerAuthError, TrustRefused, UsageError
from tests.cli.conftest import Run
from tests.cli.making import make, pem, write
from tests.cli.running import CHECKOUT, Terminal, environment, peerauth, process

EVERY_COMMAND = [
    ["keygen"], ["id"], ["serve"], ["connect"], ["get"], ["demo"],
    *(["peer", word] for word in ("add", "remove", "list", "show", "rename", "scan")),
]  # fmt: skip


@pytest.mark.parametrize("words", EVERY_COMMAND, ids=" ".join)
def test_every_command_has_help_and_the_common_options(words: list[str]) -> None:
    result = peerauth(*words, "--help")

    assert result.code == 0
    for name in ("--home", "--json", "--quiet", "--verbose"):
        assert name in result.out
    assert peerauth(*words, "-h").out == result.out


def test_version() -> None:
    assert peerauth("--version").out == f"peerauth {__version__}\n"
    assert peerauth("--quiet", "--version") == peerauth("--version")  # the quick way to say it, and typer's


@pytest.mark.parametrize("words", [[], ["peer"]])
def test_without_a_command_the_help_is_shown_as_an_error(words: list[str]) -> None:
    result = peerauth(*words)

    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Usage: peerauth")


def test_the_home_is_the_option_then_the_environment_then_here(home: Path, tmp_path: Path) -> None:
    elsewhere = {"PEERAUTH_HOME": str(tmp_path)}
    here = {"PEERAUTH_HOME": str(home)}

    assert process("id", cwd=home).code == 0
    assert process("id", cwd=tmp_path).code == 1
    assert process("id", cwd=tmp_path, env=here).code == 0
    assert process("id", cwd=home, env=elsewhere).code == 1
    assert process("id", "--home", home, cwd=home, env=elsewhere).code == 0
    assert process("id", cwd=home, env={"PEERAUTH_HOME": ""}).code == 0


@pytest.mark.parametrize("group", [[], ["peer"]])
def test_common_options_stand_anywhere_and_the_later_wins(home: Path, tmp_path: Path, group: list[str]) -> None:
    words = ["peer", "list"] if group else ["id"]
    rest = words[len(group) :]

    assert peerauth("--json", "--home", home, *words).json is not None
    assert peerauth(*group, "--home", home, "--json", *rest).json is not None
    assert peerauth("--home", tmp_path, *words, "--home", home).code == 0
    assert peerauth("--home", home, *words, "--home", tmp_path).code == 1
    assert peerauth("--home", tmp_path, *group, "--home", home, *rest).code == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PeerAuthError("broken", "it broke", "mend it"), 1),
        (BadInput("bad", "it is bad"), 1),
        (UsageError("usage", "not so"), 2),
        (TrustRefused("unknown", "not admitted"), 3),
        (ConnectFailed("refused", "nobody there"), 4),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_errors_have_a_voice_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], error: PeerAuthError, code: int, *, as_json: bool
) -> None:
    with pytest.raises(typer.Exit) as leaving, speaking(Ui(json=as_json, quiet=True)):
        raise error

    out, err = capsys.readouterr()
    assert leaving.value.exit_code == code
    assert err == f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else "")
    told = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
    assert (json.loads(out) if as_json else out) == (told if as_json else "")


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_what_should_not_happen_is_one_line_and_a_traceback_only_with_vv(
    capsys: pytest.CaptureFixture[str], verbose: int
) -> None:
    with pytest.raises(typer.Exit) as leaving, speaking(Ui(verbose=verbose)):
        raise ZeroDivisionError("by \x1b zero")

    _, err = capsys.readouterr()
    assert leaving.value.exit_code == 1
    assert "error: unexpected: ZeroDivisionError: by \\x1b zero\nhint: " in err
    assert ("Traceback" in err) == (verbose == 2)


def test_a_system_error_is_told_by_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), speaking(Ui()):
        raise OSError(28, "No space left on device", "/x\n")
    assert capsys.readouterr().err == "error: No space left on device: /x\\n\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["kegyen"], "keygen"),
        (["peer", "lst"], "list"),
        (["id", "--fingerpint"], "--fingerprint"),
        (["peer", "show"], "NAME"),
        (["keygen", "--days"], "--days"),
    ],
)
def test_a_slip_on_the_command_line_says_what_was_meant(run: Run, words: list[str], said: str) -> None:
    result = run(*words)

    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert said in result.err
    assert "--help" in result.err
    assert run(*words, "--json").json["error"]["code"] == "usage"


def test_json_errors_are_on_standard_output_for_programs(run: Run) -> None:
    result = run("peer", "show", "nobody", "--json")

    assert result.code == 1
    assert result.json["error"]["code"] == "no-such-peer"
    assert "error: there is no peer nobody" in result.err


def test_quiet_keeps_warnings(run: Run, home: Path) -> None:
    (home / "node.key").chmod(0o644)
    assert run("id", "-q").err.startswith("warning: ")


def test_nobody_reads_standard_output_any_more(home: Path) -> None:
    """`peerauth peer list | head -0`: no complaint, and the code that the shell gives for SIGPIPE."""
    write(home / "peers" / "alice.crt", pem(make()))
    read, written = os.pipe()
    os.close(read)
    with os.fdopen(written, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "peerauth", "--home", home, "peer", "list"],
            stdout=closed,
            stderr=subprocess.PIPE,
            env=environment(),
            cwd=CHECKOUT,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_is_no_defect_of_ours(home: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "peerauth", "--home", home, "id"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            cwd=CHECKOUT,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"error: No space left on device\n")


def test_a_version_that_cannot_be_said_fails() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "peerauth", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr


def test_ctrl_c_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def interrupted(ui: Ui) -> None:
        """Stop."""
        ui.detail("about to be interrupted")
        signal.raise_signal(signal.SIGINT)

    app = typer.Typer()
    app.command()(interrupted)
    with pytest.raises(SystemExit) as leaving:
        app([])
    assert leaving.value.code == 130
    assert capsys.readouterr() == ("", "")


def test_text_that_the_terminal_cannot_show_is_escaped(home: Path) -> None:
    write(home / "peers" / "alice.crt", pem(make()))
    write(home / "peers" / "alice.toml", 'note = "žluť"'.encode())
    result = process("--home", home, "peer", "list", env={"PYTHONIOENCODING": "ascii"})

    assert result.code == 0
    assert "\\u017elu\\u0165" in result.out


ASK = ("-c", "from peerauth.cli.ui import Ui; print('agreed' if Ui().confirm('sure?') else 'no harm done')")


@pytest.mark.parametrize(("answer", "yes"), [("y", True), ("YES", True), ("", False), ("n", False), ("yeah", False)])
def test_a_person_says_yes_on_a_terminal(answer: str, *, yes: bool) -> None:
    terminal = Terminal(program=ASK)
    terminal.wait_for(r"sure\? \[y/N\] ")
    terminal.type(answer)
    _, shown = terminal.end()

    assert ("agreed" in shown) == yes
    assert ("no harm done" in shown) == (not yes)


def test_nobody_says_yes_where_nobody_can_be_asked() -> None:
    done = subprocess.run([sys.executable, *ASK], input="y\n", capture_output=True, text=True, env=environment(), check=True)
    assert (done.stdout, done.stderr) == ("no harm done\n", "")


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("keygen", "peerauth keygen [OPTIONS] [NAME]"),
        ("serve", "peerauth serve [OPTIONS] [-- COMMAND ARG...]"),
        ("pair", "peerauth pair [OPTIONS] [HOST:PORT [CODE]]"),
        ("join", "peerauth join [OPTIONS] [TOKEN]"),
        ("peer add", "peerauth peer add [OPTIONS] FILE..."),
        ("peer rename", "peerauth peer rename [OPTIONS] OLD NEW"),
    ],
)
def test_help_writes_arguments_as_people_do(words: str, first: str) -> None:
    """No types of Python, no braces: `FILE...`, not `{FILE...}... <list[Path]>`."""
    shown = peerauth(*words.split(), "--help").out

    assert shown.splitlines()[0] == f"Usage: {first}"
    assert "<str>" not in shown
    assert "<list[" not in shown


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ("keygen --name db-1", "no such option: --name", "peerauth keygen NAME"),
        ("genkey", "no such command 'genkey'", "peerauth keygen"),
        ("list", "no such command 'list'", "peerauth peer list"),
        ("peer rm alice", "no such command 'rm'", "peerauth peer remove"),
        ("serve --port=8443", "no such option: --port", "peerauth serve --listen :PORT"),
        ("peer rename alice", "missing argument 'NEW'", "peerauth peer rename --help"),
        ("up --chek", "no such option: --chek (Possible options: --check, --help, --home)", "peerauth up --help"),
        ("serve --chek", "no such option: --chek", "peerauth serve --help"),
    ],
)
def test_what_other_tools_call_it_is_understood(words: str, said: str, hint: str) -> None:
    result = peerauth(*words.split())

    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {said}")
    assert result.err.splitlines()[-1] == f"hint: {hint}"


def test_a_program_without_the_dashes_before_it_is_told_of_them() -> None:
    """The twin has a word less: then the wrong option is the server's own."""
    stray = peerauth("serve", "--listen", ":0", "python3", "-m", "http.server")
    wrong = peerauth("serve", "--listen", ":0", "-m", "http.server")

    assert stray.code == wrong.code == 2
    assert stray.err.splitlines()[-1].endswith("peerauth serve --listen ADDRESS -- COMMAND ARG...")
    assert wrong.err.splitlines()[-1] == "hint: peerauth serve --help"

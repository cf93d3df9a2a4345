"""What a start loads, counted rather than timed: a command waits for its own libraries and for no others.

The figures behind it are in docs/decisions/0017-a-quick-start.md.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peerauth.cli.commands import COMMANDS, PEER_COMMANDS
from peerauth.cli.program import LaterCommand, program
from tests.cli.making import make, pem, write
from tests.cli.running import DEADLINE_S, environment

REPORTING = """
import atexit, sys
bare = set(sys.modules)
atexit.register(lambda: print("loaded:", *sorted(sys.modules.keys() - bare), file=sys.stderr))
from peerauth.cli.main import main
sys.exit(main())
"""
HEAVY = {
    "OpenSSL", "aiohttp", "anyio", "asyncio", "click", "concurrent", "cryptography", "httptools", "logging",
    "mnemonic", "multiprocessing", "pydantic", "pydantic_core", "rich", "segno", "spake2", "ssl", "tempfile", "tomli_w",
    "tomllib", "typing_extensions", "urllib3", "uvicorn", "uvloop", "watchfiles",
}  # fmt: skip
ON_DISK = {"cryptography", "tomllib"}
PEERS = ON_DISK | {"tomli_w"}
ENGINE = PEERS | {
    "OpenSSL", "anyio", "asyncio", "concurrent", "logging", "multiprocessing", "ssl", "typing_extensions",
    "uvloop", "watchfiles",
}  # fmt: skip
HELLO = ENGINE | {"click", "httptools", "tempfile", "uvicorn"}
FIRST = {"main", "program", "command", "commands", "plain", "typed", "ui"}  # of cli/: what every command goes through


def _loaded(errors: str) -> set[str]:
    """The modules that a process has reported at its end."""
    (line,) = [line for line in errors.splitlines() if line.startswith("loaded:")]
    return set(line.split()[1:])


def _held(loaded: set[str], may: set[str], own: set[str], others: int) -> None:
    """Hold what was loaded to what may be: heavy packages, modules of cli/, and how many are not of the standard library."""
    assert {name.partition(".")[0] for name in loaded} & HEAVY <= may
    assert {name.removeprefix("peerauth.cli.") for name in loaded if name.startswith("peerauth.cli.")} <= own
    counted = [name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names]
    assert len(counted) <= others, sorted(counted)


@pytest.mark.parametrize(
    ("words", "may", "own", "others"),
    [
        (["--help"], set(), set(), 45),
        (["peer", "--help"], set(), set(), 45),
        (["keygen", "--help"], set(), {"keygen", "secret", "reading"}, 50),
        (["id"], ON_DISK, {"identity", "describe", "secret", "reading"}, 130),
        (["peer", "list"], PEERS, {"peer", "describe"}, 134),
        (["id", "--words"], ON_DISK | {"mnemonic"}, {"identity", "describe", "secret", "reading"}, 130),
        (["invite"], PEERS, {"invite", "peer", "peer_settings", "describe", "reachable"}, 147),
        (["status"], PEERS, {"status", "standing", "describe", "peer", "strangers"}, 149),
        (["status", "--metrics"], PEERS, {"status", "standing", "metrics", "peer", "strangers"}, 149),
        (["peer", "add", "alice.crt"], PEERS, {"peer", "peer_add", "peer_settings", "secret", "reading"}, 144),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_a_command_loads_what_it_needs_and_no_more(
    home: Path, tmp_path: Path, words: list[str], may: set[str], own: set[str], others: int
) -> None:
    write(home / "peers" / "bob.crt", pem(make("bob")))
    write(tmp_path / "alice.crt", pem(make("alice")))
    done = subprocess.run(
        [sys.executable, "-c", REPORTING, *words],
        capture_output=True,
        text=True,
        env=environment({"PEERAUTH_HOME": str(home)}),
        cwd=tmp_path,
        timeout=DEADLINE_S,
        check=True,
    )
    _held(_loaded(done.stderr), may, FIRST | own, others)


def test_the_version_is_said_before_anything_is_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REPORTING, "--version"], capture_output=True, text=True, env=environment(), check=True
    )
    loaded = _loaded(done.stderr)
    ours = {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names}

    assert ours == {"peerauth", "peerauth.cli", "peerauth.cli.main", "peerauth.errors"}
    assert not loaded & {"typing", "re", "pathlib", "dataclasses", "enum", "json"}


@pytest.mark.parametrize(
    ("target", "may", "others"),
    [(["--target", "127.0.0.1:9"], ENGINE, 253), ([], HELLO, 310), (["--root", str(Path(__file__).parent)], HELLO, 322)],
    ids=["relay", "hello", "files"],
)
def test_a_server_that_relays_loads_no_http_server(home: Path, target: list[str], may: set[str], others: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", REPORTING, "serve", "--json", "--listen", "127.0.0.1:0", *target],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment({"PEERAUTH_HOME": str(home)}),
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["event"] == "listening"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 0
    _held(_loaded(errors), may, FIRST | {"serve", "described", "serving", "reports", "node", "secret", "reading"}, others)


def _commands() -> list[LaterCommand]:
    root = program()
    below = getattr(root.commands["peer"], "commands", {})
    return [command for command in (*root.commands.values(), *below.values()) if isinstance(command, LaterCommand)]


@pytest.mark.parametrize("command", _commands(), ids=lambda command: str(command.name))
def test_what_help_says_of_a_command_before_it_is_loaded_is_what_the_command_says(command: LaterCommand) -> None:
    assert command.loaded.name == command.name
    for width in range(8, 120):
        assert command.get_short_help_str(width) == command.loaded.get_short_help_str(width)


def test_every_command_waits_until_it_is_typed() -> None:
    assert [command.name for command in _commands()] == [*COMMANDS, *PEER_COMMANDS]

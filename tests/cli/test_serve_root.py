"""`serve --root`: what is said of it, and what it does not start with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.running import DEADLINE_S, environment


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--root", "{home}"), 1, "bad-root"),
        (("--root", "{home}/.."), 1, "bad-root"),
        (("--root", "{home}/nothing"), 1, "not-a-directory"),
        (("--root", ""), 2, "bad-path"),
        (("--root", "{home}/public", "--target", ":1"), 2, "two-kinds"),
    ],
)
def test_what_cannot_be_served_is_said_before_anybody_is_let_in(
    run: Run, home: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    filled = [word.format(home=home) for word in words]
    result = run("serve", "--json", "--listen", "127.0.0.1:0", *filled)
    assert (result.code, result.json["error"]["code"]) == (code, said)
    assert result.json["error"]["hint"] is not None or said == "bad-path"


def test_a_root_needs_an_address(run: Run, home: Path) -> None:
    assert run("serve", "--json", "--root", str(home)).json["error"]["code"] == "no-listen"


@pytest.mark.parametrize("where", ["command line", "config.toml"])
def test_what_is_served_is_said_by_serve_and_status(run: Run, home: Path, where: str) -> None:
    """On the command line it is relative to the current directory, in the file to the home."""
    public = home / "public"
    public.mkdir()
    words = ["--listen", "127.0.0.1:0", "--root", "public"]
    if where == "config.toml":
        with (home / "config.toml").open("a") as file:
            file.write('[[serve]]\nname = "files"\nlisten = "127.0.0.1:0"\nroot = "public"\n')
        (service,) = run("status", "--json").json["services"]
        assert service["target"] == str(public)
        assert f"serves the files in {public}" in run("status").out
        words = []
    process = subprocess.Popen(
        [sys.executable, "-m", "peerauth", "serve", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment({"PEERAUTH_HOME": str(home)}),
        cwd=home if words else None,
    )
    assert process.stderr is not None
    try:
        assert process.stderr.readline().startswith(f"node serves the files in {public} on 127.0.0.1:")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0


def test_the_home_of_a_node_is_named_in_the_refusal(run: Run, home: Path) -> None:
    result = run("serve", "--listen", "127.0.0.1:0", "--root", str(home))
    assert "the private key" in result.err
    assert "serve a directory that holds nothing but what peers may read" in result.err
    assert json.dumps(result.out) == '""'

"""mypy accepts what docs/library.md shows, and rejects what it rules out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import peerauth

CHECKOUT = Path(__file__).resolve().parents[2]
API = CHECKOUT / "tests/typing/api.py"
DEADLINE_S = 55.0
WRONG = """\
import peerauth

node = peerauth.Node.load(5)
node.server_context("alice")
node.peers.add("db-2")
node.peers["db-2"].nane
peerauth.peer_of(node).name
name: int = node.name
peerauth.Nod
async def connect() -> None:
    reader = await node.open_connection("db-1")
    reader.read()
    await node.start_server(lambda reader: None)
"""
SAID = {
    3: "arg-type",
    4: "arg-type",
    5: "call-arg",
    6: "attr-defined",
    7: "union-attr",
    8: "assignment",
    9: "attr-defined",
    12: "attr-defined",
    13: "arg-type",
}


def mypy(file: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Check a file as a program of somebody else's, in which peerauth is one of the things that are installed."""
    pytest.importorskip("mypy")
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", "--cache-dir", cache, file],
        cwd=cache,
        env={**os.environ, "MYPYPATH": str(CHECKOUT), "MYPY_FORCE_COLOR": "0"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_right_use_is_accepted_and_each_wrong_one_is_rejected(tmp_path: Path) -> None:
    """One cache for both: the second is quick."""
    done = mypy(API, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    (tmp_path / "wrong.py").write_text(WRONG)
    done = mypy(tmp_path / "wrong.py", tmp_path)
    found: dict[int, set[str]] = {}
    for line in done.stdout.splitlines():
        place, _, text = line.partition(": error: ")
        if text:
            found.setdefault(int(place.rpartition(":")[2]), set()).add(text.rpartition("[")[2].rstrip("]"))
    assert found.keys() == SAID.keys(), done.stdout
    assert all(code in found[line] for line, code in SAID.items()), done.stdout


def test_every_public_name_is_in_the_checked_program() -> None:
    text = API.read_text("utf-8")
    assert [name for name in peerauth.__all__ if f"    {name},\n" not in text] == []

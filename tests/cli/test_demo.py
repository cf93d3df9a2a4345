"""`peerauth demo` does the main job for real: what it shows is what happened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import CHECKOUT, environment

STEPS = (
    "$ peerauth keygen db-1 --home db-1",
    "$ peerauth peer add alice/alice.crt bob/bob.crt --home db-1",
    "$ peerauth serve --home db-1",
    "$ peerauth get https://db-1/hello --home alice\nHello, alice!",
    "$ peerauth get https://db-1/hello --home mallory\nerror: ",
    "db-1 reports: refused a stranger, who presents ",
    "$ peerauth connect db-1 --home bob &",
    "$ peerauth peer remove alice --home db-1",
    "db-1 reports: the connection of alice from ",
    "alice's connection ended with exit code 1",
    "\nHello, bob!",
    "$ peerauth get https://db-1/hello --home alice\nerror: ",
)


@pytest.mark.timeout(150)  # four keys are made, two of them RSA-4096
def test_every_step_is_shown_in_its_order_and_nothing_is_left_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "peerauth", "demo"],
        cwd=CHECKOUT,
        env=environment() | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=140,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    position = 0
    for step in STEPS:
        position = done.stdout.index(step, position) + len(step)
    assert list(tmp_path.iterdir()) == []

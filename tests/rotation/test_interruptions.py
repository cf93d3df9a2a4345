"""A rotation that is killed at any step goes on: no identity is lost, nothing told is forgotten, and nothing lies about."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import CHECKOUT, environment


@pytest.mark.parametrize(
    ("operation", "steps"),
    [
        ("make", 60),
        ("acknowledge", 15),
        ("switch", 70),
        ("abort", 50),
        ("abort-unheard", 40),
        ("compromised", 60),
        ("compromised-switch", 70),
        ("overtaken", 80),
    ],
)
def test_killed_at_any_step_it_goes_on(tmp_path: Path, operation: str, steps: int) -> None:
    words = [sys.executable, "-m", "tests.rotation.steps", f"rotate-{operation}", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False, env=environment(), cwd=CHECKOUT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= steps

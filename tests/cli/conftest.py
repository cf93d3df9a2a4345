"""A node to give commands to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.running import Result, peerauth


@pytest.fixture(scope="session")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a node, as keygen makes it; tests copy it."""
    home = tmp_path_factory.mktemp("made") / "home"
    result = peerauth("keygen", "node", "--type", "p256", "--home", home)
    assert result.code == 0, result.err
    return home


@pytest.fixture
def home(made_home: Path, tmp_path: Path) -> Path:
    """A node's home of this test's own."""
    return shutil.copytree(made_home, tmp_path / "home")


Run = Callable[..., Result]


@pytest.fixture
def run(home: Path) -> Run:
    """Run a command in this node's home, in this process."""
    return lambda *words, **options: peerauth("--home", home, *words, **options)


@pytest.fixture
def must(run: Run) -> Run:
    """Run a command that has to succeed."""

    def succeed(*words: str | Path, **options: object) -> Result:
        result = run(*words, **options)
        assert result.code == 0, f"{words}: {result.code}\n{result.err}"
        return result

    return succeed

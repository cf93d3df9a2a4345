"""Terminals for a page, and nodes for what a page takes as given."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import peerauth
from tests.docs.terminals import Terminals


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    """Terminals in a directory of this test's own; at the end, what went on in them has shown what the page shows."""
    made = Terminals(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def made_nodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The homes db-1 and alice, each pinned at the other, and mallory, who pins db-1 alone; tests copy them."""
    place = tmp_path_factory.mktemp("nodes")
    for name in ("db-1", "alice", "mallory"):
        result = peerauth("keygen", name, "--type", "p256", "--home", place / name)
        assert result.code == 0, result.err
    for name, other in (("db-1", "alice"), ("alice", "db-1"), ("mallory", "db-1")):
        result = peerauth("peer", "add", place / other / f"{other}.crt", "--home", place / name)
        assert result.code == 0, result.err
    return place


@pytest.fixture
def nodes(made_nodes: Path, terminals: Terminals) -> Path:
    """A directory with these homes in it; db-1 is known to be at the port that stands for 8443."""
    shutil.copytree(made_nodes, terminals.directory, dirs_exist_ok=True)
    for name in ("alice", "mallory"):
        notes = terminals.directory / name / "peers/db-1.toml"
        notes.write_text(f'address = "localhost:{terminals.ports.number("8443")}"\n')
    return terminals.directory

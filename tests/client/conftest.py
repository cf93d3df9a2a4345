"""A node that has pinned db-1, and makes its dialer."""

from __future__ import annotations

from pathlib import Path

import pytest

from peerauth.client.dial import Dialer
from peerauth.store.peerdir import PeerDirectory
from tests.support.engine import Yard, identity


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """An empty peers directory."""
    return Yard(tmp_path / "peers")


@pytest.fixture
def dialer(tmp_path: Path) -> Dialer:
    """The dialer of alice, who has pinned node, db-1 and db-2."""
    own = Yard(tmp_path / "alices-peers")
    for name in ("node", "db-1", "db-2"):
        own.pin(name)
    directory = PeerDirectory(own.path)
    directory.refresh()
    return Dialer.of(identity("alice"), "alice", lambda: directory.current)

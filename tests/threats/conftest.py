"""What the tests of the threats share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.engine import Yard
from tests.support.workers import Home


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """An empty peers directory."""
    return Yard(tmp_path / "peers")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A node's home; nobody is pinned."""
    return Home(tmp_path)

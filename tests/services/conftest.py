"""What the tests of services share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.workers import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A node's home; nobody is pinned."""
    return Home(tmp_path)

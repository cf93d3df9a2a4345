"""What the tests of the threats share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.engine import Yard


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """An empty peers directory."""
    return Yard(tmp_path / "peers")

"""What the tests of the drop-in context share."""

from pathlib import Path

import pytest

from peerauth.tls import gate
from tests.support.dropin import Nodes


@pytest.fixture
def node(tmp_path: Path) -> Nodes:
    return Nodes(tmp_path)


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every handshake looks at the peers anew; the test of the throttle sets its own."""
    monkeypatch.setattr(gate, "FRESH_S", 0.0)

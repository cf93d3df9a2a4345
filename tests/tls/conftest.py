"""What the tests of the drop-in context share."""

from pathlib import Path

import pytest

from peerauth.tls import gate
from tests.support.dropin import Node, Nodes


@pytest.fixture
def node(tmp_path: Path) -> Nodes:
    return Nodes(tmp_path)


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every handshake looks at the peers anew; the test of the throttle sets its own."""
    monkeypatch.setattr(gate, "FRESH_S", 0.0)


@pytest.fixture
def three(node: Nodes) -> tuple[Node, Node, Node]:
    """A server's node, a peer of it that will go, and one that stays."""
    a, gone, stays = node("a"), node("gone"), node("stays")
    for who in (gone, stays):
        who.knows(a)
    return a.knows(gone, stays), gone, stays

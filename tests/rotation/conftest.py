"""Every node here takes part."""

import pytest

from peerauth.control.rotation import History, Rotate
from peerauth.server.answers import HANDLERS
from tests.support.rotating import receive, recount


@pytest.fixture(autouse=True)
def taking_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HANDLERS, Rotate, receive)
    monkeypatch.setitem(HANDLERS, History, recount)

"""What a node gives to other libraries follows its key and certificate, as `rotate` and `keygen --force` replace them."""

from __future__ import annotations

from pathlib import Path

import pytest

from peerauth import Node
from peerauth.tls import gate
from peerauth.trust.decision import Code
from peerauth.trust.identity import KeyType, new_key, self_signed
from tests.support.dropin import NOW, meet, refusal
from tests.support.homes import Home


def test_contexts_of_a_node_present_what_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In both roles; what cannot be used leaves the identity from before, and is said once."""
    monkeypatch.setattr(gate, "FRESH_S", 0.0)
    db, alice = Home(tmp_path / "db-1", "db-1"), Home(tmp_path / "alice", "alice")
    db.knows(alice)
    alice.knows(db)
    server, client = Node.load(db.path).server_context(), Node.load(alice.path).client_context("db-1")
    assert meet(server, client) == (b"hello", b"alice")

    for home in (db, alice):
        home.becomes(self_signed(new_key(KeyType.P256), home.name, NOW))
    refusal(meet(server, client)[1], Code.UNKNOWN)
    db.knows(alice)
    alice.knows(db)
    assert meet(server, client) == (b"hello", b"alice")

    db.cert.write_text("nonsense")
    for _ in range(3):
        assert meet(server, client) == (b"hello", b"alice")
    assert caplog.text.count("the identity from before is presented") == 1

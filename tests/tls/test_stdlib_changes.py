"""The drop-in context follows peers/ (promises 2 and 3), for new handshakes and resumed ones.

Each refusal has an accepted twin in the same test, which differs in one fact.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from peerauth.tls import gate
from peerauth.trust.certificate import Certificate
from peerauth.trust.decision import Code
from peerauth.trust.peers import PeerSet
from tests.support.dropin import Nodes, admitted, ask, meet, refusal


def test_new_peer_is_admitted_by_the_same_context(node: Nodes) -> None:
    a, b = node("a"), node("b")
    b.knows(a)
    server, client = a.server(), b.client("a")
    refusal(meet(server, client)[0], Code.UNKNOWN)

    a.knows(b)

    assert admitted(server, client, "b")


def test_removed_peer_is_refused_although_the_pool_still_has_it(node: Nodes) -> None:
    a, gone, stays = node("a"), node("gone"), node("stays")
    for who in (gone, stays):
        who.knows(a)
    server = a.knows(gone, stays).server()
    assert admitted(server, gone.client("a"), "gone")

    a.forgets(gone)

    assert gone.pin in refusal(meet(server, gone.client("a"))[0], Code.UNKNOWN)
    assert admitted(server, stays.client("a"), "stays")
    a.knows(gone)
    assert admitted(server, gone.client("a"), "gone")


def test_client_refuses_a_peer_that_was_removed(node: Nodes) -> None:
    a, me = node("a"), node("me")
    server = a.knows(me).server()
    client = me.knows(a).client("a")
    assert admitted(server, client, "me")

    me.forgets(a)

    assert "there is no peer a" in refusal(meet(server, client)[1], Code.UNKNOWN)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_resumed_session_is_decided_again(node: Nodes, version: ssl.TLSVersion) -> None:
    """Promise 2: the ticket of a peer that stayed resumes; of one that was removed meanwhile it is worth nothing."""
    a, gone, stays = node("a"), node("gone"), node("stays")
    server = a.knows(gone, stays).server(min_tls="1.2")

    def visit(client: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[object, object]:
        def call(tls: ssl.SSLSocket) -> tuple[bytes, bool | None, ssl.SSLSession | None]:
            return ask(tls), tls.session_reused, tls.session

        return meet(server, client, call=call, session=session)

    clients, sessions = {}, {}
    for who in (gone, stays):
        clients[who.name] = who.knows(a).client("a", min_tls="1.2")
        clients[who.name].maximum_version = version
        _, answer = visit(clients[who.name], None)
        assert isinstance(answer, tuple)
        sessions[who.name] = answer[2]
    a.forgets(gone)

    refused, answer = visit(clients["gone"], sessions["gone"])
    _, again = visit(clients["stays"], sessions["stays"])

    assert gone.pin in refusal(refused, Code.UNKNOWN)
    assert isinstance(answer, OSError) or (isinstance(answer, tuple) and answer[0] == b"")
    assert isinstance(again, tuple)
    assert again[:2] == (b"stays", True)


def test_client_decides_a_resumed_session_again(node: Nodes) -> None:
    a, me = node("a"), node("me")
    server = a.knows(me).server()
    client = me.knows(a).client("a")

    def keep(tls: ssl.SSLSocket) -> tuple[bool | None, ssl.SSLSession | None]:
        ask(tls)
        return tls.session_reused, tls.session

    _, (_, session) = meet(server, client, call=keep)
    _, (reused, session) = meet(server, client, call=keep, session=session)
    assert reused

    me.forgets(a)

    assert a.pin in refusal(meet(server, client, call=keep, session=session)[1], Code.UNKNOWN)


def test_peers_are_looked_at_once_in_a_while(node: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst of handshakes asks once; when the time is over they ask again."""
    a, b = node("a"), node("b")
    a.knows(b)
    b.knows(a)
    asked: list[None] = []

    def peers() -> PeerSet:
        asked.append(None)
        return a.directory.refresh()

    monkeypatch.setattr(gate, "FRESH_S", 3600.0)
    server, client = a.server(peers=peers), b.client("a")
    for _ in range(3):
        assert admitted(server, client, "b")
    assert len(asked) == 1

    monkeypatch.setattr(gate, "FRESH_S", 0.0)
    fresh = a.server(peers=peers)
    del asked[:]
    assert admitted(fresh, client, "b")
    assert len(asked) >= 2  # before the handshake and after it


def test_certificates_are_asked_for_only_when_there_are_new_pins(node: Nodes) -> None:
    a, b, c = node("a"), node("b"), node("c")
    for who in (b, c):
        who.knows(a)
    asked: list[None] = []

    def certificates() -> Iterator[Certificate]:
        asked.append(None)
        return a.certificates()

    server = a.knows(b).server(certificates=certificates)
    assert admitted(server, b.client("a"), "b")
    assert len(asked) == 1
    a.knows(c)
    assert admitted(server, c.client("a"), "c")
    assert len(asked) == 2


def test_certificates_that_could_not_be_had_are_looked_for_again_later(node: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that fails leaves its peers refused and the rest admitted; it is asked again after a while, not always."""
    a, b, c = node("a"), node("b"), node("c")
    for who in (b, c):
        who.knows(a)
    broken = False
    asked: list[None] = []

    def certificates() -> Iterator[Certificate]:
        asked.append(None)
        if broken:
            raise OSError("the disk is gone")
        return a.certificates()

    server = a.knows(b).server(certificates=certificates)
    a.knows(c)
    broken = True
    for _ in range(2):
        refusal(meet(server, c.client("a"))[0], Code.UNKNOWN)
        assert admitted(server, b.client("a"), "b")
    assert len(asked) == 2  # when the context was built, and once in vain

    broken = False
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + gate.PATIENCE_S)
    monkeypatch.setattr(gate, "time", later)
    assert admitted(server, c.client("a"), "c")


def test_client_loads_the_peer_it_means_and_no_other(node: Nodes) -> None:
    a, b, me = node("a"), node("b"), node("me")

    assert me.knows(a, b).client("a").cert_store_stats()["x509"] == 1
    assert me.server().cert_store_stats()["x509"] == 2

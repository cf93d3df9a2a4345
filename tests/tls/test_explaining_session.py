"""A session that explains completes a stranger's handshake; nobody makes a peer of it, and `dismiss` alone hands it over."""

from __future__ import annotations

import ast
import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from peerauth.tls.context import CONTROL, HTTP_1_1, server_context
from peerauth.tls.session import NotAdmitted, Room, Session, Wait
from peerauth.trust.decision import Admitted, Decision, decide
from peerauth.trust.identity import Identity
from peerauth.trust.peers import Peer, PeerSet
from tests.docs.pages import CHECKOUT
from tests.support.dropin import NOW, tcp_pair
from tests.support.engine import Caller, identity

ALICE, MALLORY = identity("alice"), identity("mallory")
PEERS = PeerSet.of([Peer("alice", (ALICE.certificate.fingerprint,))])


def judge(der: bytes | None) -> Decision:
    """Alice is pinned, and nobody else."""
    return decide(der, PEERS, now=NOW)


@contextlib.contextmanager
def met(caller: Caller, room: Room | None) -> Iterator[Session]:
    """A server's session whose handshake with this client is done, or has failed, on a context that explains."""
    near, far = tcp_pair()
    context = server_context(identity("node"), alpn=(CONTROL, *HTTP_1_1), explains=True)
    session = Session(context, near, judge, room=room)

    def call() -> None:
        with contextlib.suppress(OSError), caller.context.wrap_socket(far) as tls:
            tls.recv(1)

    client = threading.Thread(target=call)
    client.start()
    try:
        with near:
            shake_hands(session, near)
            yield session
    finally:
        near.close()
        client.join(10)
        far.close()


def shake_hands(session: Session, sock: socket.socket) -> None:
    """Go on until it is done; waits by blocking."""
    sock.setblocking(True)
    while session.handshake() is not Wait.NOTHING:
        pass


def test_without_a_room_a_stranger_does_not_get_through_the_handshake() -> None:
    with pytest.raises(NotAdmitted), met(Caller(MALLORY), None):
        pytest.fail("it was completed")
    with met(Caller(ALICE), None) as session:
        assert session.confirm().peer.name == "alice"


@pytest.mark.parametrize("own", [MALLORY, None], ids=["stranger", "nobody"])
def test_nobody_is_handed_over_before_it_is_decided(own: Identity | None) -> None:
    with met(Caller(own), lambda: True) as session:
        with pytest.raises(NotAdmitted):
            session.dismiss()  # before it was decided
        with pytest.raises(NotAdmitted):
            session.greet()
        assert not isinstance(session.decision, Admitted)


def test_dismiss_gives_the_leaf_and_nothing_makes_a_peer_of_it() -> None:
    with met(Caller(MALLORY), lambda: True) as session:
        with pytest.raises(NotAdmitted) as refused:
            session.confirm()
        assert refused.value.refused.code == "unknown"
        assert session.dismiss() == MALLORY.certificate.der
        with pytest.raises(RuntimeError, match="decided already"):
            session.confirm()
    with met(Caller(None), lambda: True) as session:
        with pytest.raises(NotAdmitted) as refused:
            session.confirm()
        assert refused.value.refused.code == "no-certificate"
        assert session.dismiss() is None


def test_a_room_that_is_full_by_then_hands_nobody_over() -> None:
    room = [True]
    with met(Caller(MALLORY), lambda: room[0]) as session:
        room[0] = False
        with pytest.raises(NotAdmitted):
            session.confirm()
        with pytest.raises(NotAdmitted):
            session.dismiss()


def test_where_there_is_no_room_from_the_beginning_a_certificate_is_demanded() -> None:
    with pytest.raises(NotAdmitted, match="no certificate was presented"), met(Caller(None), lambda: False):
        pytest.fail("it was completed")


def test_under_our_own_protocol_nobody_is_dismissed() -> None:
    caller = Caller(MALLORY)
    caller.context.set_alpn_protocols(["peerauth/1"])
    with met(caller, lambda: True) as session:
        assert session.greet() == MALLORY.certificate.der
        with pytest.raises(NotAdmitted):
            session.dismiss()
    nobody = Caller(None)
    nobody.context.set_alpn_protocols(["peerauth/1"])
    with pytest.raises(NotAdmitted), met(nobody, lambda: True):
        pytest.fail("it was completed")


LEADS_TO_SERVICES = {"services", "live", "transport", "listener", "doors", "answers", "desk"}


def test_nothing_that_answers_strangers_knows_a_way_to_a_service() -> None:
    for file in ("server/explainer.py", "http/explanation.py", "trust/notice.py"):
        tree = ast.parse((CHECKOUT / "peerauth" / file).read_text("utf-8"))
        imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert imported
        assert not {part for module in imported for part in module.split(".")} & LEADS_TO_SERVICES
        assert not names & {"Admitted", "Guest", "Peer", "PeerSet"}

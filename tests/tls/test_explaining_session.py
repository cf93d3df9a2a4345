"""A session that explains completes a stranger's handshake; nobody makes a peer of it, and `dismiss` alone hands it over."""

from __future__ import annotations

import ast
import contextlib
import math
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from peerauth.tls.context import CONTROL, HTTP_1_1, MinimumVersion, server_context
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


class Places:
    """Room for so many; `asked`: how often somebody wanted to take it."""

    ends = math.inf

    def __init__(self, left: int = 1) -> None:
        self.left = left
        self.asked = 0

    def is_left(self) -> bool:
        """As Room.is_left."""
        return self.left > 0

    def take(self) -> bool:
        """As Room.take."""
        self.asked += 1
        self.left -= 1
        return self.left >= 0


@contextlib.contextmanager
def met(
    caller: Caller, room: Room | None, heard: list[str] | None = None, *, min_tls: MinimumVersion = "1.3"
) -> Iterator[Session]:
    """A server's session whose handshake with this client is done, or has failed, on a context that explains.

    `heard`: the alert that the client was sent.
    """
    near, far = tcp_pair()
    context = server_context(identity("node"), min_tls=min_tls, alpn=(CONTROL, *HTTP_1_1), explains=True)
    session = Session(context, near, judge, room=room)

    def call() -> None:
        try:
            with caller.context.wrap_socket(far) as tls:
                tls.recv(1)
        except ssl.SSLError as error:
            if heard is not None:
                heard.append(error.reason)
        except OSError:
            pass

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
    with met(Caller(own), Places()) as session:
        with pytest.raises(NotAdmitted):
            session.dismiss()  # before it was decided
        with pytest.raises(NotAdmitted):
            session.greet()
        assert not isinstance(session.decision, Admitted)


def test_dismiss_gives_the_leaf_and_nothing_makes_a_peer_of_it() -> None:
    with met(Caller(MALLORY), Places()) as session:
        with pytest.raises(NotAdmitted) as refused:
            session.confirm()
        assert refused.value.refused.code == "unknown"
        assert session.dismiss() == MALLORY.certificate.der
        with pytest.raises(RuntimeError, match="decided already"):
            session.confirm()
    with met(Caller(None), Places()) as session:
        with pytest.raises(NotAdmitted) as refused:
            session.confirm()
        assert refused.value.refused.code == "no-certificate"
        assert session.dismiss() is None


def test_the_last_room_is_the_strangers_whose_handshake_took_it() -> None:
    """OpenSSL asks several times about one leaf, and it is asked again after the handshake: all of these hear one answer."""
    room = Places(1)
    with met(Caller(MALLORY), room) as session:
        with pytest.raises(NotAdmitted):
            session.confirm()
        assert session.dismiss() == MALLORY.certificate.der
        assert (room.left, room.asked) == (0, 1)


@pytest.mark.parametrize("tls12", [False, True], ids=["1.3", "1.2"])
def test_a_room_that_fills_up_in_the_handshake_is_an_unknown_ca(*, tls12: bool) -> None:
    class Taken(Places):
        def is_left(self) -> bool:
            return True

    room = Taken(0)
    heard: list[str] = []
    with pytest.raises(NotAdmitted), met(Caller(MALLORY, tls12=tls12), room, heard, min_tls="1.2"):
        pytest.fail("it was completed")
    assert heard == ["TLSV1_ALERT_UNKNOWN_CA"]
    assert room.asked == 1


def test_a_room_that_opens_in_the_middle_of_a_handshake_is_for_the_next() -> None:
    class Opening(Places):
        def take(self) -> bool:
            self.left += 1  # there is some from the second time on
            return super().take() and self.asked > 1

    heard: list[str] = []
    with pytest.raises(NotAdmitted), met(Caller(MALLORY), Opening(1), heard):
        pytest.fail("it was completed")
    assert heard == ["TLSV1_ALERT_UNKNOWN_CA"]


def test_a_peer_takes_no_room() -> None:
    room = Places(1)
    with met(Caller(ALICE), room) as session:
        assert session.confirm().peer.name == "alice"
    assert room.asked == 0


def test_a_room_that_is_full_by_then_hands_nobody_over() -> None:
    """Who has no certificate is not asked about in the handshake."""
    room = Places(1)
    with met(Caller(None), room) as session:
        room.left = 0
        with pytest.raises(NotAdmitted):
            session.confirm()
        with pytest.raises(NotAdmitted):
            session.dismiss()
        assert room.asked == 1


def test_where_there_is_no_room_from_the_beginning_a_certificate_is_demanded() -> None:
    with pytest.raises(NotAdmitted, match="no certificate was presented"), met(Caller(None), Places(0)):
        pytest.fail("it was completed")


def test_under_our_own_protocol_nobody_is_dismissed() -> None:
    caller = Caller(MALLORY)
    caller.context.set_alpn_protocols(["peerauth/1"])
    with met(caller, Places()) as session:
        assert session.greet() == MALLORY.certificate.der
        with pytest.raises(NotAdmitted):
            session.dismiss()
    nobody = Caller(None)
    nobody.context.set_alpn_protocols(["peerauth/1"])
    with pytest.raises(NotAdmitted), met(nobody, Places()):
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

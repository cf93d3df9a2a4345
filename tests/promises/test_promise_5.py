"""Promise 5: a refusal explains itself to the person at either end: who was presented, why, what to type."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_network

import pytest

from peerauth.address import Address
from peerauth.client.dial import Dialer
from peerauth.client.target import Target
from peerauth.errors import PeerAuthError, TrustRefused
from peerauth.trust.decision import Admitted, Code, Refused, decide
from peerauth.trust.explain import refused_client, refused_server
from peerauth.trust.identity import Identity
from peerauth.trust.peers import Peer, PeerSet
from peerauth.trust.policy import EVERY_PEER, Policy
from tests.support.dropin import DAY, NOW, mint
from tests.support.engine import Caller, Running, Yard, identity, on_loops, running

FULL = Policy("db", frozenset({"bob"}))


@dataclass(frozen=True)
class Case:
    """How a client comes to be refused, and what its own program is told."""

    settings: str = ""
    policy: Policy = EVERY_PEER
    make: Callable[[], Identity] = lambda: identity("alice")
    pinned: bool = True
    says: str = "not pinned there"


CASES = {
    Code.UNKNOWN: Case(pinned=False),
    Code.EXPIRED: Case(make=lambda: mint("alice", since=NOW - 2 * DAY, until=NOW - DAY), says="expired"),
    Code.NOT_YET_VALID: Case(make=lambda: mint("alice", since=NOW + DAY, until=NOW + 2 * DAY), says="not acceptable"),
    Code.UNTIL_PASSED: Case("until = 2020-01-01"),
    Code.NOT_FROM_HERE: Case('from = ["10.0.0.0/8"]'),
    Code.NOT_ALLOWED: Case(policy=FULL),
    Code.TOO_MANY: Case("max_connections = 1"),
}


def dial(own: Identity, name: str, peers: PeerSet, port: int) -> str:
    """Connect with our own client and read; the greeting."""
    dialer = Dialer.of(own, name, lambda: peers)
    target = Target(peers.peers["node"], Address("127.0.0.1", port))
    try:
        connection = dialer.connect_blocking(target)
        try:
            return connection.recv(100).decode()
        finally:
            connection.close()
    except PeerAuthError as error:
        raise dialer.explained(error, target) from error


async def refusal(node: Running, own: Identity) -> TrustRefused:
    server = PeerSet.of([Peer("node", (identity("node").certificate.fingerprint,))])
    with pytest.raises(TrustRefused) as refused:
        await asyncio.to_thread(dial, own, "alice", server, node.port)
    return refused.value


@pytest.mark.parametrize("code", list(CASES))
@on_loops("uvloop")
async def test_both_ends_are_told(yard: Yard, code: Code) -> None:
    case = CASES[code]
    own = case.make()
    if case.pinned:
        yard.pin("alice", own, settings=case.settings)
    async with running(yard, policy=case.policy) as node:
        held = []
        if code is Code.TOO_MANY:
            held.append(await asyncio.to_thread(Caller(own).open, node.port))
            await node.hears("admitted")
        error = await refusal(node, own)
        event = await node.hears("refused", code=code)

        presented = str(own.certificate.fingerprint)
        assert event.fingerprint == presented
        assert presented in event.message
        assert event.message.endswith(f"from {event.address}")
        assert event.hint
        assert event.peer == ("alice" if case.pinned else None)

        assert (error.side, error.exit_code, error.code) == ("peer", 3, "refused-by-peer")
        assert case.says in error.message
        assert presented in error.message
        assert "node at 127.0.0.1" in error.message
        assert f"peerauth peer add alice.crt --expect {presented}" in (error.hint or "")
        for tls in held:
            tls.close()


@on_loops("uvloop")
async def test_admitted_twin_is_told_nothing_of_the_kind(yard: Yard) -> None:
    alice = yard.pin("alice")
    server = PeerSet.of([Peer("node", (identity("node").certificate.fingerprint,))])
    async with running(yard) as node:
        assert await asyncio.to_thread(dial, alice, "alice", server, node.port) == "hello alice\n"
        assert not node.told("refused")


@on_loops("uvloop")
async def test_client_without_a_certificate_is_told_that_one_is_wanted(yard: Yard) -> None:
    yard.pin("alice")
    async with running(yard) as node:
        assert await asyncio.to_thread(Caller(None).hear, node.port) == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
        event = await node.hears("refused", code="no-certificate")
        assert "--cert" in (event.hint or "")


@on_loops("uvloop")
async def test_client_that_refuses_this_server_is_no_mystery_here(yard: Yard) -> None:
    yard.pin("alice")
    caller = Caller(identity("alice"))
    caller.context.verify_mode = ssl.CERT_REQUIRED
    async with running(yard) as node:
        assert "CERTIFICATE_VERIFY_FAILED" in await asyncio.to_thread(caller.hear, node.port)
        event = await node.hears("refused", code="refused-by-peer")
        assert "it has another one pinned" in (event.hint or "")


@pytest.mark.parametrize("code", list(Code))
@pytest.mark.parametrize("known", [True, False])
def test_every_code_has_words_and_a_hint_at_either_end(code: Code, known: bool) -> None:
    fingerprint = None if code is Code.NO_CERTIFICATE else identity("alice").certificate.fingerprint
    alice = Peer("alice", (identity("alice").certificate.fingerprint,))
    refused = Refused(code, fingerprint, alice if known else None, "for this reason")
    message, hint = refused_client(refused)
    assert "for this reason" in message
    assert str(code) in message
    assert hint
    error = refused_server(refused, "alice", "127.0.0.1:1", PeerSet.of([alice] if known else []))
    assert error.code == str(code)
    assert "alice" in error.message
    assert "127.0.0.1:1" in error.message
    if code is not Code.NO_CERTIFICATE:
        assert error.hint


def test_who_was_taken_out_of_the_list_is_not_to_be_taken_out_again() -> None:
    """Whoever is not there cannot be removed; its twin is pinned with another certificate, and has to be."""
    fingerprint = identity("bob").certificate.fingerprint
    alice = Peer("alice", (identity("alice").certificate.fingerprint,))
    refused = Refused(Code.UNKNOWN, fingerprint, None, "")
    gone, other = (refused_server(refused, "alice", "h:1", PeerSet.of(peers)) for peers in ([], [alice]))
    assert "there is no peer alice" in gone.message
    assert "peer remove" not in (gone.hint or "")
    assert "peerauth peer scan h:1 --add alice --expect FINGERPRINT" in (gone.hint or "")
    assert "peerauth peer remove alice; peerauth peer scan h:1 --add alice" in (other.hint or "")


def test_peer_that_may_come_from_elsewhere_only_can_still_be_reached() -> None:
    """`from` says where a peer may come from, not where it is; the pin still decides."""
    bob = identity("bob").certificate
    peer = Peer("bob", (bob.fingerprint,))
    peer = replace(peer, settings=replace(peer.settings, sources=(ip_network("10.0.0.0/8"),)))
    peers = PeerSet.of([peer])
    assert isinstance(decide(bob.der, peers.only("bob"), now=NOW), Admitted)
    assert isinstance(decide(bob.der, peers, now=NOW), Refused)
    assert isinstance(decide(identity("alice").certificate.der, peers.only("bob"), now=NOW), Refused)

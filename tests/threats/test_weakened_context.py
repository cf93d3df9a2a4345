"""Threat: a library, or its user, weakens the context that it was given: other CAs, no verification, another context.

requests, for instance, loads its bundle of CAs into any context. The decision on the exact leaf stays in force.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from peerauth.tls.stdlib import PeerRefused
from peerauth.trust.identity import Identity
from tests.support.dropin import Node, Nodes, meet, mint

Weaken = Callable[[ssl.SSLContext, Identity], None]


def trust_a_ca(context: ssl.SSLContext, authority: Identity) -> None:
    context.load_verify_locations(cadata=authority.certificate.pem)


def trust_the_system(context: ssl.SSLContext, authority: Identity) -> None:
    context.load_default_certs()
    trust_a_ca(context, authority)  # stands for one that the system trusts


def drop_partial_chain(context: ssl.SSLContext, authority: Identity) -> None:
    trust_a_ca(context, authority)
    context.verify_flags = ssl.VERIFY_DEFAULT


def verify_if_there_is_one(context: ssl.SSLContext, authority: Identity) -> None:
    trust_a_ca(context, authority)
    context.verify_mode = ssl.CERT_OPTIONAL


def verify_nothing(context: ssl.SSLContext, _: Identity) -> None:
    context.verify_mode = ssl.CERT_NONE


@pytest.fixture
def nodes(tmp_path: Path) -> tuple[Node, Node, Node, Identity]:
    """(a server or client, its peer, a stranger whose certificate comes from a CA, the CA)."""
    node = Nodes(tmp_path)
    authority = mint("an authority", ca=True)
    us, peer, stranger = node("us"), node("peer"), node("stranger", mint("stranger", issuer=authority))
    us.knows(peer)
    for other in (peer, stranger):
        other.knows(us)
    return us, peer, stranger, authority


Four = tuple[Node, Node, Node, Identity]


@pytest.mark.parametrize("weaken", [trust_a_ca, trust_the_system, verify_if_there_is_one])
def test_weakened_server_still_admits_pins_alone(nodes: Four, weaken: Weaken) -> None:
    us, peer, stranger, authority = nodes
    context = us.server()
    weaken(context, authority)

    assert meet(context, peer.client("us")) == (b"hello", b"peer")
    refused, heard = meet(context, stranger.client("us"))
    assert isinstance(refused, PeerRefused)
    assert refused.decision.fingerprint == stranger.identity.certificate.fingerprint, "OpenSSL must have let it through"
    assert isinstance(heard, OSError) or heard == b""


def test_server_whose_sni_callback_swaps_contexts_still_admits_pins_alone(nodes: Four) -> None:
    """OpenSSL looks at the other context's pool then; the connection stays with the gate that it was made by."""
    us, peer, stranger, authority = nodes
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    other.load_cert_chain(us.cert, us.key)
    trust_a_ca(other, authority)
    trust_a_ca(other, peer.identity)
    swapped: list[None] = []

    def by_name(tls: ssl.SSLObject | ssl.SSLSocket, *_: object) -> None:
        tls.context = other
        swapped.append(None)

    context = us.server()
    context.sni_callback = by_name

    assert meet(context, peer.client("us")) == (b"hello", b"peer")
    refused, _ = meet(context, stranger.client("us"))
    assert isinstance(refused, PeerRefused)
    assert refused.decision.fingerprint == stranger.identity.certificate.fingerprint
    assert len(swapped) == 2


@pytest.mark.parametrize("weaken", [verify_if_there_is_one, verify_nothing])
def test_client_without_a_certificate_does_not_get_past_a_weakened_server(nodes: Four, weaken: Weaken) -> None:
    """With CERT_NONE the server asks nobody for a certificate, so nobody is admitted; with CERT_OPTIONAL pins are."""
    us, peer, _, authority = nodes
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.load_verify_locations(cadata=us.identity.certificate.der)
    context = us.server()
    weaken(context, authority)

    refused, heard = meet(context, bare)
    served, _ = meet(context, peer.client("us"))

    assert isinstance(refused, PeerRefused)
    assert isinstance(heard, OSError) or heard == b""
    assert (served == b"hello") is (weaken is verify_if_there_is_one)


def test_anonymous_suites_do_not_get_past_a_weakened_server(nodes: Four) -> None:
    """TLS 1.2 with no certificate on either side, where somebody has allowed it; an ordinary context is content."""
    us, _, _, authority = nodes
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.check_hostname = False
    anonymous.verify_mode = ssl.CERT_NONE
    anonymous.maximum_version = ssl.TLSVersion.TLSv1_2
    anonymous.set_ciphers("AECDH:ADH:@SECLEVEL=0")
    ordinary = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context = us.server(min_tls="1.2")
    for weakened in (ordinary, context):
        verify_nothing(weakened, authority)
        weakened.set_ciphers("ALL:@SECLEVEL=0")

    assert meet(ordinary, anonymous) == (b"hello", b"nobody")
    refused, heard = meet(context, anonymous)
    assert isinstance(refused, PeerRefused)
    assert isinstance(heard, OSError) or heard == b""


@pytest.mark.parametrize("weaken", [trust_a_ca, trust_the_system, drop_partial_chain, verify_nothing])
def test_weakened_client_still_accepts_its_peer_alone(nodes: Four, weaken: Weaken) -> None:
    us, peer, stranger, authority = nodes
    context = us.client("peer")
    weaken(context, authority)

    assert meet(peer.server(), context) == (b"hello", b"us")
    heard, refused = meet(stranger.server(), context)
    assert isinstance(refused, PeerRefused)
    assert stranger.pin in str(refused)
    assert isinstance(heard, OSError) or heard == b""

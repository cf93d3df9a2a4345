"""Threat: certificates that are absurd: huge keys, weak keys, rare keys, chains without end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from peerauth.trust.certificate import Certificate
from peerauth.trust.decision import Admitted, Code, decide
from peerauth.trust.identity import Identity
from peerauth.trust.peers import Peer, PeerSet
from tests.support.dropin import DAY, NOW, mint
from tests.support.engine import Caller, Yard, files_of, identity, on_loops, running, with_chain
from tests.support.primes import huge_rsa_key

FAST_S = 2.0


def over(key: CertificateIssuerPrivateKeyTypes, name: str = "alice") -> Identity:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256())
    )
    return Identity(key, Certificate(made.public_bytes(Encoding.DER)))  # type: ignore[arg-type]


KEYS: dict[str, tuple[Callable[[], CertificateIssuerPrivateKeyTypes], Code | None]] = {
    "RSA 16384": (huge_rsa_key, None),
    "RSA 1024": (lambda: rsa.generate_private_key(65537, 1024), Code.WEAK_KEY),  # noqa: S505 - weak on purpose
    "RSA 2048": (lambda: rsa.generate_private_key(65537, 2048), None),
    "P-224": (lambda: ec.generate_private_key(ec.SECP224R1()), Code.WEAK_KEY),
    "P-384": (lambda: ec.generate_private_key(ec.SECP384R1()), None),
    "P-521": (lambda: ec.generate_private_key(ec.SECP521R1()), None),
    "Ed448": (ed448.Ed448PrivateKey.generate, None),
    "DSA": (lambda: dsa.generate_private_key(1024), Code.WEAK_KEY),  # noqa: S505 - as above
}


@pytest.mark.parametrize("kind", KEYS)
def test_pinned_keys_are_taken_by_their_strength(kind: str) -> None:
    make, code = KEYS[kind]
    own = over(make())
    peers = PeerSet.of([Peer("alice", (own.certificate.fingerprint,))])
    decision = decide(own.certificate.der, peers, now=datetime.now(UTC))
    assert (None if isinstance(decision, Admitted) else decision.code) == code


@pytest.mark.parametrize("kind", ["RSA 16384", "RSA 2048", "P-384", "P-521", "Ed448", "RSA 1024"])
@on_loops("uvloop")
async def test_strange_key_is_refused_quickly_and_a_pinned_one_enters_if_it_is_strong(yard: Yard, kind: str) -> None:
    make, code = KEYS[kind]
    own = over(make())
    alice = yard.pin("alice")
    caller = Caller(None, ciphers="DEFAULT:@SECLEVEL=0")
    caller.context.load_cert_chain(*files_of(own))
    async with running(yard) as node:
        started = time.monotonic()
        heard = await asyncio.to_thread(caller.hear, node.port)
        assert heard == ("SSLV3_ALERT_BAD_CERTIFICATE" if code else "TLSV1_ALERT_UNKNOWN_CA")
        assert (await node.hears("refused")).code == "unknown"
        assert await asyncio.to_thread(Caller(alice).hear, node.port) == "hello alice"
        assert time.monotonic() - started < FAST_S + 3 * (kind == "RSA 16384")
        yard.pin("odd", own)
        await node.hears("peer-added")
        heard = await asyncio.to_thread(caller.hear, node.port)
        if code is None:
            assert heard == "hello odd"
        else:
            assert "ALERT" in heard
            assert (await node.hears("refused", peer="odd")).code == code


@pytest.mark.parametrize("links", [1, 20, 150, 400])
@on_loops("uvloop")
async def test_chain_costs_little_and_changes_nothing(yard: Yard, links: int) -> None:
    """Only the leaf counts. A chain over OpenSSL's bound of 100 KB is not heard to its end, whoever sends it."""
    issuers = [mint("root", ca=True)]
    for number in range(20):
        issuers.append(mint(f"issuer {number}", ca=True, issuer=issuers[-1]))
    padding = [identity(f"padding-{number % 10}") for number in range(max(0, links - 20))]
    chain = [*reversed(issuers[:links]), *padding]
    minted = mint("minted", issuer=issuers[min(links, 20) - 1])
    pinned = yard.pin("pinned", mint("pinned", issuer=issuers[min(links, 20) - 1]))
    too_long = links > 150
    async with running(yard) as node:
        started = time.monotonic()
        stranger = await asyncio.to_thread(with_chain(minted, *chain).hear, node.port)
        assert time.monotonic() - started < FAST_S
        peer = await asyncio.to_thread(with_chain(pinned, *chain).hear, node.port)
        if too_long:
            assert {stranger, peer} <= {"SSLV3_ALERT_ILLEGAL_PARAMETER", "cut"}
        else:
            assert (stranger, peer) == ("TLSV1_ALERT_UNKNOWN_CA", "hello pinned")
        assert await asyncio.to_thread(Caller(pinned).hear, node.port) == "hello pinned"

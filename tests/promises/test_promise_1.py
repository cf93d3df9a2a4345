"""Promise 1: only a pinned certificate enters: the leaf that was presented, byte for byte, never a chain."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from peerauth.trust.certificate import Certificate
from peerauth.trust.identity import Identity
from peerauth.trust.policy import Policy
from tests.support.dropin import DAY, NOW, mint
from tests.support.engine import Caller, Yard, identity, on_loops, running, with_chain


async def hear(port: int, own: Identity | None, *, source: str = "127.0.0.1") -> str:
    return await asyncio.to_thread(Caller(own).hear, port, source=source)


@on_loops()
async def test_pinned_peer_is_admitted_and_a_stranger_is_not(yard: Yard) -> None:
    yard.pin("alice")
    async with running(yard) as node:
        assert await hear(node.port, identity("alice")) == "hello alice"
        assert await hear(node.port, identity("stranger")) == "TLSV1_ALERT_UNKNOWN_CA"
        assert (await node.hears("refused")).code == "unknown"


@on_loops("uvloop")
async def test_client_without_a_certificate_is_refused(yard: Yard) -> None:
    yard.pin("alice")
    async with running(yard) as node:
        assert await hear(node.port, None) == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
        assert (await node.hears("refused")).code == "no-certificate"


@on_loops("uvloop")
async def test_peer_whose_certificate_says_ca_true_can_mint_nothing(yard: Yard) -> None:
    authority = mint("authority", ca=True)
    yard.pin("authority", authority)
    minted = mint("minted", issuer=authority)
    caller = with_chain(minted, authority)  # the minter sends its own certificate along
    async with running(yard) as node:
        assert await hear(node.port, authority) == "hello authority"
        assert await asyncio.to_thread(caller.hear, node.port) == "TLSV1_ALERT_UNKNOWN_CA"
        refused = await node.hears("refused")
        assert (refused.code, refused.fingerprint) == ("unknown", str(minted.certificate.fingerprint))


@on_loops("uvloop")
async def test_pinned_leaf_behind_a_strangers_leaf_admits_nobody(yard: Yard) -> None:
    """What a stranger sends after its own leaf is decoration."""
    yard.pin("alice")
    mallory = mint("alice")
    caller = with_chain(mallory, identity("alice"))
    async with running(yard) as node:
        assert await asyncio.to_thread(caller.hear, node.port) == "TLSV1_ALERT_UNKNOWN_CA"
        assert (await node.hears("refused")).fingerprint == str(mallory.certificate.fingerprint)
        assert await hear(node.port, identity("alice")) == "hello alice"


def same_but(original: Identity, key: ec.EllipticCurvePrivateKey) -> Identity:
    """A certificate with everything that `original` says, over another key."""
    like = x509.load_der_x509_certificate(original.certificate.der)
    builder = (
        x509.CertificateBuilder(like.issuer, like.subject, key.public_key(), like.serial_number)
        .not_valid_before(like.not_valid_before_utc)
        .not_valid_after(like.not_valid_after_utc)
    )
    for extension in like.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return Identity(key, Certificate(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)))


@on_loops("uvloop")
async def test_same_subject_and_serial_with_another_key_is_refused(yard: Yard) -> None:
    alice = yard.pin("alice")
    clone = same_but(alice, ec.generate_private_key(ec.SECP256R1()))
    assert (clone.certificate.subject, clone.certificate.serial) == (alice.certificate.subject, alice.certificate.serial)
    async with running(yard) as node:
        assert await hear(node.port, clone) == "TLSV1_ALERT_UNKNOWN_CA"
        assert await hear(node.port, alice) == "hello alice"


@on_loops("uvloop")
async def test_same_key_in_another_certificate_is_admitted_only_where_the_key_is_pinned(yard: Yard) -> None:
    alice, bob = yard.pin("alice"), yard.pin("bob", settings='pin = "key"')
    renewed = {}
    for one in (alice, bob):
        assert isinstance(one.key, ec.EllipticCurvePrivateKey)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "renewed")])
        made = (
            x509.CertificateBuilder(name, name, one.key.public_key(), 1)
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .sign(one.key, hashes.SHA256())
        )
        renewed[one] = Identity(one.key, Certificate(made.public_bytes(Encoding.DER)))
    async with running(yard) as node:
        assert await hear(node.port, renewed[alice]) == "TLSV1_ALERT_UNKNOWN_CA"
        assert await hear(node.port, renewed[bob]) == "hello bob"
        assert await hear(node.port, identity("stranger")) == "TLSV1_ALERT_UNKNOWN_CA"


@on_loops("uvloop")
async def test_peers_with_the_same_subject_are_told_apart(yard: Yard) -> None:
    made = {name: mint("localhost") for name in ("a", "b", "c")}
    yard.pin("a", made["a"])
    yard.pin("b", made["b"])
    async with running(yard) as node:
        assert await hear(node.port, made["a"]) == "hello a"
        assert await hear(node.port, made["b"]) == "hello b"
        assert await hear(node.port, made["c"]) == "TLSV1_ALERT_UNKNOWN_CA"


@pytest.mark.parametrize(
    ("since", "until", "heard", "code"),
    [
        (-2 * DAY, -DAY, "SSLV3_ALERT_CERTIFICATE_EXPIRED", "expired"),
        (-2 * DAY, timedelta(minutes=-1), "SSLV3_ALERT_CERTIFICATE_EXPIRED", "expired"),
        (DAY, 2 * DAY, "SSLV3_ALERT_BAD_CERTIFICATE", "not-yet-valid"),
        (-2 * DAY, timedelta(hours=1), "hello alice", None),
        (timedelta(minutes=-1), DAY, "hello alice", None),
    ],
)
@on_loops("uvloop")
async def test_dates_count(yard: Yard, since: timedelta, until: timedelta, heard: str, code: str | None) -> None:
    alice = yard.pin("alice", mint("alice", since=NOW + since, until=NOW + until))
    async with running(yard) as node:
        assert await hear(node.port, alice) == heard
        if code:
            assert (await node.hears("refused", peer="alice")).code == code


@pytest.mark.parametrize(
    ("settings", "heard"),
    [
        ('from = ["127.0.0.0/8"]', "hello alice"),
        ('from = ["10.0.0.0/8", "::1"]', "TLSV1_ALERT_UNKNOWN_CA"),
        ("until = 2999-01-01", "hello alice"),
        ("until = 9999-12-31", "hello alice"),
        ("until = 2020-01-01", "TLSV1_ALERT_UNKNOWN_CA"),
        ("max_connections = 1", "hello alice"),
        ("nonsense = 1", "TLSV1_ALERT_UNKNOWN_CA"),
        ('from = ["10.0.0.0/33"]', "TLSV1_ALERT_UNKNOWN_CA"),
    ],
)
@on_loops("uvloop")
async def test_what_is_noted_about_a_peer_restricts_it(yard: Yard, settings: str, heard: str) -> None:
    """Notes that cannot be read admit nobody by that name: the restriction in them is not known."""
    alice = yard.pin("alice", settings=settings)
    yard.pin("bob")
    async with running(yard) as node:
        assert await hear(node.port, alice) == heard
        assert await hear(node.port, identity("bob")) == "hello bob"


@on_loops("uvloop")
async def test_from_tells_addresses_apart(yard: Yard) -> None:
    alice = yard.pin("alice", settings='from = ["127.0.0.2/32"]')
    async with running(yard) as node:
        assert await hear(node.port, alice, source="127.0.0.2") == "hello alice"
        assert await hear(node.port, alice, source="127.0.0.3") == "TLSV1_ALERT_UNKNOWN_CA"
        assert (await node.hears("refused")).code == "not-from-here"


@on_loops("uvloop")
async def test_peer_has_as_many_connections_as_it_may(yard: Yard) -> None:
    alice = yard.pin("alice", settings="max_connections = 2")
    async with running(yard) as node:
        caller = Caller(alice)
        held = [await asyncio.to_thread(caller.open, node.port) for _ in range(2)]
        await node.until(lambda: len(node.server.live) == 2)
        assert await hear(node.port, alice) == "TLSV1_ALERT_UNKNOWN_CA"
        assert (await node.hears("refused")).code == "too-many"
        held.pop().close()
        await node.until(lambda: len(node.server.live) == 1)
        assert await hear(node.port, alice) == "hello alice"
        held.pop().close()


@on_loops("uvloop")
async def test_simultaneous_handshakes_do_not_exceed_the_number_of_connections(yard: Yard) -> None:
    """All pass the callback while nobody is in yet; the second decision counts."""
    alice = yard.pin("alice", settings="max_connections = 2")
    async with running(yard) as node:
        caller = Caller(alice)
        sockets = await asyncio.gather(
            *(asyncio.to_thread(caller.open, node.port) for _ in range(8)), return_exceptions=True
        )
        await node.until(lambda: len(node.told("admitted")) + len(node.told("refused")) == 8)
        assert len(node.told("admitted")) == 2
        for tls in sockets:
            if not isinstance(tls, BaseException):
                tls.close()


@pytest.mark.parametrize(
    ("policy", "heard"),
    [
        (Policy("db", frozenset({"alice"})), "hello alice"),
        (Policy("db", frozenset({"bob"})), "TLSV1_ALERT_UNKNOWN_CA"),
        (Policy("db", frozenset()), "TLSV1_ALERT_UNKNOWN_CA"),
        (Policy("db", frozenset(), frozenset({"ci"})), "hello alice"),
        (Policy("db", frozenset(), frozenset({"alice"})), "TLSV1_ALERT_UNKNOWN_CA"),
    ],
)
@on_loops("uvloop")
async def test_service_is_for_those_on_its_list(yard: Yard, policy: Policy, heard: str) -> None:
    alice = yard.pin("alice", settings='tags = ["ci"]')
    async with running(yard, policy=policy) as node:
        assert await hear(node.port, alice) == heard
        if not heard.startswith("hello"):
            assert (await node.hears("refused", peer="alice")).code == "not-allowed"


@on_loops("uvloop")
async def test_empty_or_missing_directory_admits_nobody(yard: Yard) -> None:
    async with running(yard) as node:
        assert await hear(node.port, identity("alice")) == "TLSV1_ALERT_UNKNOWN_CA"
        yard.path.rmdir()
        await node.hears("problem", code="no-directory")
        assert await hear(node.port, identity("alice")) == "TLSV1_ALERT_UNKNOWN_CA"
        yard.path.mkdir()
        yard.pin("alice")
        await node.hears("peer-added", peer="alice")
        assert await hear(node.port, identity("alice")) == "hello alice"


UNREADABLE = """
import os, sys
from pathlib import Path
from peerauth.store.peerdir import PeerDirectory
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for path in sys.argv[1:]:
    directory = PeerDirectory(Path(path))
    print(sorted(peer.name for peer in directory.refresh()), [problem.code for problem in directory.problems])
"""


def test_unreadable_directory_admits_nobody_and_an_unreadable_file_not_its_peer() -> None:
    """Seen by another user, because nothing is unreadable to root."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        root.chmod(0o755)
        for name in ("open", "shut", "partly"):
            yard = Yard(root / name)
            yard.pin("alice")
            yard.pin("bob")
        (root / "shut").chmod(0o000)
        (root / "partly" / "alice.crt").chmod(0o000)
        words = [sys.executable, "-c", UNREADABLE, *(str(root / name) for name in ("open", "shut", "partly"))]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        finally:
            (root / "shut").chmod(0o755)
    assert done.stdout.splitlines() == [
        "['alice', 'bob'] []",
        "[] ['no-directory']",
        "['bob'] ['unreadable']",
    ], done.stderr

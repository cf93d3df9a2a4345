"""The truth table of the one function that says who is trusted."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.trust.decision import Admitted, Code, Refused, admitted_until, decide
from peerauth.trust.peers import NO_SETTINGS, Peer, PeerSet, PeerSettings
from peerauth.trust.policy import EVERY_PEER, Policy
from tests.support.dropin import DAY, NOW, mint
from tests.support.engine import identity

ALICE = identity("alice").certificate
PEER = Peer("alice", (ALICE.fingerprint,), PeerSettings(tags=("ci",)))
SECOND = timedelta(seconds=1)
REMOTE = IPv4Address("10.1.2.3")


def code(
    der: bytes | None = ALICE.der,
    peer: Peer | None = PEER,
    policy: Policy = EVERY_PEER,
    remote: IPv4Address | IPv6Address | None = REMOTE,
    now: datetime = NOW,
    live: int = 0,
) -> Code | None:
    decision = decide(der, PeerSet.of([peer] if peer else []), policy, remote, now=now, live=live)
    return None if isinstance(decision, Admitted) else decision.code


def with_settings(**settings: object) -> Peer:
    return replace(PEER, settings=replace(PEER.settings, **settings))  # type: ignore[arg-type]


def test_nothing_wrong_is_admitted_as_that_peer() -> None:
    decision = decide(ALICE.der, PeerSet.of([PEER]), now=NOW)
    assert decision == Admitted(PEER, ALICE.fingerprint)


@pytest.mark.parametrize("der", [None, b"", b"junk", identity("bob").certificate.der, ALICE.der + b"\0", ALICE.der[:-1]])
def test_anything_but_the_very_bytes_is_refused(der: bytes | None) -> None:
    assert code(der) is (Code.NO_CERTIFICATE if der is None else Code.UNKNOWN)


def test_nobody_is_admitted_by_an_empty_set() -> None:
    assert code(peer=None) is Code.UNKNOWN


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (ALICE.not_after, None),
        (ALICE.not_after + SECOND, Code.EXPIRED),
        (ALICE.not_before, None),
        (ALICE.not_before - SECOND, Code.NOT_YET_VALID),
    ],
)
def test_first_and_last_second_are_valid(now: datetime, expected: Code | None) -> None:
    assert code(now=now) is expected


@pytest.mark.parametrize(
    ("until", "expected"), [(NOW + SECOND, None), (NOW, Code.UNTIL_PASSED), (NOW - DAY, Code.UNTIL_PASSED)]
)
def test_until_is_the_first_moment_of_refusal(until: datetime, expected: Code | None) -> None:
    assert code(peer=with_settings(until=until)) is expected


@pytest.mark.parametrize(("retired", "expected"), [(NOW + SECOND, None), (NOW, Code.RETIRED), (NOW - DAY, Code.RETIRED)])
@pytest.mark.parametrize("by", ["pin", "key"])
def test_retired_is_the_first_moment_of_refusal(by: str, retired: datetime, expected: Code | None) -> None:
    if by == "pin":
        assert code(peer=with_settings(retire=((ALICE.fingerprint, retired),))) is expected
    else:
        peer = with_settings(pin="key", retire=((ALICE.key_fingerprint, retired),))
        assert code(peer=replace(peer, keys=(ALICE.key_fingerprint,))) is expected
        assert code(peer=replace(peer, pins=(), keys=(ALICE.key_fingerprint,))) is expected


def test_a_keys_date_counts_where_the_key_is_pinned_and_another_pins_date_never() -> None:
    assert code(peer=with_settings(retire=((ALICE.key_fingerprint, NOW),))) is None
    other = identity("bob").certificate.fingerprint
    assert code(peer=with_settings(retire=((other, NOW),))) is None


def test_a_certificate_is_admitted_until_the_first_of_its_limits() -> None:
    def until(**settings: object) -> datetime:
        decision = decide(ALICE.der, PeerSet.of([with_settings(**settings)]), now=NOW)
        assert isinstance(decision, Admitted)
        return admitted_until(decision, ALICE.der)

    assert until() - ALICE.not_after == timedelta(microseconds=1)
    assert until(until=NOW + DAY) == NOW + DAY
    assert until(until=NOW + DAY, retire=((ALICE.fingerprint, NOW + SECOND),)) == NOW + SECOND


@pytest.mark.parametrize(
    ("source", "remote", "expected"),
    [
        ("10.0.0.0/8", "10.1.2.3", None),
        ("10.0.0.0/8", "11.1.2.3", Code.NOT_FROM_HERE),
        ("10.0.0.0/8", "::ffff:10.1.2.3", None),
        ("10.0.0.0/8", "::ffff:11.1.2.3", Code.NOT_FROM_HERE),
        ("10.0.0.0/8", "::a01:203", Code.NOT_FROM_HERE),
        ("10.0.0.0/8", None, Code.NOT_FROM_HERE),
        ("2001:db8::/32", "2001:db8::1", None),
        ("2001:db8::/32", "2001:db9::1", Code.NOT_FROM_HERE),
        ("0.0.0.0/0", "2001:db8::1", Code.NOT_FROM_HERE),
        ("::/0", "10.1.2.3", Code.NOT_FROM_HERE),
    ],
)
def test_where_it_comes_from(source: str, remote: str | None, expected: Code | None) -> None:
    peer = with_settings(sources=(ip_network(source),))
    assert code(peer=peer, remote=ip_address(remote) if remote else None) is expected


@pytest.mark.parametrize(
    ("names", "tags", "expected"),
    [
        (None, [], None),
        (["alice"], [], None),
        ([], ["ci"], None),
        ([], [], Code.NOT_ALLOWED),
        (["bob"], ["db"], Code.NOT_ALLOWED),
        (["ci"], ["alice"], Code.NOT_ALLOWED),
    ],
)
def test_whom_a_service_is_for(names: list[str] | None, tags: list[str], expected: Code | None) -> None:
    policy = Policy("db", None if names is None else frozenset(names), frozenset(tags))
    assert code(policy=policy) is expected


@pytest.mark.parametrize(
    ("most", "live", "expected"), [(2, 1, None), (2, 2, Code.TOO_MANY), (2, 3, Code.TOO_MANY), (None, 9999, None)]
)
def test_how_many(most: int | None, live: int, expected: Code | None) -> None:
    assert code(peer=with_settings(max_connections=most), live=live) is expected


def test_key_pin_admits_another_certificate_of_the_same_key_and_its_dates_still_count() -> None:
    fresh = mint("alice")
    by_key = replace(PEER, pins=(), keys=(fresh.certificate.key_fingerprint,), settings=PeerSettings(pin="key"))
    assert code(fresh.certificate.der, by_key) is None
    assert code(fresh.certificate.der, by_key, now=NOW + 5 * DAY) is Code.EXPIRED
    assert code(identity("bob").certificate.der, by_key) is Code.UNKNOWN
    assert code(b"junk", by_key) is Code.MALFORMED


@given(
    data=st.binary(max_size=400) | st.none(),
    keys=st.booleans(),
    live=st.integers(0, 5),
    remote=st.none() | st.ip_addresses(),
    policy=st.sampled_from([EVERY_PEER, Policy("db", frozenset()), Policy("db", frozenset({"alice"}))]),
)
def test_whatever_is_presented_it_neither_raises_nor_admits(
    data: bytes | None, keys: bool, live: int, remote: IPv4Address | IPv6Address | None, policy: Policy
) -> None:
    peer = replace(PEER, keys=(ALICE.key_fingerprint,)) if keys else PEER
    decision = decide(data, PeerSet.of([peer]), policy, remote, now=NOW, live=live)
    assert isinstance(decision, Refused)
    assert decision.reason


@given(place=st.integers(0, len(ALICE.der) - 1), bit=st.integers(0, 7), keys=st.booleans())
def test_one_bit_makes_a_stranger(place: int, bit: int, keys: bool) -> None:
    """Also where the key is pinned: a certificate of that key is admitted, and then it is another one."""
    changed = bytearray(ALICE.der)
    changed[place] ^= 1 << bit
    peer = replace(PEER, keys=(ALICE.key_fingerprint,), settings=PeerSettings(pin="key")) if keys else PEER
    decision = decide(bytes(changed), PeerSet.of([peer]), now=NOW)
    if not keys:
        assert isinstance(decision, Refused)
    elif isinstance(decision, Admitted):
        assert decision.fingerprint != ALICE.fingerprint


def test_two_peers_with_one_certificate_are_the_first_by_name() -> None:
    twins = [Peer(name, (ALICE.fingerprint,)) for name in ("zoe", "adam", "mia")]
    decision = decide(ALICE.der, PeerSet.of(twins), now=NOW)
    assert isinstance(decision, Admitted)
    assert decision.peer.name == "adam"
    assert twins[0].settings == NO_SETTINGS

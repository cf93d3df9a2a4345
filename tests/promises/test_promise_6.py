"""Promise 6: the size of the set costs nothing: what a handshake does is counted, not timed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TypeVar

import pytest

from peerauth.trust.decision import Admitted, Code, Decision, Refused, decide
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import Peer, PeerSet, PeerSettings
from tests.support.dropin import NOW
from tests.support.engine import identity

K = TypeVar("K")
V = TypeVar("V")


class Counted(Mapping[K, V]):
    """A mapping that counts look-ups and cannot be walked through."""

    def __init__(self, held: Mapping[K, V]) -> None:
        self._held = held
        self.looks = 0

    def __getitem__(self, key: K) -> V:
        self.looks += 1
        return self._held[key]

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[K]:
        raise AssertionError("a handshake walked through the whole set")


def many(size: int, pin: str) -> PeerSet:
    settings = PeerSettings(pin="key" if pin == "key" else "cert")
    others = [Peer(f"peer{n}", (Fingerprint(hashlib.sha256(b"%d" % n).digest()),)) for n in range(size)]
    certificate = identity("alice").certificate
    keys = (certificate.key_fingerprint,) if pin == "key" else ()
    return PeerSet.of([*others, Peer("alice", (certificate.fingerprint,), settings, keys)])


@pytest.mark.parametrize("who", ["alice", "stranger"])
@pytest.mark.parametrize("pin", ["cert", "key"])
def test_deciding_takes_as_many_steps_for_one_peer_as_for_twenty_thousand(who: str, pin: str) -> None:
    outcomes: list[tuple[int, int, int, type[Decision]]] = []
    for size in (0, 20_000):
        peers = many(size, pin)
        rows, by_pin, by_key = Counted(peers._rows), Counted(peers._by_pin), Counted(peers._by_key)
        decision = decide(identity(who).certificate.der, PeerSet(rows, by_pin, by_key), now=NOW)
        outcomes.append((by_pin.looks, by_key.looks, rows.looks, type(decision)))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == 1
    assert outcomes[0][1] <= 1
    assert outcomes[0][2] <= 1
    assert outcomes[0][3] is (Admitted if who == "alice" else Refused)


def test_stranger_is_refused_before_its_certificate_is_even_parsed() -> None:
    """Where nobody is pinned by key, a hash and a look-up are all that a stranger gets; the twin is parsed."""
    plain, by_key = many(3, "cert"), many(3, "key")
    junk = b"no certificate at all"
    refused = decide(junk, plain, now=NOW)
    parsed = decide(junk, by_key, now=NOW)
    assert isinstance(refused, Refused)
    assert isinstance(parsed, Refused)
    assert (refused.code, parsed.code) == (Code.UNKNOWN, Code.MALFORMED)


def test_set_of_a_hundred_thousand_still_answers_by_name_and_pin() -> None:
    peers = many(100_000, "cert")
    alice = identity("alice").certificate
    assert len(peers) == 100_001
    assert peers.holder(alice.fingerprint) is peers.get("alice")
    assert len(peers.only("alice")) == 1

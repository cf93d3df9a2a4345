"""What is said of a stranger: who it may be, and the command that admits it."""

from __future__ import annotations

import re
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.errors import printable
from peerauth.trust.decision import Refused, decide
from peerauth.trust.explain import LARGEST, Scene, claimed_name, proposed_name, quoted, refused_client
from peerauth.trust.identity import Identity
from peerauth.trust.peers import NAME, Peer, PeerSet, PeerSettings
from tests.support.dropin import NOW, mint
from tests.support.engine import identity

ALICE, STRANGER = identity("alice"), mint("alice")
NOBODY = PeerSet()


def pinned(address: str | None = None) -> PeerSet:
    return PeerSet.of([Peer("alice", (ALICE.certificate.fingerprint,), PeerSettings(address=address))])


def told(
    who: Identity,
    peers: PeerSet = NOBODY,
    *,
    remote: str = "10.0.0.9",
    reserved: frozenset[str] = frozenset(),
    remembered: bool = True,
) -> tuple[str, str]:
    refused = decide(who.certificate.der, peers, now=NOW)
    assert isinstance(refused, Refused)
    scene = Scene(peers, who.certificate.der, ip_address(remote), reserved, remembered)
    message, hint = refused_client(refused, scene)
    assert hint
    return message, hint


def test_the_command_is_ready_where_the_certificate_is_remembered() -> None:
    message, hint = told(STRANGER)
    pin = str(STRANGER.certificate.fingerprint)
    assert (
        message == f"refused a stranger, who presents {pin}: the certificate is not pinned (unknown); it calls itself alice"
    )
    assert hint.endswith(f": peerauth peer approve {pin[:23]} --name alice")


def test_where_it_is_not_the_file_is_asked_for() -> None:
    _, hint = told(STRANGER, remembered=False)
    assert hint.endswith(f": peerauth peer add FILE --name alice --expect {STRANGER.certificate.fingerprint}")


def test_a_stranger_of_a_peers_name_is_held_against_that_peers_pin() -> None:
    message, hint = told(STRANGER, pinned())
    assert message.endswith(
        f"it calls itself alice, but alice is pinned with another certificate, {ALICE.certificate.fingerprint}"
    )
    assert "somebody may pretend to be alice" in hint
    assert "peerauth peer remove alice; peerauth peer approve " in hint


def test_a_stranger_from_a_peers_address_is_said_to_be() -> None:
    there = pinned("10.0.0.9:8443")
    message, _ = told(mint("bob"), there)
    assert message.endswith(f"its address is the one noted for alice, who is pinned as {ALICE.certificate.fingerprint}")
    assert "noted" not in told(mint("bob"), there, remote="10.0.0.8")[0]
    assert "noted for alice" in told(mint("bob"), pinned("[2001:db8::1]:1"), remote="2001:db8::1")[0]
    assert "noted" not in told(mint("bob"), pinned("unix:/a/b"))[0]


def test_addresses_are_followed_through_changes_of_the_set() -> None:
    first = pinned("10.0.0.9:8443")
    both = first.changed({"aaron": Peer("aaron", (STRANGER.certificate.fingerprint,), PeerSettings(address="10.0.0.9:1"))})
    for peers, who in ((first, "alice"), (both, "aaron"), (both.changed({"aaron": None}), "alice")):
        found = peers.at_host("10.0.0.9")
        assert found is not None
        assert found.name == who
    assert first.changed({"alice": None}).at_host("10.0.0.9") is None


@pytest.mark.parametrize(
    ("claim", "name"),
    [
        ("alice", "alice"),
        ("Carol's Laptop", "carol-s-laptop"),
        ("../../etc/passwd", "etc-passwd"),
        ("日本", "NAME"),
        ("a\x1b[31m", "NAME"),
        ("-rf", "rf"),
        ("; rm -rf ~", "rm--rf"),
    ],
)
def test_a_name_is_proposed_where_what_it_calls_itself_is_near_to_one(claim: str, name: str) -> None:
    assert told(mint(claim))[1].endswith(f" --name {name}")


def test_a_name_that_opens_a_service_is_not_proposed() -> None:
    assert told(mint("backup"), reserved=frozenset({"backup"}))[1].endswith(" --name NAME")
    assert told(mint("backup"), reserved=frozenset({"other"}))[1].endswith(" --name backup")


def test_a_claim_does_not_leave_its_quotes() -> None:
    message, _ = told(mint("bob', but alice is pinned with it, and trusted"), pinned())
    assert "it calls itself 'bob\", but alice is pinned with it, and trusted'" in message
    assert message.count("'") == 2


@given(st.text(min_size=1, max_size=64))
def test_whatever_it_calls_itself_the_text_is_harmless_and_the_command_safe(claim: str) -> None:
    shown = quoted(printable(claim, 64))
    assert shown.isprintable()
    assert NAME.fullmatch(shown) or (shown[0], shown[-1], shown.count("'")) == ("'", "'", 2)
    name = proposed_name(printable(claim, 64))
    assert name is None or NAME.fullmatch(name)


def test_a_certificate_that_is_too_large_or_none_calls_itself_nothing() -> None:
    huge = mint("x" * 60_000)
    assert len(huge.certificate.der) > LARGEST
    assert [claimed_name(der) for der in (huge.certificate.der, b"junk", b"", None)] == [""] * 4
    message, hint = told(huge, remembered=False)
    assert "calls itself" not in message
    assert re.search(r"peer add FILE --expect [0-9A-F:]{95}$", hint)

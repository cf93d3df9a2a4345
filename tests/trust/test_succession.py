"""The rule about statements: what comes of them, and what whoever should not have a say cannot do. Pure, by tables."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerauth.trust.continuity import Kind, Statement
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.identity import KeyType, new_key, self_signed
from peerauth.trust.peers import Acceptance, Peer, PeerSet, PeerSettings
from peerauth.trust.succession import AHEAD, LONGEST_OVERLAP, MOST, Bearer, Outcome, Verdict, judge, leading_from
from tests.support.dropin import NOW, mint
from tests.support.engine import identity
from tests.support.rotating import HOUR, WEEK, compromised, following, fresh, withdrawn

Done = list[tuple[Kind, str, str]]
NAMES = {identity(name).certificate: name for name in (*"abcdexy", "bob")}


def fingerprint(name: str) -> Any:  # noqa: ANN401 - a Fingerprint
    return identity(name).certificate.fingerprint


def alice(*pins: str, **settings: Any) -> Peer:  # noqa: ANN401 - the fields of PeerSettings
    """The peer alice with these pins; `follows` and `retire` by the names of identities."""
    for key, value in (("follows", fingerprint), ("retire", lambda moment: moment)):
        settings[key] = tuple((fingerprint(one), value(other)) for one, other in settings.get(key, {}).items())
    keys = tuple(identity(pin).certificate.key_fingerprint for pin in pins) if settings.get("pin") == "key" else ()
    return Peer("alice", tuple(fingerprint(pin) for pin in pins), PeerSettings(**settings), keys)


def verdict(
    said: Sequence[Statement],
    *pins: str,
    by: str = "a",
    accept: Acceptance = "auto",
    now: datetime = NOW,
    peer: Peer | None = None,
    **settings: Any,  # noqa: ANN401 - the fields of PeerSettings
) -> Verdict:
    peers = PeerSet.of([peer or alice(*pins, **settings), Peer("bob", (fingerprint("bob"),))])
    return judge(said, peers, Bearer(identity(by).certificate.der), accept, now)


def done(found: Verdict) -> Done:
    return [(step.kind, NAMES[step.old], NAMES[step.new]) for step in found.steps]


AB, BC, CD = following("a", "b", -3), following("b", "c", -2), following("c", "d", -1)


def test_the_next_certificate_is_pinned_beside_the_old_one_which_has_a_date() -> None:
    found = verdict([AB], "a")
    assert (found.outcome, done(found), found.question) == (Outcome.ACCEPTED, [(Kind.NEXT, "a", "b")], None)
    assert (found.steps[0].retire, found.steps[0].issued, found.peer) == (AB.retire, AB.issued, "alice")


@pytest.mark.parametrize(
    ("said", "by", "outcome", "steps"),
    [
        ([AB, BC], "c", Outcome.ACCEPTED, [(Kind.NEXT, "a", "b"), (Kind.NEXT, "b", "c")]),
        ([AB, BC, CD], "c", Outcome.ACCEPTED, [(Kind.NEXT, "a", "b"), (Kind.NEXT, "b", "c"), (Kind.NEXT, "c", "d")]),
        ([AB, withdrawn("a", "b", -2)], "a", Outcome.ACCEPTED, [(Kind.WITHDRAWN, "a", "b")]),
        (
            [AB, withdrawn("a", "b", -2), following("a", "c", -1)],
            "c",
            Outcome.ACCEPTED,
            [(Kind.WITHDRAWN, "a", "b"), (Kind.NEXT, "a", "c")],
        ),
        ([AB, compromised("b", "c", -2)], "c", Outcome.ASKED, [(Kind.COMPROMISED, "b", "c")]),
        ([compromised("a", "b", -2)], "b", Outcome.ASKED, [(Kind.COMPROMISED, "a", "b")]),
        ([compromised("a", "b", -2), following("b", "c", -1)], "c", Outcome.ASKED, [(Kind.COMPROMISED, "a", "b")]),
        ([BC], "c", Outcome.REFUSED, []),
        ([AB, CD], "d", Outcome.REFUSED, []),
        ([BC, AB], "c", Outcome.REFUSED, []),
        ([AB, following("b", "c", -3)], "c", Outcome.REFUSED, []),
        ([AB, following("b", "c", -4)], "c", Outcome.REFUSED, []),
        ([AB, following("b", "a", -2)], "a", Outcome.REFUSED, []),
        ([AB, withdrawn("a", "b", -2), following("a", "b", -1)], "b", Outcome.REFUSED, []),
        ([AB, AB], "b", Outcome.REFUSED, []),
        ([], "a", Outcome.REFUSED, []),
    ],
)
def test_a_chain_counts_as_a_whole_or_not_at_all(said: list[Statement], by: str, outcome: Outcome, steps: Done) -> None:
    found = verdict(said, "a", by=by)
    assert (found.outcome, done(found)) == (outcome, steps), found.reason


def test_what_is_pinned_says_where_in_the_chain_we_are() -> None:
    for pins, steps in (
        (("a",), [(Kind.NEXT, "a", "b"), (Kind.NEXT, "b", "c")]),
        (("b",), [(Kind.NEXT, "b", "c")]),
        (("c",), []),
    ):
        found = verdict([AB, BC], *pins, by="c")
        assert (found.outcome, done(found)) == (Outcome.ACCEPTED, steps)


def test_what_was_done_is_not_done_again_and_what_was_interrupted_is() -> None:
    settled: dict[str, Any] = {"rotated": AB.issued, "retire": {"a": AB.retire}, "follows": {"b": "a"}}
    assert verdict([AB], "a", "b", **settled) == Verdict(Outcome.ACCEPTED, peer="alice")
    assert done(verdict([AB], "a", "b")) == [(Kind.NEXT, "a", "b")]


@pytest.mark.parametrize("by", ["a", "b", "c"])
def test_whoever_is_in_the_chain_may_bring_it(by: str) -> None:
    assert verdict([AB, BC], "a", by=by).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("by", ["x", "bob", "d"])
def test_nobody_else_may_bring_it(by: str) -> None:
    found = verdict([AB, BC], "a", by=by)
    assert (found.outcome, found.steps) == (Outcome.REFUSED, ())


def test_a_key_that_was_taken_back_brings_nothing() -> None:
    chain = [AB, withdrawn("a", "b", -2), following("a", "c", -1)]
    assert verdict(chain, "a", by="b").outcome is Outcome.REFUSED
    assert verdict(chain, "a", by="c").outcome is Outcome.ACCEPTED


def test_another_pin_of_the_same_peer_may_bring_it_while_it_is_admitted() -> None:
    assert verdict([AB], "a", "x", by="x").outcome is Outcome.ACCEPTED
    assert verdict([AB], "a", "x", by="x", retire={"x": NOW}).outcome is Outcome.REFUSED


def test_nothing_is_said_about_two_peers_at_once() -> None:
    found = verdict([following("a", "bob", -1)], "a")
    assert (found.outcome, found.steps, found.reason) == (
        Outcome.REFUSED,
        (),
        "the statements are about certificates of another peer",
    )


def test_of_a_server_only_what_is_about_the_peer_that_was_meant_counts() -> None:
    peers = PeerSet.of([alice("a"), Peer("bob", (fingerprint("bob"),))])
    for meant, outcome in (("alice", Outcome.ACCEPTED), ("bob", Outcome.REFUSED)):
        bearer = Bearer(identity("b").certificate.der, meant=meant)
        assert judge([AB], peers, bearer, "auto", NOW).outcome is outcome


@pytest.mark.parametrize(
    ("remote", "outcome"), [("10.1.1.1", Outcome.ACCEPTED), ("11.1.1.1", Outcome.REFUSED), (None, Outcome.REFUSED)]
)
def test_a_peer_speaks_from_where_it_may_come_from(remote: str | None, outcome: Outcome) -> None:
    peers = PeerSet.of([alice("a", sources=(ip_network("10.0.0.0/8"),))])
    bearer = Bearer(identity("a").certificate.der, remote=ip_address(remote) if remote else None)
    assert judge([AB], peers, bearer, "auto", NOW).outcome is outcome


@pytest.mark.parametrize(
    ("settings", "now"),
    [
        ({"retire": {"a": NOW}}, NOW),
        ({"until": NOW}, NOW),
        ({}, identity("a").certificate.not_after + timedelta(seconds=1)),
    ],
    ids=["retired", "until passed", "expired"],
)
def test_a_certificate_that_is_not_admitted_endorses_nobody(settings: dict[str, Any], now: datetime) -> None:
    later = fresh(Kind.NEXT, identity("a"), mint("later", until=now + 9 * WEEK), now - HOUR)
    peers = PeerSet.of([alice("a", **settings)])
    found = judge([later], peers, Bearer(later.new.der), "auto", now)
    assert (found.outcome, found.steps) == (Outcome.REFUSED, ())
    before = judge([later], PeerSet.of([alice("a")]), Bearer(later.new.der), "auto", now - 2 * timedelta(seconds=1))
    assert before.outcome is Outcome.ACCEPTED


def test_a_successor_that_has_expired_is_not_pinned() -> None:
    short = mint("short", since=NOW - 2 * WEEK, until=NOW)
    chain = [fresh(Kind.NEXT, identity("a"), short, NOW - WEEK)]
    for now, outcome in ((NOW, Outcome.ACCEPTED), (NOW + timedelta(seconds=1), Outcome.REFUSED)):
        assert verdict(chain, "a", now=now).outcome is outcome
    onward = [*chain, fresh(Kind.NEXT, short, identity("c"), NOW - HOUR)]
    assert verdict(onward, "a", by="c", now=NOW + HOUR).outcome is Outcome.ACCEPTED


# Time


@pytest.mark.parametrize(("ahead", "outcome"), [(AHEAD, Outcome.ACCEPTED), (AHEAD + timedelta(seconds=1), Outcome.REFUSED)])
def test_a_statement_from_the_future_is_refused(ahead: timedelta, outcome: Outcome) -> None:
    assert verdict([fresh(Kind.NEXT, identity("a"), identity("b"), NOW + ahead)], "a").outcome is outcome


def test_an_overlap_that_is_too_long_is_shortened_and_one_that_is_over_means_at_once() -> None:
    for overlap, expected in (
        (timedelta(days=400), NOW + LONGEST_OVERLAP),
        (timedelta(days=30), NOW - HOUR + timedelta(days=30)),
        (timedelta(0), NOW - HOUR),
    ):
        one = fresh(Kind.NEXT, identity("a"), identity("b"), NOW - HOUR, overlap)
        assert verdict([one], "a").steps[0].retire == expected


def test_nothing_goes_back_by_replay() -> None:
    """What was accepted, then withdrawn, is not accepted again; nor is what is older than anything that was followed."""
    gone = withdrawn("a", "b", -2)
    assert verdict([AB], "a", rotated=gone.issued).outcome is Outcome.REFUSED
    assert verdict([AB], "a", rotated=AB.issued).outcome is Outcome.REFUSED
    assert verdict([AB], "a", rotated=AB.issued - HOUR).outcome is Outcome.ACCEPTED
    again = following("a", "b", -1)
    settled: dict[str, Any] = {"rotated": again.issued, "follows": {"b": "a"}, "retire": {"a": again.retire}}
    assert verdict([gone], "a", "b", **settled).outcome is Outcome.REFUSED
    assert done(verdict([withdrawn("a", "b", 0)], "a", "b", **settled)) == [(Kind.WITHDRAWN, "a", "b")]


def test_a_withdrawal_counts_although_nobody_had_heard_of_what_is_withdrawn() -> None:
    found = verdict([withdrawn("a", "b", -2)], "a")
    assert (found.outcome, done(found)) == (Outcome.ACCEPTED, [(Kind.WITHDRAWN, "a", "b")])
    again = verdict([withdrawn("a", "b", -2)], "a", rotated=NOW - 2 * HOUR)
    assert (again.outcome, again.steps) == (Outcome.ACCEPTED, ())


@pytest.mark.parametrize(
    "settings",
    [
        {"follows": {"b": "a"}, "retire": {"a": NOW}},
        {"follows": {"b": "a", "c": "b"}},
        {},
    ],
    ids=["the old one is retired", "it has a successor", "a person pinned it"],
)
def test_what_cannot_be_taken_back_stays(settings: dict[str, Any]) -> None:
    found = verdict([withdrawn("a", "b", 0)], "a", "b", **settings)
    assert (found.outcome, found.steps) == (Outcome.REFUSED, ())
    assert done(verdict([withdrawn("a", "b", 0)], "a", "b", follows={"b": "a"})) == [(Kind.WITHDRAWN, "a", "b")]


# Two successors


def test_of_two_successors_the_first_counts_and_the_second_is_reported() -> None:
    settled: dict[str, Any] = {"rotated": AB.issued, "retire": {"a": AB.retire}, "follows": {"b": "a"}}
    found = verdict([following("a", "x", -1)], "a", "b", by="x", **settled)
    assert (found.outcome, found.steps, found.conflict, found.peer) == (Outcome.REFUSED, (), True, "alice")
    instead = verdict([withdrawn("a", "b", -2), following("a", "x", -1)], "a", "b", by="x", **settled)
    assert (instead.outcome, instead.conflict) == (Outcome.ACCEPTED, False)


# Settings


@pytest.mark.parametrize(
    ("node", "peer", "outcome"),
    [
        ("auto", None, Outcome.ACCEPTED),
        ("ask", None, Outcome.ASKED),
        ("never", None, Outcome.REFUSED),
        ("never", "auto", Outcome.ACCEPTED),
        ("auto", "ask", Outcome.ASKED),
        ("auto", "never", Outcome.REFUSED),
    ],
)
def test_a_peers_setting_goes_before_the_nodes(node: Acceptance, peer: Acceptance | None, outcome: Outcome) -> None:
    found = verdict([AB, BC], "a", accept=node, rotation=peer)
    assert found.outcome is outcome
    assert bool(found.steps) is (outcome is Outcome.ACCEPTED)
    if outcome is Outcome.ASKED:
        assert found.question is not None
        assert (found.question.certificate, found.question.old, found.question.retire) == (BC.new, AB.old, AB.retire)


def test_what_a_person_has_admitted_already_is_not_asked_again() -> None:
    assert done(verdict([AB], "a", "b", accept="ask")) == [(Kind.NEXT, "a", "b")]
    assert verdict([AB], "a", "b", accept="never") == Verdict(Outcome.ACCEPTED, peer="alice")


def test_a_withdrawal_takes_a_question_along() -> None:
    found = verdict([AB, withdrawn("a", "b", -2), following("a", "c", -1)], "a", accept="ask")
    assert (found.outcome, done(found)) == (Outcome.ASKED, [(Kind.WITHDRAWN, "a", "b")])
    assert found.question is not None
    assert found.question.certificate == identity("c").certificate


# A key in other hands

LOST = compromised("a", "b", -1)


@pytest.mark.parametrize("accept", ["auto", "ask", "never"])
@pytest.mark.parametrize("by", ["a", "b", "x", "bob"])
def test_a_lost_key_counts_no_more_whoever_says_so_and_whatever_the_settings(accept: Acceptance, by: str) -> None:
    found = verdict([LOST], "a", by=by, accept=accept)
    assert done(found) == [(Kind.COMPROMISED, "a", "b")]
    assert found.outcome is not Outcome.ACCEPTED


@pytest.mark.parametrize("around", [[BC, LOST], [LOST, AB], [LOST, LOST], [LOST] * (MOST + 1)])
def test_a_lost_key_counts_no_more_in_whatever_disorder_one_hears_of_it(around: list[Statement]) -> None:
    found = verdict(around, "a", by="x")
    assert {step.kind for step in found.steps} == {Kind.COMPROMISED}


def test_the_successor_of_a_lost_key_is_a_persons_to_admit() -> None:
    """Whoever has the key can put their own certificate forward."""
    for accept in ("auto", "ask"):
        found = verdict([LOST], "a", accept=accept)
        assert found.question is not None
        assert found.question.certificate == identity("b").certificate
        assert not any(step.kind is Kind.NEXT for step in found.steps)
    assert verdict([LOST], "a", accept="never").question is None
    assert verdict([LOST], "b", by="b").outcome is Outcome.ACCEPTED  # the person has


def test_a_lost_key_that_is_not_pinned_takes_nothing_away() -> None:
    for pins in ("x", "b"):
        assert not verdict([LOST], pins, rotated=NOW).steps


def test_a_lost_key_from_the_future_blocks_nothing_later() -> None:
    found = verdict([fresh(Kind.COMPROMISED, identity("a"), identity("b"), NOW + 1000 * WEEK)], "a", by="x")
    assert [step.issued for step in found.steps] == [NOW]


def test_what_was_said_with_a_lost_key_in_between_is_skipped() -> None:
    found = verdict([AB, compromised("b", "c", -2)], "a", "b", by="c", follows={"b": "a"})
    assert done(found) == [(Kind.COMPROMISED, "b", "c")]
    assert found.question is not None


# Pinned by key


def another_of(peer: Peer, follows: tuple[tuple[Fingerprint, Fingerprint], ...]) -> Peer:
    """The same peer, of which this was followed."""
    return replace(peer, settings=replace(peer.settings, follows=follows))


def test_where_the_key_is_pinned_any_certificate_over_it_speaks_for_it() -> None:
    key = new_key(KeyType.P256)
    one, two = self_signed(key, "one", NOW), self_signed(key, "two", NOW)
    said = fresh(Kind.NEXT, two, identity("b"), NOW - HOUR)
    settings = PeerSettings(pin="key")
    peer = Peer("alice", (one.certificate.fingerprint,), settings, (one.certificate.key_fingerprint,))
    assert verdict([said], peer=peer, by="b").outcome is Outcome.ACCEPTED
    pins = (one.certificate.fingerprint, fingerprint("c"))
    follows = ((fingerprint("c"), one.certificate.fingerprint),)
    another = verdict([said], peer=replace(peer, pins=pins, settings=replace(settings, follows=follows)), by="b")
    assert (another.outcome, another.conflict) == (Outcome.REFUSED, True)
    both = (one.certificate.fingerprint, two.certificate.fingerprint, fingerprint("c"))
    keys = (peer.keys[0], peer.keys[0], identity("c").certificate.key_fingerprint)
    beside = replace(another_of(peer, follows), pins=both, keys=keys)
    third = verdict([said], peer=beside, by="b")
    assert (third.outcome, third.conflict) == (Outcome.REFUSED, True)
    own = replace(beside, keys=(keys[2], *keys[1:]))  # the one that was followed is over a key of its own
    assert verdict([said], peer=own, by="b").outcome is Outcome.ACCEPTED
    renewed = ((two.certificate.fingerprint, one.certificate.fingerprint),)  # nobody else's: it is the same key
    assert verdict([said], peer=another_of(beside, renewed), by="b").outcome is Outcome.ACCEPTED
    by_certificate = replace(peer, settings=PeerSettings(), keys=())
    assert verdict([said], peer=by_certificate, by="b").outcome is Outcome.REFUSED


# Bounds


def test_a_thousand_links_are_refused_and_as_many_as_there_may_be_are_not() -> None:
    names = [f"link-{number}" for number in range(MOST + 2)]
    chain = [following(old, new, number - 50) for number, (old, new) in enumerate(itertools.pairwise(names))]
    assert len(verdict(chain[:MOST], "link-0", by=names[MOST]).steps) == MOST
    assert verdict(chain, "link-0", by=names[-1]).outcome is Outcome.REFUSED
    assert verdict([AB] * 1000, "a").outcome is Outcome.REFUSED


@st.composite
def histories(draw: st.DrawFn) -> list[Statement]:
    """Some statements, mostly from one certificate to the next, sometimes not."""
    said: list[Statement] = []
    current = "a"
    for hours in range(-6, draw(st.integers(-5, 0))):
        old = current if draw(st.integers(0, 7)) else draw(st.sampled_from("abcd"))
        new = draw(st.sampled_from(sorted({*"abcd"} - {old})))
        kind = draw(st.sampled_from([following, following, following, withdrawn, compromised]))
        if kind is withdrawn and said and draw(st.booleans()):
            old, new = NAMES[said[-1].old], NAMES[said[-1].new]
        said.append(kind(old, new, hours if draw(st.integers(0, 7)) else -6))
        current = old if kind is withdrawn else new
    return said


@settings(deadline=None, max_examples=400)
@given(histories(), st.sampled_from("abcdx"), st.sampled_from(["auto", "ask", "never"]))
def test_nothing_is_ever_pinned_that_no_unbroken_chain_from_a_pin_leads_to(
    said: list[Statement], by: str, accept: Acceptance
) -> None:
    """Statements in any order and number, brought by anybody, under any settings."""
    found = verdict(said, "a", by=by, accept=accept)
    reached = {"a"}
    for kind, old, new in done(found):
        if kind is Kind.NEXT:
            assert accept == "auto"
            assert old in reached, "nobody who is known has endorsed it"
            assert not any(s.kind is Kind.COMPROMISED and NAMES[s.old] in (old, new) for s in said)
            assert by != "x"
            reached.add(new)
    lost = any(one.kind is Kind.COMPROMISED and NAMES[one.old] == "a" for one in said)
    assert ((Kind.COMPROMISED, "a") in [step[:2] for step in done(found)]) is lost
    if found.outcome is Outcome.REFUSED:
        assert {kind for kind, _, _ in done(found)} <= {Kind.COMPROMISED}


# What a node tells of itself


def test_the_way_from_a_known_certificate_begins_with_it() -> None:
    own = [AB, withdrawn("a", "b", -2), following("a", "c", -1), following("c", "d", 0)]
    for known, first in (("a", 0), ("b", 1), ("c", 3)):
        assert leading_from(own, fingerprint(known)) == tuple(own[first:])
    assert (
        leading_from(own, fingerprint("d"))
        == leading_from(own, fingerprint("x"))
        == leading_from([], fingerprint("a"))
        == ()
    )
    for known in "abc":
        found = verdict(leading_from(own, fingerprint(known)), known, by="d")
        assert (found.outcome, known == "b") in ((Outcome.ACCEPTED, False), (Outcome.REFUSED, True))

"""What is under way: who is to be told what, whose word counts, and when it is time to switch. Pure."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.errors import BadInput
from peerauth.trust.continuity import Kind, Statement, endorse
from peerauth.trust.errands import Errand, Outcome, Phase, Reply, Succession, dump, load, perhaps_heard
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.identity import Identity, KeyType, new_key, self_signed
from peerauth.trust.peers import Peer, PeerSet, PeerSettings

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DEADLINE = NOW + timedelta(days=7)
PINS = [Fingerprint(bytes([number]) * 32) for number in range(4)]


@cache
def identity(number: int) -> Identity:
    return self_signed(new_key(KeyType.ED25519), "node", NOW + timedelta(seconds=number))


@cache
def statement(kind: Kind = Kind.NEXT, old: int = 0, new: int = 1) -> Statement:
    return endorse(kind, identity(old), identity(new), NOW, DEADLINE)


def peer(name: str, pin: Fingerprint = PINS[0], address: str | None = "127.0.0.1:1") -> Peer:
    return Peer(name, (pin,), PeerSettings(address=address))


def said(outcome: Outcome, pin: Fingerprint | None = PINS[0], after: int = 0) -> Reply:
    return Reply(outcome, NOW + timedelta(seconds=after), pin)


def telling(**told: Reply) -> Succession:
    return Succession(Phase.TELLING, (Errand(statement(), told),), DEADLINE)


def test_it_is_time_when_all_have_accepted_or_at_the_deadline() -> None:
    peers = PeerSet.of([peer("alice"), peer("bob", PINS[1])])
    yes = {"alice": said(Outcome.ACCEPTED), "bob": said(Outcome.ACCEPTED, PINS[1])}
    assert telling(**yes).due(peers, NOW)
    for outcome in set(Outcome) - {Outcome.ACCEPTED}:
        assert not telling(**{**yes, "bob": said(outcome, PINS[1])}).due(peers, DEADLINE - timedelta(seconds=1))
        assert telling(**{**yes, "bob": said(outcome, PINS[1])}).due(peers, DEADLINE)
    assert telling().due(PeerSet.of([]), NOW), "who has no peers waits for nobody"
    assert not replace(telling(**yes), phase=Phase.DONE).due(peers, DEADLINE)


def test_a_lost_key_waits_for_nobody() -> None:
    succession = Succession(Phase.TELLING, (Errand(statement(Kind.COMPROMISED)),), DEADLINE)
    assert succession.due(PeerSet.of([peer("alice")]), NOW)


def test_what_somebody_else_under_the_same_name_said_does_not_count() -> None:
    succession = telling(alice=said(Outcome.ACCEPTED))
    assert succession.due(PeerSet.of([peer("alice")]), NOW)
    other = peer("alice", PINS[1])
    assert not succession.due(PeerSet.of([other]), NOW)
    assert succession.outstanding(other) == list(succession.errands)
    both = Peer("alice", (PINS[1], PINS[0]), other.settings)
    assert succession.due(PeerSet.of([both]), NOW), "the pins of a peer that rotates itself"


def test_an_acknowledgement_of_an_earlier_rotation_is_none_of_this_one() -> None:
    first = Errand(statement(), {"alice": said(Outcome.ACCEPTED)})
    second = Errand(statement(old=1, new=2))
    succession = Succession(Phase.TELLING, (first, second), DEADLINE)
    assert not succession.due(PeerSet.of([peer("alice")]), NOW)
    replayed = succession.noted({first.statement.data: {"alice": said(Outcome.ACCEPTED, after=9)}})
    assert replayed.errands[1].told == {}


def test_who_missed_several_is_told_all_from_the_first_on_in_order() -> None:
    first, second = Errand(statement()), Errand(statement(old=1, new=2))
    alice = peer("alice")
    done = Succession(Phase.DONE, (first, second))
    assert done.outstanding(alice) == [first, second]
    knows = done.noted({first.statement.data: {"alice": said(Outcome.ACCEPTED)}})
    assert [errand.statement for errand in knows.outstanding(alice)] == [second.statement]
    odd = done.noted({second.statement.data: {"alice": said(Outcome.ACCEPTED)}})
    assert [errand.statement for errand in odd.outstanding(alice)] == [first.statement, second.statement]


@pytest.mark.parametrize("outcome", [Outcome.ASKED, Outcome.REFUSED])
def test_before_the_switch_a_peer_is_asked_again_until_it_accepts_and_after_it_any_answer_will_do(outcome: Outcome) -> None:
    alice = peer("alice")
    succession = telling(alice=said(outcome))
    assert succession.outstanding(alice)
    assert not replace(succession, phase=Phase.DONE).outstanding(alice)


def test_what_is_known_is_not_undone_by_what_says_less() -> None:
    errand = Errand(statement())
    for order in (
        [Outcome.ACCEPTED, Outcome.UNREACHABLE, Outcome.HEARD, Outcome.UNANSWERED],
        [Outcome.ASKED, Outcome.HEARD, Outcome.UNREACHABLE],
        [Outcome.HEARD, Outcome.UNANSWERED, Outcome.UNREACHABLE],
    ):
        noted = errand
        for number, outcome in enumerate(order):
            pin = None if outcome is Outcome.UNREACHABLE else PINS[0]
            noted = noted.noted({"alice": said(outcome, pin, number)}).noted({"alice": None})
        assert noted.told["alice"] == said(order[0])
    later = errand.noted({"alice": said(Outcome.REFUSED)}).noted({"alice": said(Outcome.ACCEPTED, after=1)})
    assert later.told["alice"].outcome is Outcome.ACCEPTED


def test_whoever_is_about_to_be_told_may_have_heard() -> None:
    peers = PeerSet.of([peer(name, PINS[n]) for n, name in enumerate(("alice", "bob", "carol"))])
    errand = Errand(statement(), {"alice": Reply(Outcome.UNREACHABLE, NOW), "bob": said(Outcome.REFUSED, PINS[1])})
    assert perhaps_heard(errand, peers) == {"carol"}
    assert perhaps_heard(errand.noted({"alice": None}), peers) == {"alice", "carol"}
    client = PeerSet.of([peer("dave", PINS[3], address=None)])
    assert perhaps_heard(errand, client) == frozenset()
    assert perhaps_heard(errand.noted({"dave": said(Outcome.HEARD, PINS[3])}), client) == {"dave"}


def test_what_nobody_waits_for_goes_and_what_is_withdrawn_waits_for_clients_too() -> None:
    alice, dave = peer("alice"), peer("dave", PINS[1], address=None)
    peers = PeerSet.of([alice, dave])
    done = replace(telling(), phase=Phase.DONE)
    assert done.trimmed(peers, NOW) == done
    answered = done.noted({statement().data: {"alice": said(Outcome.REFUSED)}})
    assert answered.trimmed(peers, NOW).errands == (), "a client asks for what is public by itself"
    withdrawn = Errand(statement(Kind.WITHDRAWN), only=frozenset({"dave"}))
    waiting = Succession(Phase.DONE, (withdrawn,))
    assert waiting.trimmed(peers, NOW) == waiting
    assert not list(waiting.missing(peers))
    assert (
        waiting.noted({withdrawn.statement.data: {"dave": said(Outcome.HEARD, PINS[1])}}).trimmed(peers, NOW).errands == ()
    )
    assert waiting.trimmed(PeerSet.of([alice]), NOW).errands == (), "nobody waits for who is no peer any more"


def test_that_a_person_was_asked_is_not_forgotten_at_once() -> None:
    """What they said is not heard, so it does not stand there for ever either."""
    peers, month = PeerSet.of([peer("alice")]), timedelta(days=30)
    asked = replace(telling(), phase=Phase.DONE).noted({statement().data: {"alice": said(Outcome.ASKED)}})
    assert asked.trimmed(peers, NOW + month - timedelta(seconds=1)) == asked
    assert not list(asked.missing(peers)), "it is not told again"
    assert asked.trimmed(peers, NOW + month + timedelta(seconds=1)).errands == ()
    assert asked.noted({statement().data: {"alice": said(Outcome.ACCEPTED, after=1)}}).trimmed(peers, NOW).errands == ()


replies = st.builds(
    Reply,
    st.sampled_from(Outcome),
    st.integers(0, 10**6).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    st.none() | st.sampled_from(PINS),
    st.none() | st.text(max_size=20),
)
errands = st.builds(
    Errand,
    st.sampled_from([statement(), statement(Kind.WITHDRAWN), statement(Kind.COMPROMISED), statement(old=1, new=2)]),
    st.dictionaries(st.sampled_from(["alice", "bob", "carol"]), replies),
    st.none() | st.frozensets(st.sampled_from(["alice", "bob"])),
)


@given(st.sampled_from(Phase), st.lists(errands, min_size=1, max_size=4), st.integers(0, 10**6))
def test_it_comes_back_from_the_file(phase: Phase, held: list[Errand], seconds: int) -> None:
    succession = Succession(phase, tuple(held), NOW + timedelta(seconds=seconds))
    assert load(dump(succession)) == succession


def test_a_file_that_is_damaged_says_so() -> None:
    good = json.loads(dump(telling(alice=said(Outcome.ACCEPTED))))
    assert load(json.dumps(good).encode()).phase is Phase.TELLING
    damage: list[dict[str, object]] = [
        {"phase": "asleep"},
        {"phase": None},
        {"deadline": None},
        {"deadline": "soon"},
        {"deadline": "2026-11-21"},
        {"errands": []},
        {"errands": None},
        {"errands": [{}]},
        {"errands": [{**good["errands"][0], "statement": "{}"}]},
        {"errands": [{**good["errands"][0], "told": {"alice": {"outcome": "yes"}}}]},
        {"errands": [{**good["errands"][0], "only": 5}]},
    ]
    for change in damage:
        with pytest.raises(BadInput) as caught:
            load(json.dumps({**good, **change}).encode())
        assert caught.value.code == "bad-rotation"
    for data in (b"", b"[]", b"\xff", b"[" * 100_000):
        with pytest.raises(BadInput):
            load(data)

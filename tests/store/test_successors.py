"""What waits for a person's word: one certificate for each peer, until it is withdrawn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from peerauth.store.pending import Stranger, ask_person, deny, forget_questions, strangers
from peerauth.store.state import State
from peerauth.trust.succession import Question
from tests.support.dropin import NOW
from tests.support.engine import identity


def question(peer: str, name: str) -> Question:
    return Question(peer, identity(name).certificate, identity("a").certificate, NOW)


def waiting(state: State) -> dict[str | None, Stranger]:
    return {one.successor_of: one for one in strangers(state) if one.denied is None}


def test_the_first_waits_and_another_does_not_take_its_place(tmp_path: Path) -> None:
    state = State(tmp_path)
    assert ask_person(state, question("alice", "b"), "10.0.0.1:5")
    written = state.path("refused").stat().st_mtime_ns
    assert ask_person(state, question("alice", "b"), "10.0.0.2:6")
    assert state.path("refused").stat().st_mtime_ns == written, "it is asked as often as one likes, and written once"
    assert not ask_person(state, question("alice", "x"), "10.0.0.3:7")
    assert ask_person(state, question("bob", "x"), "10.0.0.3:7")
    alice = waiting(state)["alice"]
    assert (alice.address, alice.certificate, alice.retire) == ("10.0.0.1:5", identity("b").certificate.der, NOW)
    assert alice.proven


def test_what_a_person_has_denied_keeps_nobody_from_being_asked_about_another(tmp_path: Path) -> None:
    state = State(tmp_path)
    assert ask_person(state, question("alice", "b"), "10.0.0.1:5")
    deny(state, [identity("b").certificate.fingerprint.digest.hex()], NOW)
    assert ask_person(state, question("alice", "x"), "10.0.0.1:5")
    assert not ask_person(state, question("alice", "b"), "10.0.0.1:5")
    assert waiting(state)["alice"].certificate == identity("x").certificate.der


def test_what_a_person_has_denied_is_not_written_again_however_often_it_comes(tmp_path: Path) -> None:
    state = State(tmp_path)
    names = ("b", "x")
    for name in names:
        assert ask_person(state, question("alice", name), "10.0.0.1:5")
        deny(state, [identity(name).certificate.fingerprint.digest.hex()], NOW)
    before = state.path("refused").stat()
    for name in names * 2:
        assert ask_person(state, question("alice", name), "10.0.0.2:6")
    after = state.path("refused").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert {one.certificate for one in strangers(state)} == {identity(name).certificate.der for name in names}


def test_what_is_withdrawn_waits_no_more_and_nothing_else_is_forgotten(tmp_path: Path) -> None:
    state = State(tmp_path)
    for peer, name in (("alice", "b"), ("bob", "c")):
        ask_person(state, question(peer, name), "10.0.0.1:5")
    forget_questions(state, "alice", [identity("x").certificate.fingerprint])
    assert set(waiting(state)) == {"alice", "bob"}
    forget_questions(state, "alice", [identity("b").certificate.fingerprint])
    assert set(waiting(state)) == {"bob"}
    assert ask_person(state, question("alice", "x"), "10.0.0.1:5")


@pytest.mark.parametrize("junk", ["[]", '{"refusals": 7}', '{"refusals": [{"code": "successor"}]}', "{"])
def test_what_cannot_be_read_is_as_good_as_nothing(tmp_path: Path, junk: str) -> None:
    state = State(tmp_path)
    state.path("refused").parent.mkdir()
    state.path("refused").write_text(junk)
    forget_questions(state, "alice", [identity("b").certificate.fingerprint])
    assert ask_person(state, question("alice", "b"), "10.0.0.1:5")
    assert not ask_person(state, question("alice", "x"), "10.0.0.1:5")


def test_of_several_at_once_one_waits(tmp_path: Path) -> None:
    names = [f"rival-{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: ask_person(State(tmp_path), question("alice", name), "10.0.0.1:5"), names))
    assert found.count(True) == 1

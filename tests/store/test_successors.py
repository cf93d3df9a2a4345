"""What waits for a person's word: one certificate for each peer, until it is withdrawn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from peerauth.store.state import State
from peerauth.store.successors import ask_person, forget_questions
from peerauth.trust.reading import read_certificates
from peerauth.trust.succession import Question
from tests.support.dropin import NOW
from tests.support.engine import identity


def question(peer: str, name: str) -> Question:
    return Question(peer, identity(name).certificate, identity("a").certificate, NOW)


def test_the_first_waits_and_another_does_not_take_its_place(tmp_path: Path) -> None:
    state = State(tmp_path)
    assert ask_person(state, question("alice", "b"), "10.0.0.1:5")
    written = state.path("successors").stat().st_mtime_ns
    assert ask_person(state, question("alice", "b"), "10.0.0.2:6")
    assert state.path("successors").stat().st_mtime_ns == written, "it is asked as often as one likes, and written once"
    assert not ask_person(state, question("alice", "x"), "10.0.0.3:7")
    assert ask_person(state, question("bob", "x"), "10.0.0.3:7")
    waiting = state.read("successors")
    assert waiting["alice"]["address"] == "10.0.0.1:5"
    assert read_certificates(waiting["alice"]["certificate"].encode()) == [identity("b").certificate]


def test_what_is_withdrawn_waits_no_more_and_nothing_else_is_forgotten(tmp_path: Path) -> None:
    state = State(tmp_path)
    for peer in ("alice", "bob"):
        ask_person(state, question(peer, "b"), "10.0.0.1:5")
    forget_questions(state, "alice", [identity("x").certificate.fingerprint])
    assert set(state.read("successors")) == {"alice", "bob"}
    forget_questions(state, "alice", [identity("b").certificate.fingerprint])
    assert set(state.read("successors")) == {"bob"}
    assert ask_person(state, question("alice", "x"), "10.0.0.1:5")


@pytest.mark.parametrize("junk", ["[]", '{"alice": 7}', '{"alice": {"fingerprint": [1]}}', "{"])
def test_what_cannot_be_read_is_as_good_as_nothing(tmp_path: Path, junk: str) -> None:
    state = State(tmp_path)
    state.path("successors").parent.mkdir()
    state.path("successors").write_text(junk)
    forget_questions(state, "alice", [identity("b").certificate.fingerprint])
    assert ask_person(state, question("alice", "b"), "10.0.0.1:5")
    assert not ask_person(state, question("alice", "x"), "10.0.0.1:5")


def test_of_several_at_once_one_waits(tmp_path: Path) -> None:
    names = [f"rival-{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: ask_person(State(tmp_path), question("alice", name), "10.0.0.1:5"), names))
    assert found.count(True) == 1

"""The book of invitations: uses are counted before anything else, never twice, and nobody comes back by one."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from peerauth.errors import BadInput
from peerauth.store.invitations import KEPT, MOST_USES, UNFINISHED, Invitation, Invitations
from peerauth.store.state import State
from peerauth.trust.fingerprint import Fingerprint

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
ID = b"12345678"
ALICE, BOB, CAROL = (Fingerprint(letter * 32) for letter in (b"a", b"b", b"c"))


def invitation(id_: bytes = ID, uses: int = 1, **facts: object) -> Invitation:
    return Invitation(id_, b"v" * 32, NOW, NOW + HOUR, uses, **facts)  # type: ignore[arg-type]


@pytest.fixture
def book(tmp_path: Path) -> Invitations:
    made = Invitations(State(tmp_path))
    made.add(invitation(), NOW)
    return made


def refusal(book: Invitations, who: Fingerprint, now: datetime = NOW) -> str:
    with pytest.raises(BadInput) as error:
        book.count(ID, who, now)
    assert error.value.code == "invitation"
    return error.value.message


def test_an_invitation_is_there_as_it_was_noted(tmp_path: Path) -> None:
    book = Invitations(State(tmp_path))
    noted = invitation(name="db-1", tags=("ci", "x"), uses=1)
    book.add(noted, NOW)
    assert Invitations(State(tmp_path)).all() == [noted]
    assert book.verifier(ID) == b"v" * 32
    assert book.verifier(b"x" * 8) is None


def test_a_use_is_counted_once_and_the_next_one_is_too_late(book: Invitations) -> None:
    book.count(ID, ALICE, NOW)
    assert "1 of 1 times" in refusal(book, BOB)
    book.settle(ID, ALICE, "alice")
    assert "1 of 1 times" in refusal(book, BOB)
    assert book.all()[0].over(NOW) == "used up"


def test_who_was_counted_and_not_pinned_may_finish_for_a_while(book: Invitations) -> None:
    book.count(ID, ALICE, NOW)
    book.count(ID, ALICE, NOW + UNFINISHED - SECOND)
    assert len(book.all()[0].used) == 1
    assert "before" in refusal(book, ALICE, NOW + UNFINISHED)


def test_who_has_joined_does_not_join_again(book: Invitations) -> None:
    book.count(ID, ALICE, NOW)
    book.settle(ID, ALICE, "alice")
    assert "before" in refusal(book, ALICE)


def test_who_was_removed_by_a_person_does_not_finish_either(tmp_path: Path) -> None:
    book = Invitations(State(tmp_path))
    book.add(invitation(uses=2), NOW)
    book.count(ID, ALICE, NOW)
    assert [known.id for known in book.forget([ALICE, CAROL], NOW)] == [ID]
    assert "before" in refusal(book, ALICE)
    book.count(ID, BOB, NOW)
    assert book.forget([ALICE], NOW) == []  # it is used up: no way is left
    assert book.forget([CAROL], NOW) == []


def test_a_use_that_was_given_back_is_there_for_the_next(book: Invitations) -> None:
    book.count(ID, ALICE, NOW)
    book.give_back(ID, ALICE)
    book.count(ID, BOB, NOW)
    assert list(book.all()[0].used) == [BOB]


def test_three_uses_are_three(tmp_path: Path) -> None:
    book = Invitations(State(tmp_path))
    book.add(invitation(uses=3), NOW)
    for who in (ALICE, BOB, CAROL):
        book.count(ID, who, NOW)
    assert "3 of 3 times" in refusal(book, Fingerprint(b"d" * 32))


def test_an_invitation_ends_with_its_hour_and_not_before(book: Invitations) -> None:
    assert "expired" in refusal(book, ALICE, NOW + HOUR)
    book.count(ID, ALICE, NOW + HOUR - SECOND)
    assert "expired" in refusal(book, ALICE, NOW + HOUR)  # finishing has its end, too


def test_what_was_revoked_is_good_for_nobody(book: Invitations) -> None:
    book.count(ID, ALICE, NOW)
    book.give_back(ID, ALICE)
    assert book.revoke([ID, b"unknown."], NOW) == [ID]
    assert book.revoke([ID], NOW) == []
    assert "revoked" in refusal(book, ALICE)


def test_a_race_of_threads_for_one_use_has_one_winner(tmp_path: Path) -> None:
    Invitations(State(tmp_path)).add(invitation(), NOW)

    def race(number: int) -> bool:
        try:
            Invitations(State(tmp_path)).count(ID, Fingerprint(bytes([number]) * 32), NOW)
        except BadInput:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(race, range(8))) == 1


def test_what_is_long_over_is_forgotten_and_their_number_is_bounded(tmp_path: Path) -> None:
    book = Invitations(State(tmp_path))
    for number in range(MOST_USES // 1000):
        book.add(invitation(bytes([number]) * 8, uses=1000), NOW)
    with pytest.raises(BadInput) as error:
        book.add(invitation(), NOW)
    assert error.value.code == "too-many-invitations"
    book.add(invitation(), NOW + HOUR + KEPT)
    assert [known.id for known in book.all()] == [ID]


@pytest.mark.parametrize(
    "damage",
    [
        {"verifier": None},
        {"verifier": "xyz"},
        {"expires": "tomorrow"},
        {"uses": "many"},
        {"uses": None},
        {"name": "../evil"},
        {"tags": None},
        {"used": []},
        {"used": {"short": ["2026-11-21T12:00:00+00:00", None]}},
        {"used": {"61" * 32: ["2026-11-21T12:00:00+00:00"]}},
    ],
    ids=str,
)
def test_what_cannot_be_read_is_no_invitation(book: Invitations, tmp_path: Path, damage: dict[str, object]) -> None:
    path = State(tmp_path).path("invitations")
    noted = json.loads(path.read_text())
    book.count(ID, ALICE, NOW)
    path.write_text(json.dumps({key: {**value, **damage} for key, value in noted.items()}))
    assert book.all() == []
    assert "not there" in refusal(book, BOB)


def test_without_the_file_there_is_no_invitation(book: Invitations, tmp_path: Path) -> None:
    State(tmp_path).path("invitations").unlink()
    assert book.verifier(ID) is None
    assert "not there" in refusal(book, ALICE)

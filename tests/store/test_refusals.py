"""Refusals that are remembered: bounded by source, read with care, and approved or denied by one person at a time."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.errors import BadInput
from peerauth.store.pending import (
    FILE,
    approving,
    ask_person,
    denied,
    deny,
    find,
    forget,
    remember,
    remembered,
    strangers,
    take_back,
)
from peerauth.store.refusals import MOST, MOST_BYTES, Refusal, Table, as_row, read_rows, successor
from peerauth.store.state import State
from peerauth.trust.certificate import Certificate
from peerauth.trust.explain import LARGEST
from peerauth.trust.fingerprint import Fingerprint, parse_prefix
from peerauth.trust.succession import Question
from tests.support.engine import identity
from tests.support.pool import certificates

THEN = datetime(2026, 11, 21, 12, tzinfo=UTC)
ALICE = identity("alice").certificate.der


def refusal(
    certificate: bytes | None = ALICE, source: str = "10.0.0.1", *, at: int = 0, code: str = "unknown", proven: bool = False
) -> Refusal:
    fingerprint = Fingerprint.of(certificate) if certificate else None
    moment = THEN + timedelta(seconds=at)
    said = (f"refused at {at}", "do something")
    return Refusal(
        code, fingerprint, source, "db", f"{source}:{at}", moment, lambda: said, certificate=certificate, proven=proven
    )


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path)


def hexes(*those: bytes) -> list[str]:
    return [Fingerprint.of(one).digest.hex() for one in those]


def test_the_same_is_counted_and_the_latest_is_shown(state: State) -> None:
    remember(state, [refusal(at=5)])
    remember(state, [refusal(at=9, proven=True), refusal(at=2)])
    (found,) = remembered(state)
    assert (found.times, found.since, found.last) == (3, THEN + timedelta(seconds=2), THEN + timedelta(seconds=9))
    assert (found.address, found.told()[0], found.proven) == ("10.0.0.1:9", "refused at 9", True)


def test_another_source_service_code_or_certificate_is_another_refusal(state: State) -> None:
    other = next(iter(certificates(1)))
    remember(state, [refusal(), refusal(source="10.0.0.2"), refusal(other), refusal(code="expired")])
    assert len(remembered(state)) == 4
    assert [stranger.times for stranger in strangers(state)] == [2, 1]


def test_a_flood_pushes_out_its_own(state: State) -> None:
    remember(state, [refusal(source="10.0.0.7")])
    many = list(certificates(3 * MOST))
    for start in range(0, len(many), 100):
        remember(state, [refusal(der, at=start) for der in many[start : start + 100]])
    found = remembered(state)
    assert len(found) == MOST
    assert [one.source for one in found].count("10.0.0.7") == 1
    assert hexes(many[-1])[0] in {one.fingerprint.digest.hex() for one in found if one.fingerprint}


def test_the_certificates_that_are_kept_are_bounded_in_bytes() -> None:
    table = Table()
    table.note(refusal(source="10.0.0.7"))
    for number in range(200):
        big = number.to_bytes(4, "big") + bytes(LARGEST - 4)
        table.note(refusal(big))
        assert sum(one.weight for one in table) <= MOST_BYTES
    assert any(one.source == "10.0.0.7" for one in table)
    assert len(json.dumps([as_row(one) for one in table])) < 2 * MOST_BYTES


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4)), max_size=80))
def test_nobody_who_has_less_than_their_share_loses_anything(visits: list[tuple[int, int]]) -> None:
    """With room for 12 and 5 sources, whoever has two at most keeps them, whatever the others do."""
    table = Table(12)
    seen: dict[int, set[int]] = {}
    for at, (who, source) in enumerate(visits):
        table.note(refusal(who.to_bytes(4, "big"), str(source), at=at))
        seen.setdefault(source, set()).add(who)
        assert len(table) == sum(1 for _ in table) <= 12
    for source, those in seen.items():
        held = sum(1 for one in table if one.source == str(source))
        assert held >= min(len(those), 2)


def test_what_peers_ask_for_outlives_every_flood() -> None:
    table = Table(10)
    new, old = (Certificate(der) for der in certificates(2))
    table.note(successor(Question("alice", new, old, THEN), "10.0.0.1:1", THEN))
    for number, der in enumerate(certificates(50)):
        table.note(refusal(der, f"10.0.1.{number}"))
    assert [one.successor_of for one in table].count("alice") == 1
    assert len(table) == 10


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "00" * 32},
        {"fingerprint": "xx"},
        {"fingerprint": 5},
        {"certificate": "!!"},
        {"certificate": "AAAA"},
        {"times": 0},
        {"times": "1"},
        {"times": 2**60},
        {"last": "yesterday"},
        {"last": "2026-11-21T12:00:00"},
        {"last": None},
        {"peer": "../x"},
        {"peer": 5},
        {"successor_of": "A B"},
        {"message": 5},
        {"message": "x" * 5000},
        {"hint": ["x"]},
        {"proven": "yes"},
        {"source": None},
    ],
)
def test_a_row_that_is_not_as_we_write_it_is_left_out(change: dict[str, object]) -> None:
    good = as_row(refusal())
    assert len(list(read_rows([good]))) == 1
    assert list(read_rows([{**good, **change}])) == []


@pytest.mark.parametrize("rows", [None, 5, {}, "x", [None], [[]], ["x"], [{}]])
def test_a_file_of_another_shape_is_as_good_as_none(state: State, rows: object) -> None:
    with state.changing(FILE) as noted:
        noted["refusals"] = rows
        noted["denied"] = rows
    assert remembered(state) == []
    assert strangers(state) == []
    remember(state, [refusal()])
    deny(state, hexes(ALICE), THEN)
    assert len(remembered(state)) == 1
    assert list(denied(state)) == [Fingerprint.of(ALICE)]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"0" * (9 << 20)])
def test_a_broken_file_is_written_anew(state: State, content: bytes) -> None:
    remember(state, [refusal()])
    state.path(FILE).write_bytes(content)
    assert remembered(state) == []
    remember(state, [refusal(at=1)])
    assert [one.times for one in remembered(state)] == [1]
    state.path(FILE).unlink()
    remember(state, [refusal(at=2)])
    assert len(remembered(state)) == 1


def test_a_certificate_that_is_read_back_is_the_one_that_came(state: State) -> None:
    remember(state, [refusal()])
    (stranger,) = strangers(state)
    assert (stranger.certificate, stranger.claim) == (ALICE, "alice")


def test_whoever_is_meant_is_found_by_the_beginning_of_a_fingerprint(state: State) -> None:
    one, *rest = alike(3)
    remember(state, [refusal(one), *(refusal(der) for der in rest)])
    whole = hexes(one)[0]
    assert find(strangers(state), whole).certificate == one
    with pytest.raises(BadInput) as error:
        find(strangers(state), whole[:1])
    assert error.value.code == "ambiguous"
    assert all(str(Fingerprint.of(der)) in error.value.message for der in (one, *rest))
    with pytest.raises(BadInput) as error:
        find(strangers(state), "f" * 64)
    assert error.value.code == "no-such-stranger"


def alike(count: int) -> list[bytes]:
    """Certificates whose fingerprints begin with the same digit."""
    by_digit: dict[str, list[bytes]] = {}
    for der in certificates(16 * count):
        those = by_digit.setdefault(hexes(der)[0][0], [])
        those.append(der)
        if len(those) == count:
            return those
    raise AssertionError


@pytest.mark.parametrize("text", ["", "3f:a2", "3fa21b9", "g" * 8, "0" * 65, "3f a2 1b 9c " * 40, "\x1b[2J3fa21b9c"])
def test_too_little_of_a_fingerprint_or_something_else_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as error:
        parse_prefix(text)
    assert error.value.code == "bad-prefix"


def test_the_beginning_of_a_fingerprint_is_read_in_every_usual_form() -> None:
    whole = Fingerprint.of(ALICE)
    digits = whole.digest.hex()
    for text in (str(whole), digits, digits.upper(), f"SHA256:{digits}", f"sha256 Fingerprint={whole}"):
        assert parse_prefix(text) == digits
    for text in (str(whole)[:11], digits[:8], f"SHA256:{str(whole)[:11]}", f" {str(whole)[:12]} "):
        assert parse_prefix(text) == digits[:8]
    assert parse_prefix(digits[:9]) == digits[:9]


def test_who_is_denied_stays_denied_although_it_goes_on_trying(state: State) -> None:
    remember(state, [refusal()])
    deny(state, hexes(ALICE), THEN)
    remember(state, [refusal(at=9)])
    (stranger,) = strangers(state)
    assert (stranger.denied, stranger.times) == (THEN, 2)
    assert take_back(state, [hexes(ALICE)[0][:8]]) == [Fingerprint.of(ALICE)]
    assert strangers(state)[0].denied is None


def test_nobody_is_denied_when_one_of_several_is_not_there(state: State) -> None:
    remember(state, [refusal()])
    with pytest.raises(BadInput, match="nobody is pending"):
        deny(state, [*hexes(ALICE), "0" * 8], THEN)
    assert denied(state) == {}
    with pytest.raises(BadInput, match="nobody was denied"):
        take_back(state, hexes(ALICE))


def test_the_denied_are_bounded(state: State) -> None:
    ders = list(certificates(1100))
    for start in range(0, 1100, 275):
        part = ders[start : start + 275]
        remember(state, [refusal(der) for der in part])
        deny(state, hexes(*part), THEN + timedelta(seconds=start))
    kept = denied(state)
    assert len(kept) == 1000
    assert Fingerprint.of(ders[-1]) in kept


def test_the_approved_is_forgotten_as_a_stranger_and_nobody_else_is(state: State) -> None:
    other = next(iter(certificates(1)))
    remember(state, [refusal(), refusal(source="10.0.0.2"), refusal(other), refusal(code="expired")])
    with approving(state, Fingerprint.of(ALICE)):
        pass
    assert {(one.code, one.certificate == other) for one in remembered(state)} == {("unknown", True), ("expired", False)}


def test_an_approval_that_fails_forgets_nothing(state: State) -> None:
    remember(state, [refusal()])

    def fail() -> None:
        with approving(state, Fingerprint.of(ALICE)):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert len(strangers(state)) == 1


def test_of_approve_and_deny_at_once_exactly_one_holds(tmp_path: Path) -> None:
    for number in range(30):
        state = State(tmp_path / str(number))
        remember(state, [refusal()])
        together = threading.Barrier(2)
        pinned: list[bool] = []

        def approve(state: State = state, together: threading.Barrier = together, pinned: list[bool] = pinned) -> str:
            together.wait(10)
            try:
                with approving(state, Fingerprint.of(ALICE)):
                    pinned.append(True)
            except BadInput as error:
                return error.code
            return "approved"

        def refuse(state: State = state, together: threading.Barrier = together) -> str:
            together.wait(10)
            try:
                deny(state, hexes(ALICE), THEN)
            except BadInput as error:
                return error.code
            return "denied"

        with ThreadPoolExecutor(2) as pool:
            approved, refused = pool.submit(approve), pool.submit(refuse)
            came = approved.result(20), refused.result(20)
        assert came in {("approved", "no-such-stranger"), ("denied", "denied")}
        assert bool(pinned) is (came[0] == "approved")
        assert bool(denied(state)) is (came[1] == "denied")


def test_a_successor_waits_under_its_peers_name_and_is_no_refusal(state: State) -> None:
    first, second = certificates(2)
    remember(state, [refusal(second, at=3)])
    assert ask_person(state, Question("alice", Certificate(first), Certificate(second), THEN), "10.0.0.1:5")
    assert [one.code for one in remembered(state)] == ["unknown"], "nobody was refused"
    stranger = next(one for one in strangers(state) if one.successor_of)
    assert (stranger.certificate, stranger.successor_of, stranger.retire) == (first, "alice", THEN)
    assert stranger.old == Fingerprint.of(second)
    forget(state, Fingerprint.of(first))
    assert [one.certificate for one in strangers(state)] == [second]

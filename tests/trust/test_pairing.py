"""The window of pairing: one code, three guesses, two minutes, one peer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.errors import TrustRefused
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.pairing import GUESSES, PATIENCE, SECONDS, Guess, Stage, Window

NOW = 1_800_000_000.0
OPEN = Window("id", "river-tiger-bamboo", NOW + SECONDS, "node", "alice", ("ci",))


def guess(at: float = NOW) -> Guess:
    return Guess("10.0.0.7:40000", Fingerprint.of(b"guesser"), at)


def begun(count: int, at: float = NOW) -> Window:
    window = OPEN
    for _ in range(count):
        window = window.begin(guess(at))
    return window


def refused(make: Any) -> None:  # noqa: ANN401 - whatever is to be refused
    with pytest.raises(TrustRefused) as error:
        make()
    assert error.value.code == "not-pairing"


def test_three_may_begin_and_a_fourth_may_not_whatever_became_of_them() -> None:
    window = begun(GUESSES)
    refused(lambda: window.begin(guess()))
    window = window.advance(0, Stage.WRONG, NOW)
    refused(lambda: window.begin(guess()))


def test_the_last_of_three_may_still_be_right() -> None:
    window = begun(3).advance(0, Stage.WRONG, NOW).advance(1, Stage.WRONG, NOW)
    assert not window.is_settled(NOW)
    window = window.advance(2, Stage.PROVEN, NOW).advance(2, Stage.PINNED, NOW, "alice").advance(2, Stage.PAIRED, NOW)
    assert window.is_settled(NOW)
    assert window.proven is not None
    assert (window.proven.stage, window.proven.name) == (Stage.PAIRED, "alice")


def test_three_wrong_ones_settle_it() -> None:
    window = begun(3)
    for number in range(3):
        assert not window.is_settled(NOW)
        window = window.advance(number, Stage.WRONG, NOW)
    assert window.is_settled(NOW)
    assert window.proven is None


@pytest.mark.parametrize(("when", "well"), [(-0.001, True), (0.0, False), (1.0, False)])
def test_who_comes_or_proves_too_late_is_refused(when: float, well: bool) -> None:
    at = OPEN.until + when
    window = begun(1)
    if well:
        assert len(window.begin(guess(at)).guesses) == 2
        assert window.advance(0, Stage.PROVEN, at).proven
    else:
        refused(lambda: window.begin(guess(at)))
        refused(lambda: window.advance(0, Stage.PROVEN, at))
    assert window.is_settled(at) is not well


def test_one_window_makes_one_peer() -> None:
    window = begun(2).advance(1, Stage.PROVEN, NOW)
    refused(lambda: window.advance(0, Stage.PROVEN, NOW))
    refused(lambda: window.begin(guess()))
    assert window.advance(0, Stage.WRONG, NOW).proven == window.guesses[1]


def test_what_is_proven_in_time_is_finished_after_it() -> None:
    window = begun(1).advance(0, Stage.PROVEN, OPEN.until - 0.1)
    late = OPEN.until - 0.1 + 1
    assert window.advance(0, Stage.PINNED, late, "alice").advance(0, Stage.PAIRED, late).is_settled(late)


def test_a_guess_of_which_nothing_is_heard_is_wrong_after_a_while() -> None:
    window = begun(3)
    assert not window.is_settled(NOW + PATIENCE - 0.01)
    assert window.is_settled(NOW + PATIENCE)
    assert len(window.wrong(NOW + PATIENCE)) == 3


def test_of_a_proven_one_nothing_more_is_waited_for_after_a_while() -> None:
    window = begun(1).advance(0, Stage.PROVEN, NOW)
    assert not window.is_settled(NOW + PATIENCE - 0.01)
    assert window.is_settled(NOW + PATIENCE)
    assert not window.wrong(NOW + PATIENCE)


@given(st.lists(st.tuples(st.integers(-1, 2), st.sampled_from(Stage), st.floats(0, 2 * SECONDS)), max_size=30))
def test_whatever_comes_in_whatever_order_three_begin_and_one_is_proven(steps: list[tuple[int, Stage, float]]) -> None:
    window, wrong = OPEN, set[int]()
    for number, stage, after in steps:
        before = window
        try:
            window = window.begin(guess(NOW + after)) if number < 0 else window.advance(number, stage, NOW + after)
        except (TrustRefused, IndexError):
            assert window == before
        proven = [index for index, one in enumerate(window.guesses) if one.stage not in {Stage.BEGUN, Stage.WRONG}]
        assert len(window.guesses) <= GUESSES
        assert len(proven) <= 1
        assert not wrong & set(proven)  # a wrong one never becomes right
        wrong |= {index for index, one in enumerate(window.guesses) if one.stage is Stage.WRONG}


def test_it_is_the_same_after_json() -> None:
    window = begun(3).advance(0, Stage.WRONG, NOW).advance(1, Stage.PROVEN, NOW).advance(1, Stage.REFUSED, NOW, reason="no")
    for one in (OPEN, window):
        assert Window.from_data(json.loads(json.dumps(one.as_data()))) == one


@pytest.mark.parametrize(
    "change",
    [
        {"guesses": None}, {"guesses": [1]}, {"guesses": [{}]}, {"until": "soon"}, {"until": None}, {"tags": None},
        {"guesses": [{"address": "", "fingerprint": "x", "begun": 0, "stage": "begun", "name": "", "reason": ""}]},
        {"guesses": [{"address": "", "fingerprint": "0" * 64, "begun": 0, "stage": "other", "name": "", "reason": ""}]},
    ],
)  # fmt: skip
def test_what_is_no_window_is_none(change: dict[str, object]) -> None:
    assert Window.from_data(OPEN.as_data()) == OPEN
    assert Window.from_data({**OPEN.as_data(), **change}) is None
    assert Window.from_data({}) is None

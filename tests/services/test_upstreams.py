"""In which order targets are tried: the pure part, on a clock of the test's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peerauth.address import Address
from peerauth.services.upstreams import FIRST_PAUSE_S, LONGEST_PAUSE_S, Upstreams

A, B, C = (Address("127.0.0.1", port) for port in (1, 2, 3))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_each_connection_begins_with_the_next_target_and_goes_on_in_a_circle() -> None:
    upstreams = Upstreams((A, B, C), Clock())
    assert [upstreams.turn() for _ in range(4)] == [(A, B, C), (B, C, A), (C, A, B), (A, B, C)]


def test_one_target_has_every_turn_and_is_never_left_out() -> None:
    upstreams = Upstreams((A,), Clock())
    assert upstreams.turn() is upstreams.turn()
    upstreams.failed(A)
    assert upstreams.turn() == (A,)


def test_target_that_is_down_comes_last_until_its_pause_is_over() -> None:
    clock = Clock()
    upstreams = Upstreams((A, B, C), clock)
    assert upstreams.failed(A)
    assert not upstreams.failed(A), "it is news once"
    assert [upstreams.turn()[2] for _ in range(6)] == [A] * 6
    clock.now += FIRST_PAUSE_S
    firsts = [upstreams.turn()[0] for _ in range(6)]
    assert firsts.count(A) == 1, "one connection sees whether it is back, and the others do not wait for it"


def test_target_that_is_back_has_its_turn_again() -> None:
    clock = Clock()
    upstreams = Upstreams((A, B), clock)
    upstreams.failed(A)
    assert upstreams.worked(A)
    assert not upstreams.worked(A), "it is news once"
    assert not upstreams.worked(B)
    assert {upstreams.turn()[0] for _ in range(2)} == {A, B}


def test_pauses_grow_to_a_bound_and_begin_anew_after_it_was_up() -> None:
    clock = Clock()
    upstreams = Upstreams((A, B), clock)
    upstreams.failed(A)
    waited = []
    for _ in range(8):
        since = clock.now
        while A not in {upstreams.turn()[0], upstreams.turn()[0]}:
            clock.now += 0.5
        upstreams.failed(A)
        waited.append(clock.now - since)
    assert waited[0] == FIRST_PAUSE_S
    assert waited == sorted(waited)
    assert waited[-1] == LONGEST_PAUSE_S
    upstreams.worked(A)
    upstreams.failed(A)
    clock.now += FIRST_PAUSE_S
    assert A in {upstreams.turn()[0], upstreams.turn()[0]}


def test_when_all_are_down_all_are_tried() -> None:
    upstreams = Upstreams((A, B), Clock())
    upstreams.failed(A)
    upstreams.failed(B)
    assert [set(upstreams.turn()) for _ in range(2)] == [{A, B}] * 2


@given(st.lists(st.tuples(st.sampled_from((A, B, C)), st.booleans(), st.floats(0, 40)), max_size=60))
def test_whatever_happens_every_target_is_in_every_turn_and_few_wait_for_one_that_is_down(
    events: list[tuple[Address, bool, float]],
) -> None:
    clock = Clock()
    upstreams = Upstreams((A, B, C), clock)
    up = {A, B, C}
    for target, works, passed in events:
        (upstreams.worked if works else upstreams.failed)(target)
        up = up | {target} if works else up - {target}
        turns = [upstreams.turn() for _ in range(6)]
        assert all(sorted(map(str, turn)) == sorted(map(str, (A, B, C))) for turn in turns)
        if up:
            waits = [turn[0] for turn in turns if turn[0] not in up]
            assert len(waits) == len(set(waits)), "one that is down is tried first by one connection at a time"
        clock.now += passed

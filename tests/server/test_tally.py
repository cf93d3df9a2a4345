"""What workers count together: never one too many, whoever is killed when."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerauth.server.tally import Tally
from tests.cli.running import CHECKOUT, DEADLINE_S, environment


@pytest.mark.parametrize("what", ["race", "killed"])
def test_room_is_never_given_twice_and_a_killed_worker_lets_go_of_the_lock(what: str) -> None:
    """Several processes, forked where there are no threads."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.server.racing", what],
        cwd=CHECKOUT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr


def test_last_room_is_given_to_one_of_two_that_come_at_once() -> None:
    """Nobody is refused while there is room: who comes first has it, although the other comes before it is served."""
    tally = Tally(2, 10)
    one, two = tally.share(0), tally.share(1)
    assert one.enter("alice") == (1, 1)
    assert two.enter("alice") == (2, 2)
    two.leave("alice")
    assert two.enter("bob") == (2, 1)
    assert (one.count("alice"), two.count("alice"), one.count("bob"), one.count("carol")) == (1, 1, 1, 0)


def test_what_a_dead_worker_had_is_forgotten_and_what_it_did_is_not() -> None:
    tally = Tally(2, 10)
    one, two = tally.share(0), tally.share(1)
    for share in (one, two, two):
        share.enter("alice")
        share.admitted()
    two.refused("unknown")
    two.refused("tls-version")
    two.ended()
    two.begin_epoch()
    tally.forget(1)
    assert (tally.connections, one.count("alice"), tally.epoch) == (1, 1, 1)
    totals = tally.totals
    assert (totals.admitted, totals.ended, totals.refused) == (3, 1, {"unknown": 1, "other": 1})
    successor = tally.share(1)
    assert successor.enter("alice") == (2, 2)
    tally.begin_epoch()
    assert tally.epoch == 2


def test_connection_under_another_name_keeps_its_room() -> None:
    tally = Tally(2, 10)
    one = tally.share(0)
    one.enter("alice")
    one.enter("alice")
    one.rename("alice", "carol")
    assert (tally.connections, one.count("alice"), one.count("carol")) == (2, 1, 1)
    one.rename("carol", "carol")
    assert one.count("carol") == 1
    one.leave("carol")
    one.leave("alice")
    assert (tally.connections, one.count("alice"), one.count("carol")) == (0, 0, 0)


def test_names_without_connections_make_place_for_others() -> None:
    """Far more peers than there are places, a few at a time: what is counted is right all the while."""
    tally = Tally(2, 8)
    one, two = tally.share(0), tally.share(1)
    assert one.enter("constant") == (1, 1)
    for number in range(3 * tally._slots):
        name = f"peer-{number}"
        assert one.enter(name) == (2, 1)
        assert two.enter(name) == (3, 2)
        one.leave(name)
        two.leave(name)
    assert two.enter("constant") == (2, 2)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcdef"), st.booleans()), max_size=200))
def test_counts_are_what_they_would_be_in_one_process(steps: list[tuple[int, str, bool]]) -> None:
    tally = Tally(3, 200)
    shares = [tally.share(worker) for worker in range(3)]
    held: Counter[tuple[int, str]] = Counter()
    for worker, name, comes in steps:
        if comes:
            held[worker, name] += 1
            of_name = sum(count for (_, other), count in held.items() if other == name)
            assert shares[worker].enter(name) == (held.total(), of_name)
        elif held[worker, name]:
            held[worker, name] -= 1
            shares[worker].leave(name)
        for share in shares:
            assert share.count(name) == sum(count for (_, other), count in held.items() if other == name)
    assert tally.connections == held.total()

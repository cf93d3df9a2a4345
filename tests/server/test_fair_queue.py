from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from peerauth.server.fairness import FairQueue

SOURCES = st.lists(st.sampled_from("abc"), max_size=60)


@given(SOURCES, st.integers(1, 5), st.randoms(use_true_random=False))
def test_nothing_is_lost_but_what_is_reported(sources: list[str], most: int, chance: object) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(most, chance.randrange)  # type: ignore[attr-defined]
    fallen = []
    for number, source in enumerate(sources):
        out = queue.push(source, (source, number))
        if out is not None:
            assert out[0] == source, "one source's flood pushed out another's"
            fallen.append(out)
        assert len(queue) <= most * len(set(sources))
    served = []
    while (item := queue.pop()) is not None:
        served.append(item)
    assert sorted(served + fallen) == sorted((source, number) for number, source in enumerate(sources))
    assert len(queue) == 0


@given(SOURCES)
def test_each_source_is_served_in_its_order_and_waits_for_one_of_each_other(sources: list[str]) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(1000)
    for number, source in enumerate(sources):
        assert queue.push(source, (source, number)) is None
    served = []
    while (item := queue.pop()) is not None:
        served.append(item)
    for source in set(sources):
        own = [number for who, number in served if who == source]
        assert own == sorted(own)
        places = [place for place, (who, _) in enumerate(served) if who == source]
        assert all(later - earlier <= len(set(sources)) for earlier, later in pairwise(places))
        assert places[0] < len(set(sources))


@given(st.integers(2, 40))
def test_which_one_falls_out_is_left_to_chance(place: int) -> None:
    chosen: list[int] = []

    def choose(count: int) -> int:
        chosen.append(count)
        return place % count

    queue: FairQueue[int] = FairQueue(10, choose)
    fallen = [queue.push("flood", number) for number in range(11)]
    assert chosen == [11]
    assert fallen[-1] == place % 11

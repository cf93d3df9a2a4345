from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.trust.layers import Layered

CHANGES = st.lists(st.dictionaries(st.integers(0, 300), st.none() | st.integers(0, 3), max_size=90), max_size=8)


def changed(steps: list[dict[int, int | None]]) -> tuple[Layered[int, int], dict[int, int]]:
    """The same changes to a mapping in layers and to a plain one."""
    layered: Layered[int, int] = Layered()
    plain: dict[int, int] = {}
    for step in steps:
        layered = layered.changed(step)
        plain = {key: value for key, value in {**plain, **step}.items() if value is not None}
    return layered, plain


@given(CHANGES, st.integers(-1, 301))
def test_mapping_in_layers_is_the_mapping_that_it_stands_for(steps: list[dict[int, int | None]], key: int) -> None:
    layered, plain = changed(steps)
    assert dict(layered) == plain
    assert len(layered) == len(plain) == len(list(layered))
    assert layered.get(key) == plain.get(key)
    assert layered.get(key, "none") == plain.get(key, "none")
    assert (key in layered) == (key in plain)


@given(CHANGES, CHANGES)
def test_differences_are_those_between_the_two(
    first: list[dict[int, int | None]], then: list[dict[int, int | None]]
) -> None:
    old, before = changed(first)
    new, after = changed([*first, *then])
    other, unrelated = changed(then)
    for newer, plain in ((new, after), (other, unrelated)):
        found = list(old.differences(newer))
        assert len(found) == len(set(found))
        assert set(found) == {key for key in {*before, *plain} if before.get(key) != plain.get(key)}


def test_change_leaves_the_old_one_as_it_was_and_copies_nothing_big() -> None:
    big: Layered[int, int] = Layered[int, int]().changed(dict.fromkeys(range(10_000), 1))
    small = big.changed({5: None, 6: 2, 10_001: 3})
    assert (big[5], big[6], 10_001 in big, len(big)) == (1, 1, False, 10_000)
    assert (small.get(5), small[6], small[10_001], len(small)) == (None, 2, 3, 10_000)
    assert small._base is big._base
    assert len(small._over) == 3
    with pytest.raises(KeyError):
        small[5]


def test_upper_layer_stays_a_small_share_of_the_lower() -> None:
    layered: Layered[int, int] = Layered[int, int]().changed(dict.fromkeys(range(3_200), 1))
    bases = {id(layered._base)}
    kept = []  # so that no id comes twice
    for number in range(2_640):
        layered = layered.changed({number % 700: number})
        assert len(layered._over) <= 64 + 3_200 // 16
        kept.append(layered._base)
        bases.add(id(layered._base))
    assert len(bases) <= 1 + 2_640 // 264


class Counting(dict[int, int | None]):
    looks = 0

    def get(self, key: int, default: object = None) -> Any:  # noqa: ANN401 - as a dict does
        Counting.looks += 1
        return super().get(key, default)


@pytest.mark.parametrize("size", [10, 100_000])
def test_looking_up_takes_at_most_two_steps_whatever_the_size(size: int) -> None:
    layered = Layered[int, int]().changed(dict.fromkeys(range(size), 1)).changed({3: 2})
    layered._base, layered._over = Counting(layered._base), Counting(layered._over)  # type: ignore[assignment]
    for key, expected in ((3, 2), (4, 1), (size, None)):
        Counting.looks = 0
        assert layered.get(key) == expected
        assert Counting.looks <= 2

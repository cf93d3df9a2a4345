"""The Range field against another reading of RFC 9110 section 14: byte by byte, and without a regular expression."""

from __future__ import annotations

import itertools
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from peerauth.http.ranges import LONGEST, MOST_RANGES, Span, parse_range

POSITIONS = st.one_of(st.integers(0, 60), st.integers(0, 10**30))
SPECS = st.one_of(
    st.tuples(POSITIONS, POSITIONS).map(lambda pair: f"{pair[0]}-{pair[1]}"),
    POSITIONS.map(lambda first: f"{first}-"),
    POSITIONS.map(lambda last: f"-{last}"),
    st.sampled_from(["", " ", "-", "a-b", "1", "--1", "+1-2", "1-2-3", "1_0-20", "٣-٤", "1 - 2", "0x1-2"]),
)
FIELDS = st.one_of(
    st.lists(SPECS, max_size=5).map(lambda specs: f"bytes={','.join(specs)}"),
    st.lists(SPECS, max_size=3).map(lambda specs: f"Bytes={' , '.join(specs)}"),
    st.text(max_size=30),
    SPECS.map(lambda spec: f"lines={spec}"),
)


def model(field: str, size: int) -> list[set[int]] | None:
    """The bytes that each satisfiable range means, one by one; None where the field is no byte range."""
    unit, equals, rest = field.partition("=")
    if unit.rstrip(" \t").lower() != "bytes" or not equals or not unit.isascii():
        return None
    found: list[set[int]] = []
    valid = 0
    for spec in rest.split(","):
        text = spec.strip(" \t")
        if not text:
            continue
        first, dash, last = text.partition("-")
        if not dash or not (first or last) or set(first + last) - set(string.digits):
            return None
        if first and last and int(last) < int(first):
            return None
        valid += 1
        if first:
            meant = {byte for byte in range(size) if byte >= int(first) and (not last or byte <= int(last))}
        else:
            meant = {byte for byte in range(size) if byte >= size - int(last)}
        if meant:
            found.append(meant)
    return found if valid else None


@given(field=FIELDS, size=st.integers(1, 50))
@example(field="bytes=-0", size=1)
@example(field="bytes=0-0,-1", size=3)
@example(field="bytes=1-", size=1)
def test_what_is_sent_is_what_the_rfc_means(field: str, size: int) -> None:
    meant, found = model(field, size), parse_range(field, size)
    if meant is None:
        assert found is None
        return
    ascending = all(max(before) < min(after) for before, after in itertools.pairwise(meant))
    if not ascending:
        assert found is None
        return
    assert found is not None
    assert [set(range(span.start, span.end)) for span in found] == meant


@pytest.mark.parametrize(
    ("field", "spans"),
    [  # the examples of RFC 9110 section 14.1.2, of a representation of 10 000 bytes
        ("bytes=0-499", [Span(0, 500)]),
        ("bytes=500-999", [Span(500, 500)]),
        ("bytes=-500", [Span(9500, 500)]),
        ("bytes=9500-", [Span(9500, 500)]),
        ("bytes=0-0,-1", [Span(0, 1), Span(9999, 1)]),
        ("bytes= 0-999, 4500-5499, -1000", [Span(0, 1000), Span(4500, 1000), Span(9000, 1000)]),
        ("bytes=500-600,601-999", [Span(500, 101), Span(601, 399)]),
        ("bytes=10000-", []),
        ("bytes=-0", []),
        ("bytes=-99999", [Span(0, 10000)]),
    ],
)
def test_examples_of_the_rfc(field: str, spans: list[Span]) -> None:
    assert parse_range(field, 10_000) == tuple(spans)


@pytest.mark.parametrize("field", ["bytes=500-700,601-999", "bytes=5-6,0-1", "bytes=0-,-1", "bytes=9-1"])
def test_a_range_that_overlaps_descends_or_is_none_means_the_whole(field: str) -> None:
    assert parse_range(field, 10_000) is None


def test_an_empty_file_has_no_ranges() -> None:
    """A client that asks for the first megabyte of everything gets nothing of nothing, and no error."""
    assert parse_range("bytes=0-1048575", 0) is None


@pytest.mark.parametrize("size", [1, 10_000])
def test_many_ranges_and_long_fields_mean_the_whole(size: int) -> None:
    some = ",".join(f"{at}-{at}" for at in range(MOST_RANGES))
    assert parse_range(f"bytes={some}", size) is not None
    assert parse_range(f"bytes={some},99-99", size) is None
    assert parse_range(f"bytes=0-{'9' * (LONGEST - 8)}", size) is not None
    assert parse_range(f"bytes=0-{'9' * LONGEST}", size) is None

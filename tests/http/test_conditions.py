"""Preconditions and entity tags by RFC 9110 sections 8.8 and 13."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.http.conditions import SETTLED, Version, Wanted, evaluate, range_applies, version_of

THEN = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT, the date of the RFC's examples
VERSION = Version("abc", THEN, settled=True)
FRESH = Version("abc", THEN, settled=False)
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, Wanted.YES),
        ({"if-none-match": '"abc"'}, Wanted.NOT_MODIFIED),
        ({"if-none-match": 'W/"abc"'}, Wanted.NOT_MODIFIED),
        ({"if-none-match": '"x", W/"y" ,"abc"'}, Wanted.NOT_MODIFIED),
        ({"if-none-match": "*"}, Wanted.NOT_MODIFIED),
        ({"if-none-match": '"abcd"'}, Wanted.YES),
        ({"if-none-match": "abc"}, Wanted.YES),
        ({"if-none-match": ""}, Wanted.YES),
        ({"if-modified-since": "Sun, 06 Nov 1994 08:49:37 GMT"}, Wanted.NOT_MODIFIED),
        ({"if-modified-since": "Sunday, 06-Nov-94 08:49:37 GMT"}, Wanted.NOT_MODIFIED),
        ({"if-modified-since": "Sun Nov  6 08:49:37 1994"}, Wanted.NOT_MODIFIED),
        ({"if-modified-since": "Sun, 06 Nov 1994 08:49:36 GMT"}, Wanted.YES),
        ({"if-modified-since": "yesterday"}, Wanted.YES),
        ({"if-modified-since": "Sun, 99 Nov 1994 08:49:37 GMT"}, Wanted.YES),
        # If-None-Match goes before If-Modified-Since, section 13.1.3
        ({"if-none-match": '"x"', "if-modified-since": "Sun, 06 Nov 1994 08:49:37 GMT"}, Wanted.YES),
        ({"if-match": '"abc"'}, Wanted.YES),
        ({"if-match": "*"}, Wanted.YES),
        ({"if-match": 'W/"abc"'}, Wanted.FAILED),
        ({"if-match": '"x"'}, Wanted.FAILED),
        ({"if-unmodified-since": "Sun, 06 Nov 1994 08:49:37 GMT"}, Wanted.YES),
        ({"if-unmodified-since": "Sun, 06 Nov 1994 08:49:36 GMT"}, Wanted.FAILED),
        ({"if-unmodified-since": "no date"}, Wanted.YES),
        ({"if-match": '"abc"', "if-unmodified-since": "Sun, 06 Nov 1994 08:49:36 GMT"}, Wanted.YES),
        ({"if-match": '"x"', "if-none-match": '"abc"'}, Wanted.FAILED),
        ({"if-match": '"abc"', "if-none-match": '"abc"'}, Wanted.NOT_MODIFIED),
    ],
)
def test_preconditions_in_the_order_of_the_rfc(fields: dict[str, str], wanted: Wanted) -> None:
    assert evaluate({name.encode(): value.encode() for name, value in fields.items()}, VERSION) is wanted


def test_a_file_that_was_just_written_has_a_weak_tag_that_matches_weakly_alone() -> None:
    assert FRESH.etag == 'W/"abc"'
    assert evaluate({b"if-none-match": b'W/"abc"'}, FRESH) is Wanted.NOT_MODIFIED
    assert evaluate({b"if-match": b'W/"abc"'}, FRESH) is Wanted.FAILED
    assert evaluate({b"if-match": b'"abc"'}, FRESH) is Wanted.FAILED


@pytest.mark.parametrize(
    ("value", "version", "applies"),
    [
        (None, VERSION, True),
        ('"abc"', VERSION, True),
        ('"abd"', VERSION, False),
        ('W/"abc"', VERSION, False),
        ('W/"abc"', FRESH, False),
        ("Sun, 06 Nov 1994 08:49:37 GMT", VERSION, True),
        ("Sun, 06 Nov 1994 08:49:38 GMT", VERSION, False),  # exactly, section 13.1.5
        ("Sun, 06 Nov 1994 08:49:37 GMT", FRESH, False),
        ("", VERSION, False),
    ],
)
def test_a_range_counts_only_for_exactly_this_version(value: str | None, version: Version, *, applies: bool) -> None:
    assert range_applies({} if value is None else {b"if-range": value.encode()}, version) is applies


def test_whatever_changes_a_file_changes_its_tag() -> None:
    first = (7, 100, THEN * SECOND, THEN * SECOND, THEN + 60.0)
    others = [
        (8, *first[1:]),
        (7, 101, *first[2:]),
        (*first[:2], first[2] + 1, *first[3:]),
        (*first[:3], first[3] + 1, first[4]),
    ]
    tags = {version_of(*facts).tag for facts in (first, *others)}
    assert len(tags) == 5
    assert version_of(*first) == version_of(*first)


def test_a_version_settles() -> None:
    young, old = (version_of(1, 1, THEN * SECOND, THEN * SECOND, THEN + age) for age in (SETTLED - 0.1, SETTLED + 0.1))
    assert (young.settled, old.settled) == (False, True)
    changed = version_of(1, 1, 0, THEN * SECOND, THEN + SETTLED - 0.1)  # the mtime was set back
    assert not changed.settled


@pytest.mark.parametrize(
    ("modified", "said"),
    [(THEN, THEN), (THEN + 0.9, THEN), (THEN + 1000, THEN + 100), (0, 0), (-1, None), (-(10**12), None)],
)
def test_last_modified_is_a_date_that_can_be_and_is_never_in_the_future(modified: float, said: int | None) -> None:
    version = version_of(1, 1, int(modified * SECOND), 0, THEN + 100)
    assert version.last_modified == (None if said is None else formatdate(said, usegmt=True))


@given(
    name=st.sampled_from([b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"]),
    value=st.one_of(st.binary(max_size=60), st.text("SunMoTue,;:0123456789 -GMT+", max_size=45).map(str.encode)),
)
def test_whatever_a_peer_sends_is_answered(name: bytes, value: bytes) -> None:
    assert evaluate({name: value}, VERSION) in Wanted
    assert range_applies({name: value}, VERSION) in {True, False}

"""Bounds on what others can cause, by source."""

from __future__ import annotations

from peerauth.rate import Bucket, Buckets


def test_what_is_given_back_can_be_taken_again_and_never_more() -> None:
    bucket = Bucket(2, 0.0, lambda: 0.0)
    bucket.give_back()
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    bucket.give_back()
    assert [bucket.take() for _ in range(2)] == [True, False]


def test_every_source_has_a_bucket_of_its_own() -> None:
    buckets = Buckets(1, 0.0, lambda: 0.0)
    assert [buckets.of(source).take() for source in ("a", "b", "a", "b")] == [True, True, False, False]


def test_of_too_many_sources_the_one_that_came_longest_ago_is_forgotten() -> None:
    buckets = Buckets(1, 0.0, lambda: 0.0, most=2)
    assert [buckets.of(source).take() for source in ("a", "b", "a", "c", "a", "b")] == [True, True, False, True, False, True]

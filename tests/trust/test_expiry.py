"""From when on it is said that a certificate ends, and in what words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.trust import expiry
from peerauth.trust.decision import Code, Refused, decide
from peerauth.trust.peers import Peer, PeerSet
from tests.support.dropin import mint

END = datetime(2026, 12, 24, 18, 0, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


@pytest.mark.parametrize(
    ("left", "level"),
    [
        (30 * DAY + SECOND, None),
        (30 * DAY, 30),
        (14 * DAY + SECOND, 30),
        (14 * DAY, 14),
        (7 * DAY + SECOND, 14),
        (7 * DAY, 7),
        (DAY + SECOND, 7),
        (DAY, 1),
        (0 * DAY, 1),
        (-SECOND, expiry.EXPIRED),
        (-900 * DAY, expiry.EXPIRED),
    ],
)
def test_levels_are_reached_in_turn(left: timedelta, level: int | None) -> None:
    assert expiry.level(END, END - left) == level


@given(st.timedeltas(-400 * DAY, 400 * DAY), st.timedeltas(0 * DAY, 40 * DAY))
def test_level_never_rises_as_time_goes_by(left: timedelta, later: timedelta) -> None:
    def urgency(now: datetime) -> int:
        level = expiry.level(END, now)
        return 99 if level is None else level

    assert urgency(END - left + later) <= urgency(END - left)


@pytest.mark.parametrize("off", [-SECOND, 0 * SECOND, SECOND])
def test_expired_is_said_exactly_when_the_decision_refuses_it(off: timedelta) -> None:
    made = mint("alice")
    now = made.certificate.not_after + off
    decision = decide(made.certificate.der, PeerSet.of([Peer("alice", (made.certificate.fingerprint,))]), now=now)
    refused = isinstance(decision, Refused) and decision.code is Code.EXPIRED
    assert refused == (expiry.level(made.certificate.not_after, now) == expiry.EXPIRED)
    assert refused == ("expired" in expiry.sentence(made.certificate.not_after, now))
    assert refused == (off > 0 * SECOND)


@pytest.mark.parametrize(
    ("left", "days", "time_left", "sentence"),
    [
        (6 * DAY + SECOND, 6, "6 days", "expires in 6 days, on 2026-12-24 18:00 UTC"),
        (timedelta(hours=1), 0, "1 hour", "expires in 1 hour, on 2026-12-24 18:00 UTC"),
        (SECOND, 0, "less than a minute", "expires in less than a minute, on 2026-12-24 18:00 UTC"),
        (
            -timedelta(hours=12),
            -1,
            "expired 12 hours ago",
            "expired 12 hours ago, on 2026-12-24 18:00 UTC: it is refused (expired)",
        ),
    ],
)
def test_words(left: timedelta, days: int, time_left: str, sentence: str) -> None:
    now = END - left
    assert expiry.days_left(END, now) == days
    assert expiry.time_left(END, now) == time_left
    assert expiry.sentence(END, now) == sentence


def test_advice_is_a_command_that_still_helps() -> None:
    """`rotate` is carried by the old certificate: once it has expired, nobody hears it."""
    before, after = END - DAY, END + DAY
    assert "peerauth rotate" in expiry.advice(None, END, before)
    assert "peerauth rotate" in expiry.advice("alice", END, before)
    for peer in (None, "alice"):
        assert "rotate" not in expiry.advice(peer, END, after)
        assert "peerauth keygen --force" in expiry.advice(peer, END, after)
    assert "peerauth peer remove alice" in expiry.advice("alice", END, after)

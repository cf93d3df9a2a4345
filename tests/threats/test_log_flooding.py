"""Threat: a disk filled with reports of refusals."""

from __future__ import annotations

import asyncio
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from peerauth.audit import REFUSALS_AT_ONCE, REFUSALS_PER_SECOND, Audit, Event
from tests.support.dropin import mint
from tests.support.engine import Caller, Yard, on_loops, running

KNOCKS = 120


@on_loops("uvloop")
async def test_flood_of_refusals_is_reported_in_few_words_and_counted(yard: Yard) -> None:
    caller, stranger = Caller(yard.pin("alice")), Caller(mint("stranger"))
    async with running(yard) as node:
        for _ in range(KNOCKS // 20):
            await asyncio.gather(*(asyncio.to_thread(stranger.hear, node.port) for _ in range(20)))
        assert await asyncio.to_thread(caller.hear, node.port) == "hello alice"

        def counted() -> int:
            left_out = [int(re.match(r"\d+", event.message)[0]) for event in node.told("left-out")]  # type: ignore[index]
            return len(node.told("refused")) + sum(left_out)

        await node.until(lambda: counted() == KNOCKS)
        assert len(node.told("refused")) < KNOCKS // 2
        assert len(node.told("admitted", peer="alice")) == 1


@settings(deadline=None)
@given(st.lists(st.floats(0, 2, allow_nan=False), max_size=200))
def test_rate_holds_whenever_they_come_and_none_is_uncounted(gaps: list[float]) -> None:
    now = [0.0]
    said: list[Event] = []
    audit = Audit(said.append, lambda: now[0])
    for gap in gaps:
        now[0] += gap
        audit.refused(Event("refused", "somebody"))
    audit.flush()
    refused = [event for event in said if event.event == "refused"]
    left_out = sum(int(event.message.split()[0]) for event in said if event.event == "left-out")
    assert len(refused) + left_out == len(gaps)
    assert len(refused) <= REFUSALS_AT_ONCE + REFUSALS_PER_SECOND * now[0] + 1
    assert len(refused) >= min(len(gaps), REFUSALS_AT_ONCE)

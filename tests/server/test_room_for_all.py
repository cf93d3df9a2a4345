"""`[limits] max_connections` holds for the whole node, whatever a peer's own limit is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from peerauth.store.config import Limits
from tests.support.engine import Caller, Yard, hear_line, on_loops, running


@pytest.mark.parametrize("settings", ["", "max_connections = 9"])
@pytest.mark.parametrize(("room", "admitted"), [(1, False), (2, True)])
@on_loops("uvloop")
async def test_the_node_is_full_for_every_peer(tmp_path: Path, settings: str, room: int, *, admitted: bool) -> None:
    yard = Yard(tmp_path / "peers")
    caller = Caller(yard.pin("alice", settings=settings))
    async with running(yard, limits=Limits(max_connections=room)) as node:
        with await asyncio.to_thread(caller.open, node.port) as first:
            assert await asyncio.to_thread(hear_line, first) == "hello alice"
            heard = await asyncio.to_thread(caller.hear, node.port)
            assert (heard == "hello alice") is admitted
            if admitted:
                assert not node.told("refused")
            else:  # the alert is there before the loop has heard of it
                await node.hears("refused", code="too-many")


@pytest.mark.parametrize("settings", ["", "max_connections = 1"], ids=["node", "peer"])
@pytest.mark.parametrize("room", [True, False])
@on_loops("uvloop")
async def test_last_room_that_another_took_in_the_same_moment_is_not_given_twice(
    tmp_path: Path, settings: str, *, room: bool
) -> None:
    """After the last look, before this one is counted, another worker admits somebody."""
    yard = Yard(tmp_path / "peers")
    caller = Caller(yard.pin("alice", settings=settings))
    limits = Limits(max_connections=9 if settings else (2 if room else 1))
    async with running(yard, limits=limits) as node:
        share = node.server.live.share
        enter = share.enter
        other = "bob" if room or not settings else "alice"

        def too_late(name: str) -> tuple[int, int]:
            enter(other)
            return enter(name)

        share.enter = too_late  # type: ignore[method-assign]
        heard = await asyncio.to_thread(caller.hear, node.port)
        share.enter = enter  # type: ignore[method-assign]
        assert (heard == "hello alice") is room
        if not room:
            refused = await node.hears("refused", code="too-many")
            assert ("1 connection already" in refused.message) is bool(settings)
        await node.until(lambda: share.tally.connections == 1)
        share.leave(other)
        assert await asyncio.to_thread(caller.hear, node.port) == "hello alice"

"""`peerauth rotate` tells the peers in the name of the old key, and goes over when they have accepted."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from peerauth.store.rotations import read_statements
from peerauth.store.succession import next_pair, read_succession, rotation_path
from peerauth.trust.continuity import Kind, read_statement
from peerauth.trust.identity import KeyType
from peerauth.trust.succession import Phase
from tests.cli.running import Result, peerauth
from tests.support.engine import Running, on_loops
from tests.support.rotating import Member, serving_at


async def rotate(member: Member, *words: str, env: dict[str, str] | None = None) -> Result:
    """Type `peerauth rotate` at this node."""
    return await asyncio.to_thread(peerauth, "rotate", *words, "--home", member.home, env=env)


@contextlib.asynccontextmanager
async def company(place: Path, count: int, kind: KeyType = KeyType.P256) -> AsyncIterator[tuple[Member, list[Member]]]:
    """A node, and so many that know it and that it knows, serving each at an address of its own."""
    node = Member.make(place, "node", kind)
    async with contextlib.AsyncExitStack() as stack:
        others: list[Member] = []
        for number in range(count):
            other = Member.make(place, f"peer-{number}")
            other.knows(node)
            running: Running = await stack.enter_async_context(serving_at(other))
            node.knows(other, f"{other.host}:{running.port}")
            others.append(other)
        yield node, others


@on_loops("asyncio")
async def test_two_nodes_one_rotates_and_the_other_knows(tmp_path: Path) -> None:
    async with company(tmp_path, 1) as (node, (other,)):
        before = node.pin
        done = await rotate(node)
        assert done.code == 0, done.err
        assert node.pin != before
        assert other.pins_of("node") == {before, node.pin}
    (said,) = read_statements(node.config)
    assert read_statement(said).kind is Kind.NEXT
    assert not rotation_path(node.config).exists()
    assert not any(path.exists() for path in next_pair(node.config))
    assert len(list(node.home.glob("node.key.old-*"))) == 1


@on_loops("asyncio")
async def test_twenty_nodes_are_told_at_once(tmp_path: Path) -> None:
    async with company(tmp_path, 20) as (node, others):
        before = node.pin
        done = await rotate(node, "--json")
        assert done.code == 0, done.err
        assert {one["outcome"] for one in done.json["peers"]} == {"accepted"}
        assert len(done.json["peers"]) == 20
        assert all(other.pins_of("node") == {before, node.pin} for other in others)

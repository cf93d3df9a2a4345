"""Twenty nodes, each at its own address: one invites, the others join at once, and all reach it and are reached."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from peerauth.address import parse_address
from peerauth.client.control import conversation, exactly
from peerauth.client.invitation import pin
from peerauth.control.messages import Check, Checked
from peerauth.store.peerdir import PeerDirectory
from tests.support.engine import on_loops
from tests.support.inviting import invite, inviting, join, pinned, refused, users
from tests.support.workers import Home

MANY = 20


async def known_as(who: Home, whom: str) -> str | None:
    """What this node is called at its peer, at the address that it has noted of it."""
    peer = PeerDirectory(who.path).refresh().peers[whom]
    assert peer.address is not None
    async with conversation(who.own, parse_address(peer.address), exactly(peer.pins[0])) as line:
        await line.send(Check())
        return (await line.receive(Checked)).name


@on_loops("uvloop")
async def test_twenty_nodes_become_known_by_one_invitation(tmp_path: Path) -> None:
    hub = Home(tmp_path / "hub", "hub")
    others = [Home(tmp_path / f"n-{number}", f"n-{number}") for number in range(2, MANY + 1)]
    async with contextlib.AsyncExitStack() as stack:
        at_hub = await stack.enter_async_context(inviting(hub))
        token = invite(hub.home, at_hub.port, uses=MANY - 1, own=hub.own)
        ports = [
            (await stack.enter_async_context(inviting(one, f"127.0.0.{number}"))).port
            for number, one in enumerate(others, 2)
        ]

        async def enter(number: int, one: Home) -> None:
            address = f"127.0.0.{number}:{ports[number - 2]}"
            welcome = await join(
                one.own, token, name=one.name, address=address, wait=20
            )  # 16 of a source are heard at a time
            assert await asyncio.to_thread(pin, welcome, PeerDirectory(one.path), frozenset()) == "hub"

        await asyncio.gather(*(enter(number, one) for number, one in enumerate(others, 2)))
        assert set(pinned(hub)) == {one.name for one in others}
        assert len(users(hub.home, token)) == MANY - 1
        assert (await refused("one-too-many", token)).code == "invitation"

        assert [await known_as(one, "hub") for one in others] == [one.name for one in others]
        for one in others:
            assert await known_as(hub, one.name) == "hub"

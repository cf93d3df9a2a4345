"""Promises 2 and 3 under load: peers are removed while two hundred connections of twenty peers carry data with checksums."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
import time
from dataclasses import dataclass, field

from peerauth.store.config import Limits
from tests.support.engine import Caller, Yard, identity, on_loops, running
from tests.support.targets import echo, target

PEERS = [f"peer-{number}" for number in range(20)]
REMOVED = PEERS[::2]
EACH = 10  # connections of a peer
PIECE = 20_000
LEAST = 15  # pieces that everyone who stays sends, there and back
PROMPT_S = 1.5  # 250 ms is what a quiet machine keeps; here one processor has both sides of 200 connections


@dataclass
class Carried:
    """What became of one connection."""

    peer: str
    said: str = ""
    heard: str = ""
    ended: float | None = None  # monotonic, if it was cut
    pieces: int = 0


@dataclass
class Load:
    """The clients, in a loop and a thread of their own."""

    port: int
    over: threading.Event = field(default_factory=threading.Event)
    few: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(16))  # who shake hands at the same time
    carried: list[Carried] = field(default_factory=lambda: [Carried(peer) for peer in PEERS for _ in range(EACH)])

    async def carry(self, one: Carried, seed: int) -> None:
        """Send pieces and get them back, until told that it is enough, or cut."""
        chance = random.Random(seed)  # noqa: S311 - the same every time
        said, heard = hashlib.sha256(), hashlib.sha256()
        context = Caller(identity(one.peer)).context
        async with self.few:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        try:
            while one.pieces < LEAST or not self.over.is_set():
                data = chance.randbytes(PIECE)
                said.update(data)
                writer.write(data)
                heard.update(await reader.readexactly(PIECE))
                one.pieces += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            one.ended = time.monotonic()
        finally:
            writer.transport.abort()
        one.said, one.heard = said.hexdigest(), heard.hexdigest()

    def run(self) -> None:
        """Carry everything; to be run in a thread."""

        async def main() -> None:
            await asyncio.gather(*(self.carry(one, seed) for seed, one in enumerate(self.carried)))

        asyncio.run(main())


@on_loops("uvloop")
async def test_removals_under_load_cut_the_removed_and_nobody_else(yard: Yard) -> None:
    for peer in PEERS:
        yard.pin(peer)
    with target(echo) as where:
        async with running(yard, target=where, limits=Limits(handshake_timeout=30)) as node:
            load = Load(node.port)
            work = asyncio.ensure_future(asyncio.to_thread(load.run))
            await node.until(lambda: all(one.pieces > 0 for one in load.carried))
            assert len(node.server.live) == len(PEERS) * EACH
            started = time.monotonic()
            for peer in REMOVED:
                yard.unpin(peer)
            await node.until(lambda: all(one.ended for one in load.carried if one.peer in REMOVED))
            load.over.set()
            await work
    removed = [one for one in load.carried if one.peer in REMOVED]
    stayed = [one for one in load.carried if one.peer not in REMOVED]
    assert max(one.ended or 0 for one in removed) - started < PROMPT_S
    assert [one.ended for one in stayed] == [None] * len(stayed)
    assert all(one.said == one.heard and one.pieces >= LEAST for one in stayed)
    assert {event.peer for event in node.told("ended")} == set(REMOVED)
    assert len(node.told("ended")) == len(removed)

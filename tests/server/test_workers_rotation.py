"""Rotation with several workers: one of them hears of it, all of them go by it, and of two at once one comes first."""

from __future__ import annotations

import asyncio
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from peerauth.address import Address
from peerauth.client.control import conversation, exactly
from peerauth.control.rotation import Rotate, Rotated
from peerauth.node import Node
from peerauth.store.peerdir import PeerDirectory
from peerauth.trust.continuity import Statement
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, how_it_ends, identity
from tests.support.rotating import Home as ClientHome
from tests.support.rotating import compromised, following, withdrawn
from tests.support.workers import Home, Serving, ping, serving

AB = following("a", "b", -3)


def bring(node: Serving, who: str, *said: Statement) -> str:
    """Tell the node, as this one; the outcome."""

    async def talk() -> str:
        pin = identity("node").certificate.fingerprint
        async with conversation(identity(who), Address("127.0.0.1", node.port), exactly(pin)) as line:
            await line.send(Rotate(tuple(one.data for one in said)))
            return (await line.receive(Rotated)).outcome

    return asyncio.run(talk())


def open_in_both(node: Serving, who: str) -> dict[int, ssl.SSLSocket]:
    """A connection in each worker, as soon as each of them has seen that it may be there."""
    caller = Caller(identity(who))

    def admitted() -> bool:
        try:
            for _ in range(12):
                with caller.open(node.port) as tls:
                    ping(tls)
        except (ssl.SSLError, ConnectionError):
            return False
        return True

    node.until(admitted)
    return {worker: node.in_worker(worker, caller) for worker in (1, 2)}


def test_every_worker_admits_the_new_certificate_and_none_of_them_the_lost_one(home: Home) -> None:
    home.pin("alice", identity("a"))
    home.pin("bob")
    with serving(home) as node:
        old, bob = open_in_both(node, "a"), open_in_both(node, "bob")
        assert bring(node, "a", AB) == "accepted"
        node.hears("rotated", peer="alice")
        new = open_in_both(node, "b")
        for tls in (*old.values(), *new.values()):
            ping(tls)
        assert bring(node, "a", withdrawn("a", "b", -2)) == "accepted"
        for tls in new.values():
            assert how_it_ends(tls) == "cut"
        assert bring(node, "mallory", compromised("a", "c", -1)) == "asked"
        for tls in old.values():
            assert how_it_ends(tls) == "cut"
        for who in "abc":
            node.until(lambda who=who: Caller(identity(who)).hear(node.port) == "TLSV1_ALERT_UNKNOWN_CA")  # type: ignore[misc]
        for tls in bob.values():
            ping(tls)
        for tls in (*old.values(), *new.values(), *bob.values()):
            tls.close()


def test_of_two_different_successors_one_is_pinned_whichever_workers_hear_of_them(home: Home) -> None:
    rivals = [f"rival-{number}" for number in range(6)]
    home.pin("alice", identity("a"))
    with serving(home) as node, ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(lambda who: bring(node, who, following("a", who, -2)), rivals))
        assert sorted(outcomes) == ["accepted", *["refused"] * 5]
        node.hears("problem", code="two-successors", peer="alice", times=5)
        pins = PeerDirectory(home.path).refresh().peers["alice"].pins
        first = rivals[outcomes.index("accepted")]
        assert {*pins} == {identity(who).certificate.fingerprint for who in ("a", first)}


def test_whoever_has_rotated_gets_through_to_whichever_worker(home: Home, tmp_path: Path) -> None:
    home.pin("alice", identity("a"))
    mine = ClientHome(tmp_path / "alice", "b", "auto", AB)
    mine.pin("db-1", identity("node"))

    async def echoed(node: Serving) -> bytes:
        reader, writer = await Node.load(mine.home).open_connection("db-1", f"127.0.0.1:{node.port}")
        writer.write(b"here I am\n")
        try:
            return await asyncio.wait_for(reader.readline(), DEADLINE_S)
        finally:
            writer.close()

    with serving(home) as node:
        for _ in range(4):
            assert asyncio.run(echoed(node)) == b"here I am\n"
        assert len(node.told("rotated")) == 1

"""A server hears of a peer's next certificate: over peerauth/1, from those who may say so, and what comes of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.client.control import conversation, exactly
from peerauth.control.line import Declined
from peerauth.control.rotation import History, Statements
from peerauth.store.rotations import append_statement
from peerauth.trust.continuity import Kind
from peerauth.trust.identity import KeyType, new_key, self_signed
from tests.support.dropin import NOW
from tests.support.engine import Caller, Running, Yard, how_it_ends, identity, on_loops, running
from tests.support.rotating import HOUR, REFUSED, WEEK, Home, bring, compromised, following, fresh, hear, withdrawn


def pin(name: str) -> str:
    return str(identity(name).certificate.fingerprint)


AB, BC = following("a", "b", -3), following("b", "c", -2)


@on_loops()
async def test_a_peer_says_what_comes_next_and_is_admitted_with_both_until_the_date(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.pin("alice", identity("a"), settings="max_connections = 3")
    async with running(home, config=home.config) as node:
        assert await hear(node, identity("b")) == REFUSED
        assert await bring(node, identity("a"), AB) == "accepted"
        event = await node.hears("rotated", peer="alice")
        assert event.fingerprint == pin("b")
        for who in "ab":
            assert await hear(node, identity(who)) == "hello alice"
        alice = node.server.peers.peer("alice")
        assert (alice.settings.max_connections, alice.settings.rotated) == (3, AB.issued)
        assert alice.settings.retire == ((identity("a").certificate.fingerprint, AB.retire),)
        assert await bring(node, identity("b"), AB) == "accepted"
        assert len(node.told("rotated")) == 1


@on_loops()
async def test_whoever_was_away_and_has_switched_introduces_itself(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.pin("alice", identity("a"))
    async with running(home, config=home.config) as node:
        assert await bring(node, identity("c"), AB, BC) == "accepted"
        assert await hear(node, identity("c")) == "hello alice"


@on_loops()
async def test_live_connections_go_on_when_a_pin_is_added_and_end_when_it_is_withdrawn(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.pin("alice", identity("a"))
    async with running(home, config=home.config) as node:
        old = await asyncio.to_thread(Caller(identity("a")).open, node.port)
        await node.hears("admitted", peer="alice")
        assert await bring(node, identity("a"), AB) == "accepted"
        new = await asyncio.to_thread(Caller(identity("b")).open, node.port)
        await node.until(lambda: node.server.live.count("alice") == 2)
        assert await bring(node, identity("a"), withdrawn("a", "b", -2)) == "accepted"
        assert await asyncio.to_thread(how_it_ends, new) == "cut"
        new.close()
        assert node.server.live.count("alice") == 1
        assert node.server.peers.peer("alice").settings.retire == ()
        old.close()


@on_loops()
async def test_a_lost_key_loses_its_connections_at_once_whoever_says_so(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.pin("alice", identity("a"), settings='tags = ["ci"]')
    home.pin("bob")
    async with running(home, config=home.config) as node:
        live = await asyncio.to_thread(Caller(identity("a")).open, node.port)
        await node.hears("admitted", peer="alice")
        assert await bring(node, identity("mallory"), compromised("a", "b", -1)) == "asked"
        assert await asyncio.to_thread(how_it_ends, live) == "cut"
        live.close()
        await node.hears("problem", code="compromised", peer="alice")
        for who in "ab":
            assert await hear(node, identity(who)) == REFUSED
        assert home.waiting["alice"].certificate == identity("b").certificate.der
        assert await hear(node, identity("bob")) == "hello bob"
        node.server.peers.succeed("alice", identity("b").certificate, None)  # the person says yes
        assert await hear(node, identity("b")) == "hello alice"
        assert node.server.peers.peer("alice").tags == ("ci",)


@on_loops("asyncio")
async def test_a_person_is_asked_where_the_node_wants_that(tmp_path: Path) -> None:
    home = Home(tmp_path, accept="ask")
    home.pin("alice", identity("a"))
    async with running(home, config=home.config) as node:
        for _ in range(2):
            assert await bring(node, identity("a"), AB) == "asked"
        assert await hear(node, identity("b")) == REFUSED
        event = await node.hears("rotated", code="asked")
        assert pin("b") in event.message
        assert list(home.waiting) == ["alice"]
        assert await bring(node, identity("a"), following("a", "x", -1)) == "refused"
        await node.hears("problem", code="two-successors", peer="alice")
        assert await bring(node, identity("a"), withdrawn("a", "b", -2)) == "accepted"
        assert home.waiting == {}
        assert await bring(node, identity("a"), following("a", "x", -1)) == "asked"


@on_loops("asyncio")
async def test_a_peers_own_setting_goes_before_the_nodes(tmp_path: Path) -> None:
    home = Home(tmp_path, accept="ask")
    home.pin("alice", identity("a"), settings='rotation = "auto"')
    home.pin("bob", identity("bob"), settings='rotation = "never"')
    async with running(home, config=home.config) as node:
        assert await bring(node, identity("a"), AB) == "accepted"
        assert await bring(node, identity("bob"), following("bob", "x", -1)) == "refused"


@on_loops("asyncio")
async def test_a_node_without_a_home_follows_and_asks_nobody(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    yard.pin("alice", identity("a"))
    yard.pin("bob", identity("bob"), settings='rotation = "ask"')
    async with running(yard) as node:
        assert await bring(node, identity("a"), AB) == "accepted"
        assert await bring(node, identity("bob"), following("bob", "x", -1)) == "refused"
        assert await ask_history(node, "node") == ()


@on_loops("asyncio")
async def test_every_kind_of_key_follows_every_other(tmp_path: Path) -> None:
    kinds = (KeyType.RSA3072, KeyType.P256, KeyType.ED25519)
    rsa, p256, ed25519 = (self_signed(new_key(kind), f"of-{kind}", NOW) for kind in kinds)
    home = Home(tmp_path)
    home.pin("alice", rsa)
    first = fresh(Kind.NEXT, rsa, p256, NOW - 2 * HOUR)
    async with running(home, config=home.config) as node:
        assert await bring(node, rsa, first) == "accepted"
        assert await bring(node, ed25519, first, fresh(Kind.NEXT, p256, ed25519, NOW - HOUR)) == "accepted"
        for who in (rsa, p256, ed25519):
            assert await hear(node, who) == "hello alice"


@on_loops("asyncio")
async def test_after_the_date_the_old_one_is_refused_and_its_connection_ends(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.pin("alice", identity("a"))
    async with running(home, config=home.config) as node:
        live = await asyncio.to_thread(Caller(identity("a")).open, node.port)
        await node.hears("admitted", peer="alice")
        soon = fresh(Kind.NEXT, identity("a"), identity("b"), datetime.now(UTC), timedelta(seconds=2))
        assert await bring(node, identity("a"), soon) == "accepted"
        assert await asyncio.to_thread(how_it_ends, live) == "cut"
        live.close()
        await node.hears("ended", code="retired", peer="alice")
        assert await hear(node, identity("a")) == REFUSED
        assert await hear(node, identity("b")) == "hello alice"


@on_loops("asyncio")
async def test_a_peer_pinned_by_its_key_goes_on_to_another_key(tmp_path: Path) -> None:
    home = Home(tmp_path)
    key = new_key(KeyType.P256)
    one, two = (self_signed(key, name, NOW) for name in ("one", "two"))
    home.pin("alice", one, settings='pin = "key"')
    over = fresh(Kind.NEXT, two, identity("b"), NOW - 2 * HOUR, HOUR)
    async with running(home, config=home.config) as node:
        assert await hear(node, two) == "hello alice"
        assert await bring(node, two, fresh(Kind.NEXT, two, identity("b"), NOW - 3 * HOUR, WEEK)) == "accepted"
        for who in (one, two, identity("b")):
            assert await hear(node, who) == "hello alice"
        assert await bring(node, two, over) == "accepted"  # a date that is nearer
        for who in (one, two):
            assert await hear(node, who) == REFUSED
        assert await hear(node, identity("b")) == "hello alice"


# What a node tells of itself


async def ask_history(node: Running, known: str, who: str = "mallory") -> tuple[bytes, ...]:
    own = identity("node").certificate.fingerprint
    async with conversation(identity(who), Address("127.0.0.1", node.port), exactly(own)) as line:
        await line.send(History(identity(known).certificate.fingerprint))
        return (await line.receive(Statements)).statements


@on_loops("asyncio")
async def test_anybody_hears_what_became_of_a_certificate_of_ours_and_nothing_else(tmp_path: Path) -> None:
    home = Home(tmp_path)
    chain = [following("n1", "n2", -3), following("n2", "node", -2)]
    for one in chain:
        append_statement(home.config, one.data)
    async with running(home, config=home.config) as node:
        assert await ask_history(node, "n1") == tuple(one.data for one in chain)
        assert await ask_history(node, "n2") == (chain[1].data,)
        for known in ("node", "mallory", "a"):
            assert await ask_history(node, known) == ()


@on_loops("asyncio")
async def test_what_cannot_be_read_at_home_is_in_the_log_and_not_told(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (tmp_path / "node.rotations").write_bytes(b"junk\n")
    async with running(home, config=home.config) as node:
        with pytest.raises(Declined) as no:
            await ask_history(node, "node")
        assert (no.value.code, str(tmp_path) in no.value.message) == ("failed", False)
        await node.hears("problem", code="rotation-failed")


@on_loops("asyncio")
async def test_what_cannot_be_written_is_in_the_log_and_not_told(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.pin("alice", identity("a"))
    async with running(home, config=home.config) as node:
        home.place("alice.toml", "note = = ")
        await node.hears("problem", code="bad-toml")
        with pytest.raises(Declined) as no:
            await bring(node, identity("a"), AB)
        assert (no.value.code, "alice.toml" in no.value.message) == ("failed", False)
        await node.hears("problem", code="rotation-failed")
        assert await hear(node, identity("b")) == REFUSED
        assert (home.path / "alice.toml").read_text() == "note = = "

"""A server hears of a peer's next certificate: over peerauth/1, from those who may say so, and what comes of it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.client.control import conversation, exactly
from peerauth.control.line import Declined
from peerauth.control.rotation import History, Rotate, Rotated, Statements
from peerauth.errors import ConnectFailed
from peerauth.server.desk import LONGEST_OF_A_STRANGER
from peerauth.store.rotations import append_statement
from peerauth.trust.continuity import Kind, Statement, read_statement
from peerauth.trust.identity import Identity, KeyType, new_key, self_signed
from tests.support.dropin import NOW
from tests.support.engine import Caller, Running, Yard, how_it_ends, identity, on_loops, running
from tests.support.rotating import HOUR, WEEK, Home, compromised, following, fresh, withdrawn


async def bring(node: Running, who: Identity, *said: Statement) -> str:
    """Tell the node, as this one; the outcome."""
    pin = identity("node").certificate.fingerprint
    async with conversation(who, Address("127.0.0.1", node.port), exactly(pin)) as line:
        await line.send(Rotate(tuple(one.data for one in said)))
        return (await line.receive(Rotated)).outcome


async def hear(node: Running, who: Identity) -> str:
    """What this one hears of the service."""
    return await asyncio.to_thread(Caller(who).hear, node.port)


def pin(name: str) -> str:
    return str(identity(name).certificate.fingerprint)


AB, BC = following("a", "b", -3), following("b", "c", -2)
REFUSED = "TLSV1_ALERT_UNKNOWN_CA"


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
        assert home.waiting["alice"]["fingerprint"] == identity("b").certificate.fingerprint.digest.hex()
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


# Those who would like to have a say


@on_loops("asyncio")
async def test_a_stranger_brings_nothing_into_effect(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.pin("alice", identity("a"))
    async with running(home, config=home.config) as node:
        assert await bring(node, identity("mallory"), AB) == "refused"
        assert await bring(node, identity("mallory"), following("mallory", "a", -1)) == "accepted"  # which says nothing new
        assert await bring(node, identity("mallory"), following("x", "mallory", -1)) == "refused"
        await node.hears("refused", code="rotation-refused")
        for who in ("b", "mallory"):
            assert await hear(node, identity(who)) == REFUSED
        assert await bring(node, identity("b"), AB) == "accepted"


@on_loops("asyncio")
async def test_a_strangers_statements_cost_one_look_at_a_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they bring, and however dear their own keys are to check."""
    checked: list[bytes] = []

    def counting(data: bytes) -> Statement:
        checked.append(data)
        return read_statement(data)

    monkeypatch.setattr("peerauth.store.following.read_statement", counting)
    home = Home(tmp_path)
    home.pin("alice", identity("a"))
    own = [following(f"s{number}", f"s{number + 1}", number - 20) for number in range(8)]
    forged = json.loads(AB.data) | {"by_old": json.loads(own[0].data)["by_old"]}
    async with running(home, config=home.config) as node:
        assert await bring(node, identity("s8"), *own) == "refused"
        assert not checked
        with pytest.raises(Declined):
            await bring_raw(node, identity("s8"), *(one.data for one in own), json.dumps(forged).encode())
        assert len(checked) == 1
        assert await bring(node, identity("b"), AB) == "accepted"


@on_loops("asyncio")
async def test_a_stolen_certificate_without_its_key_is_no_successor(tmp_path: Path) -> None:
    """Mallory, who is pinned, puts bob's next certificate forward as hers, to be taken for bob or bob for her."""
    home = Home(tmp_path)
    home.pin("mallory")
    mine = identity("mallory")
    good = json.loads(following("mallory", "x", -1).data)
    theirs = json.loads(following("bob", "b", -1).data)
    forged = json.loads(good["statement"]) | {"new": json.loads(theirs["statement"])["new"]}
    async with running(home, config=home.config) as node:
        for by_new in (good["by_new"], theirs["by_new"], good["by_old"]):
            body = {"statement": json.dumps(forged), "by_old": good["by_old"], "by_new": by_new}
            with pytest.raises(Declined) as no:
                await bring_raw(node, mine, json.dumps(body).encode())
            assert no.value.code == "bad-statement"
        assert await hear(node, identity("b")) == REFUSED
        assert await bring_raw(node, mine, json.dumps(good).encode()) == "accepted"


async def bring_raw(node: Running, who: Identity, *said: bytes) -> str:
    own = identity("node").certificate.fingerprint
    async with conversation(who, Address("127.0.0.1", node.port), exactly(own)) as line:
        await line.send(Rotate(said))
        return (await line.receive(Rotated)).outcome


@on_loops("asyncio")
async def test_a_peer_that_was_removed_says_nothing_any_more(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.pin("alice", identity("a"))
    home.pin("bob")
    async with running(home, config=home.config) as node:
        home.unpin("alice")
        await node.hears("peer-removed", peer="alice")
        assert await bring(node, identity("a"), AB) == "refused"
        assert await bring(node, identity("b"), AB) == "refused"
        assert list(node.server.peers.refresh().peers) == ["bob"]


@on_loops("asyncio")
async def test_a_peer_speaks_for_itself_and_for_no_other(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.pin("alice", identity("a"))
    home.pin("bob")
    async with running(home, config=home.config) as node:
        assert await bring(node, identity("bob"), AB) == "refused"
        assert await bring(node, identity("bob"), following("bob", "a", -1)) == "refused"
        assert await bring(node, identity("a"), following("a", "bob", -1)) == "refused"
        for name, one in (("alice", "a"), ("bob", "bob")):
            assert node.server.peers.refresh().peers[name].pins == (identity(one).certificate.fingerprint,)
        assert await bring(node, identity("bob"), following("bob", "x", -1)) == "accepted"


@on_loops("asyncio")
async def test_replay_is_of_no_use_after_a_withdrawal_nor_after_a_restart(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.pin("alice", identity("a"))
    async with running(home, config=home.config) as node:
        assert await bring(node, identity("b"), AB) == "accepted"
        assert await bring(node, identity("a"), withdrawn("a", "b", -2)) == "accepted"
        for who in "ab":
            assert await bring(node, identity(who), AB) == "refused"
    async with running(home, config=home.config) as node:
        for who in "ab":
            assert await bring(node, identity(who), AB) == "refused"
        assert await hear(node, identity("b")) == REFUSED
        assert await bring(node, identity("c"), following("a", "c", -1)) == "accepted"


@on_loops("asyncio")
async def test_a_retired_certificate_puts_nobody_forward(tmp_path: Path) -> None:
    """Whoever finds the old key, years later."""
    home = Home(tmp_path)
    home.pin("alice", identity("a"))
    over = following("a", "b", -3, retire=HOUR)
    async with running(home, config=home.config) as node:
        assert await bring(node, identity("b"), over) == "accepted"
        assert await hear(node, identity("a")) == REFUSED
        for said in (following("a", "x", -1), over, withdrawn("a", "b", -1)):
            assert await bring(node, identity("x"), said) == "refused"
            outcome = await bring(node, identity("a"), said)
            assert outcome == ("accepted" if said is over else "refused")
        assert await hear(node, identity("x")) == REFUSED
        assert await hear(node, identity("b")) == "hello alice"
        assert await bring(node, identity("b"), following("b", "c", 0)) == "accepted"
        assert len(node.server.peers.certificates("alice")) == 2  # the retired one is gone from the file


@on_loops("asyncio")
async def test_two_different_successors_are_loud(tmp_path: Path) -> None:
    """Somebody else has the key, too; whoever comes first has the peer's place until a person looks."""
    home = Home(tmp_path)
    home.pin("alice", identity("a"))
    async with running(home, config=home.config) as node:
        outcomes = await asyncio.gather(
            bring(node, identity("b"), following("a", "b", -2)), bring(node, identity("x"), following("a", "x", -1))
        )
        assert sorted(outcomes) == ["accepted", "refused"]
        event = await node.hears("problem", code="two-successors", peer="alice")
        assert event.hint is not None
        admitted = [who for who in "bx" if await hear(node, identity(who)) == "hello alice"]
        assert len(admitted) == 1
        last = {"b": compromised("a", "c", 0), "x": compromised("a", "c", 0)}[admitted[0]]
        assert await bring(node, identity("c"), last) == "asked"
        for who in "abxc":
            assert await hear(node, identity(who)) == REFUSED


@on_loops("asyncio")
@pytest.mark.parametrize(
    "said",
    [
        (AB, following("c", "d", -1)),
        (BC, AB),
        (AB, following("b", "a", -2)),
        (AB, withdrawn("a", "b", -2)) * 6,
        (following("b", "c", -2),),
    ],
    ids=["a gap", "swapped", "a loop", "round and round", "the beginning is missing"],
)
async def test_a_chain_with_something_wrong_has_no_effect(tmp_path: Path, said: tuple[Statement, ...]) -> None:
    home = Home(tmp_path)
    home.pin("alice", identity("a"))
    async with running(home, config=home.config) as node:
        assert await bring(node, identity("c"), *said) == "refused"
        assert node.server.peers.refresh().peers["alice"].pins == (identity("a").certificate.fingerprint,)
        assert await bring(node, identity("c"), AB, BC) == "accepted"


@on_loops("asyncio")
async def test_more_links_than_there_may_be_are_not_even_looked_at(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.pin("alice", identity("a"))
    async with running(home, config=home.config) as node:
        assert await bring_raw(node, identity("a"), *[b"x"] * 1000) == "refused"
        with pytest.raises((ConnectFailed, OSError)):
            await bring_raw(node, identity("a"), *[b"x"] * 1001)
        assert await bring(node, identity("a"), AB) == "accepted"


@on_loops("asyncio")
async def test_a_stranger_is_heard_to_a_length(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.pin("alice", identity("a"))
    async with running(home, config=home.config) as node:
        with pytest.raises((ConnectFailed, OSError)):
            await bring_raw(node, identity("b"), b"x" * LONGEST_OF_A_STRANGER)
        assert await bring(node, identity("b"), AB) == "accepted"


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

"""Threat: somebody who is not the peer, or is no more, puts a certificate forward as the peer's next.

By a statement of their own, somebody else's, an old one, a bent chain, or too many of them.
Each attack has a twin that succeeds.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from peerauth.control.line import Declined
from peerauth.errors import ConnectFailed
from peerauth.server.desk import LONGEST_OF_A_STRANGER
from peerauth.trust.continuity import Statement, read_statement
from tests.support.engine import identity, on_loops, running
from tests.support.rotating import HOUR, REFUSED, Home, bring, bring_raw, compromised, following, hear, withdrawn

AB, BC = following("a", "b", -3), following("b", "c", -2)


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

"""Threat: somebody without a token finds out which invitations there are, or guesses one."""

from __future__ import annotations

import os

import pytest

from peerauth.address import Address
from peerauth.control.invitation import Join, Joined
from peerauth.control.line import Line
from peerauth.errors import BadInput, PeerAuthError
from peerauth.rate import Buckets
from peerauth.trust.invitation import ID, SECRET, make_token, read_token
from tests.support.engine import identity, on_loops
from tests.support.inviting import HOUR, book_of, invite, inviting, join, pinned, proper, refused, say, users
from tests.support.workers import Home

MALLORY = identity("mallory")


@on_loops("asyncio")
async def test_an_invitation_that_is_there_and_one_that_is_not_answer_alike(home: Home) -> None:
    async with inviting(home) as node:
        tokens = [invite(home.home, node.port), invite(home.home, node.port, ttl=-HOUR), invite(home.home, node.port)]
        book_of(home.home).revoke([tokens[2].id], tokens[0].expires - HOUR)
        used = invite(home.home, node.port)
        await join("bob", used)
        ids = [*(token.id for token in (*tokens, used)), os.urandom(ID), b"", b"x", b"\0" * 1000]
        answers = {await say(node.port, MALLORY, lambda _, id_=id_: Join(id_, bytes(64), "x")) for id_ in ids}  # type: ignore[misc]
        assert answers == {"invitation: there is no such invitation, or this is no proof of it"}
        assert isinstance(await say(node.port, MALLORY, proper(tokens[0], MALLORY)), Joined)


@on_loops("asyncio")
async def test_a_source_may_be_wrong_so_often_and_who_is_right_is_heard_from_elsewhere(home: Home) -> None:
    async with inviting(home) as node:
        node.server._desk.office.guesses = Buckets(5, 0.0, lambda: 0.0)
        token = invite(home.home, node.port, uses=9)
        for _ in range(7):  # who is right costs nothing
            assert isinstance(await say(node.port, MALLORY, proper(token, MALLORY)), Joined)
        eve = identity("eve")
        answers = [str(await say(node.port, eve, lambda _: Join(token.id, bytes(64), "x"))) for _ in range(7)]
        assert [answer.partition(":")[0] for answer in answers] == ["invitation"] * 5 + ["too-many-attempts"] * 2
        assert str(await say(node.port, eve, proper(token, eve))).startswith("too-many-attempts")
        node.server._desk.office.guesses._of.clear()  # as from another address
        assert isinstance(await say(node.port, eve, proper(token, eve)), Joined)


@on_loops("asyncio")
async def test_guesses_do_not_fill_the_log(home: Home) -> None:
    async with inviting(home) as node:
        token = invite(home.home, node.port)
        for _ in range(60):
            await say(node.port, MALLORY, lambda _: Join(token.id, bytes(64), "x"))
        assert 1 <= len(node.told("refused", code="invitation")) <= 25
        assert users(home.home, token) == []


def test_a_token_with_one_byte_changed_is_not_even_sent() -> None:
    """It is told from one that nobody knows, before anybody is asked."""
    token = make_token(
        bytes(SECRET), identity("node").certificate.fingerprint, MALLORY.certificate.not_after, [Address("a.example", 1)]
    )
    text = token.text
    assert read_token(text) == token
    for at in range(len(text)):
        changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        with pytest.raises(BadInput) as error:
            read_token(changed)
        assert error.value.code == "bad-token"


@on_loops("asyncio")
async def test_a_token_whose_secret_is_another_is_refused_by_the_node(home: Home) -> None:
    async with inviting(home) as node:
        token = invite(home.home, node.port)
        guess = make_token(os.urandom(SECRET), token.pin, token.expires, token.addresses)
        assert (await refused("mallory", guess)).code == "invitation"
        await join("mallory", token)
    assert set(pinned(home)) == {"mallory"}


@on_loops("asyncio")
async def test_a_name_of_64_kb_ends_the_visit_and_nothing_else(home: Home) -> None:
    async with inviting(home) as node:
        token = invite(home.home, node.port)
        for length in (16_300, 65_000):

            def huge(line: Line, length: int = length) -> Join:
                return proper(token, MALLORY, "x" * length)(line)

            with pytest.raises(PeerAuthError):
                await say(node.port, MALLORY, huge)
        assert users(home.home, token) == []
        assert isinstance(await say(node.port, MALLORY, proper(token, MALLORY, "x" * 64)), Joined)
    assert set(pinned(home)) == {"x" * 64}

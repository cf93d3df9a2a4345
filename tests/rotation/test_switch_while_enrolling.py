"""Whoever pairs or joins while the node goes over to another identity deals with the one that it was shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.client.control import conversation, exactly
from peerauth.control.invitation import Joined
from peerauth.control.line import Declined
from peerauth.control.pairing import Element, Pair, Paired, Pinned, Proof
from peerauth.server.server import Server
from peerauth.trust.identity import Identity
from peerauth.trust.pairing import Stage
from tests.support.engine import identity, on_loops
from tests.support.inviting import invite, inviting, pinned, proper, users
from tests.support.pairing import exchange, open_window, pin, pins, talking
from tests.support.workers import Home

NEW = identity("next")


def go_over(server: Server, new: Identity) -> None:
    """What the server does when it finds another identity on disk (server/presence.py)."""
    server._contexts.present(new)
    server._office.identity = new


@on_loops("asyncio")
async def test_a_pairing_goes_on_and_no_guess_is_lost(tmp_path: Path) -> None:
    async with open_window(tmp_path) as node:
        async with talking(node.address) as line:
            go_over(node.server, NEW)
            guess = exchange(line, node.window.code)
            await line.send(Pair(guess.element))
            guess.hear((await line.receive(Element)).element)
            await line.send(Proof(guess.prove("alice"), "alice"))
            answer = await line.receive(Proof)
            guess.check(answer.proof, answer.name)
            await line.send(Pinned())
            await line.receive(Paired)
        assert node.stages == [Stage.PAIRED]
        assert pins(node.home) == {"alice": [pin("alice")]}


@on_loops("asyncio")
async def test_a_joiner_is_let_in_and_the_token_is_good_for_nobody_else(tmp_path: Path) -> None:
    home = Home(tmp_path)
    alice, bob = identity("alice"), identity("bob")
    async with inviting(home) as node:
        token, address = invite(home.home, node.port, uses=2), Address("127.0.0.1", node.port)
        async with conversation(alice, address, exactly(token.pin)) as line:
            go_over(node.server, NEW)
            await line.send(proper(token, alice)(line))
            assert await line.receive(Joined) == Joined("joiner", "node", already=False)
        assert users(home.home, token) == ["joiner"]
        async with conversation(bob, address, exactly(NEW.certificate.fingerprint)) as line:
            await line.send(proper(token, bob)(line))
            with pytest.raises(Declined) as no:
                await line.receive(Joined)
        assert no.value.code == "invitation", "the token is for the identity from before"
        assert set(pinned(home)) == {"joiner"}

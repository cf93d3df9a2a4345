"""A server that is not the one that is meant, or does not do its part: the code is tried once, and what is known is said."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from peerauth.address import Address
from peerauth.control.exchange import Exchange
from peerauth.control.pairing import Element, Pair, Paired, Pinned, Proof
from peerauth.control.wire import Message
from peerauth.errors import BadInput
from peerauth.server.desk import Visit
from tests.support.engine import Yard, on_loops, running
from tests.support.pairing import WRONG, Initiator, pin

Play = Callable[[Visit, Pair, str], Awaitable[Message]]


async def _hang_up(_visit: Visit, _request: Pair, _code: str) -> Message:
    raise ConnectionResetError


async def _element_sent_back(_visit: Visit, request: Pair, _code: str) -> Message:
    return Element(request.element)


async def _element_with_our_letter(_visit: Visit, request: Pair, _code: str) -> Message:
    return Element(b"B" + request.element[1:])


async def _identity_element(_visit: Visit, _request: Pair, _code: str) -> Message:
    return Element(b"B\1" + bytes(31))


async def _proof_at_once(_visit: Visit, _request: Pair, _code: str) -> Message:
    return Proof(bytes(32), "node")


async def _proof_sent_back(visit: Visit, request: Pair, code: str) -> Message:
    theirs = _server(visit, request, code)
    await visit.line.send(Element(theirs.element))
    return await visit.line.receive(Proof)


async def _proof_then_hang_up(visit: Visit, request: Pair, code: str) -> Message:
    await _proof_sent_back(visit, request, code)
    raise ConnectionResetError


async def _wrong_guess(visit: Visit, request: Pair, _code: str) -> Message:
    theirs = _server(visit, request, WRONG)
    await visit.line.send(Element(theirs.element))
    await visit.line.receive(Proof)
    return Proof(theirs.prove("node"), "node")


async def _bad_name(visit: Visit, request: Pair, code: str) -> Message:
    theirs = _server(visit, request, code)
    await visit.line.send(Element(theirs.element))
    await visit.line.receive(Proof)
    return Proof(theirs.prove("../evil"), "../evil")


async def _pinned_for_nothing(_visit: Visit, _request: Pair, _code: str) -> Message:
    return Paired()


async def _honest(visit: Visit, request: Pair, code: str) -> Message:
    theirs = _server(visit, request, code)
    await visit.line.send(Element(theirs.element))
    proof = await visit.line.receive(Proof)
    theirs.check(proof.proof, proof.name)
    await visit.line.send(Proof(theirs.prove("node"), "node"))
    await visit.line.receive(Pinned)
    return Paired()


def _server(visit: Visit, request: Pair, code: str) -> Exchange:
    theirs = Exchange("server", code, visit.fingerprint, pin("node"), visit.channel)
    theirs.hear(request.element)
    return theirs


@on_loops("asyncio")
@pytest.mark.parametrize(
    ("play", "came", "said"),
    [
        (_honest, "paired", ""),
        (_wrong_guess, "wrong-code", "somebody stands in between"),
        (_element_sent_back, "wrong-code", "somebody stands in between"),
        (_element_with_our_letter, "wrong-code", "somebody stands in between"),
        (_identity_element, "wrong-code", "somebody stands in between"),
        (_proof_sent_back, "wrong-code", "somebody stands in between"),
        (_proof_at_once, "pair-broken", "neither side has pinned the other"),
        (_pinned_for_nothing, "pair-broken", "neither side has pinned the other"),
        (_hang_up, "pair-broken", "neither side has pinned the other"),
        (_proof_then_hang_up, "pair-broken", "it may have pinned this node, which has not pinned it"),
        (_bad_name, "bad-name", "has pinned this node, which has not pinned it"),
    ],
)
async def test_an_initiator_tries_its_code_once_and_says_what_it_knows(
    tmp_path: Path, play: Play, came: str, said: str
) -> None:
    visits = 0
    async with running(Yard(tmp_path / "peers")) as node:

        async def handler(visit: Visit, request: Any) -> Message:  # noqa: ANN401 - as the desk has it
            nonlocal visits
            visits += 1
            return await play(visit, request, "river-tiger-bamboo")

        node.server._desk._handlers = {Pair: handler}
        alice = Initiator()
        assert await alice(Address("127.0.0.1", node.port), "river-tiger-bamboo") == came
    assert visits == 1
    assert alice.pinned == ([pin("node")] if came == "paired" else [])
    if came != "paired":
        assert said in alice.error.message
        assert isinstance(alice.error, BadInput) or alice.error.hint

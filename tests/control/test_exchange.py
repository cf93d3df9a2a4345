"""The proof of pairing: good between two who have the same code, certificates and channel, and between no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from peerauth.control.exchange import Exchange
from peerauth.errors import TrustRefused
from peerauth.trust.fingerprint import Fingerprint
from tests.control import points

CODE = "river-tiger-bamboo"
ALICE, BOB, MALLORY = (Fingerprint.of(name) for name in (b"alice", b"bob", b"mallory"))
CHANNEL = bytes(range(32))


def pair(**other: Any) -> tuple[Exchange, Exchange]:  # noqa: ANN401 - what is different for the server
    """An initiator and a server who have heard each other's element."""
    ours = {"code": CODE, "initiator": ALICE, "server": BOB, "channel": CHANNEL}
    initiator, server = Exchange("initiator", **ours), Exchange("server", **(ours | other))  # type: ignore[arg-type]
    server.hear(initiator.element)
    initiator.hear(server.element)
    return initiator, server


def fails(check: Callable[[], object]) -> None:
    with pytest.raises(TrustRefused) as error:
        check()
    assert error.value.code == "wrong-code"


def test_both_prove_to_each_other() -> None:
    initiator, server = pair()
    server.check(initiator.prove("alice"), "alice")
    initiator.check(server.prove("bob"), "bob")


@pytest.mark.parametrize(
    "other",
    [
        {"code": "river-tiger-banana"}, {"initiator": MALLORY}, {"server": MALLORY}, {"initiator": BOB, "server": ALICE},
        {"channel": bytes(32)},
    ],
    ids=["code", "initiator's certificate", "server's certificate", "certificates swapped", "channel"],
)  # fmt: skip
def test_one_difference_and_neither_proof_is_good(other: dict[str, Any]) -> None:
    initiator, server = pair(**other)
    fails(lambda: server.check(initiator.prove("alice"), "alice"))
    fails(lambda: initiator.check(server.prove("bob"), "bob"))


def test_a_proof_goes_with_its_name_and_its_side() -> None:
    initiator, server = pair()
    proof = initiator.prove("alice")
    fails(lambda: server.check(proof, "bob"))
    fails(lambda: server.check(proof[:-1], "alice"))
    fails(lambda: server.check(b"", "alice"))
    fails(lambda: initiator.check(proof, "alice"))  # our own, sent back
    server.check(proof, "alice")


def test_what_was_recorded_is_worth_nothing_in_another_exchange() -> None:
    initiator, _ = pair()
    recorded = initiator.element, initiator.prove("alice")
    server = Exchange("server", CODE, ALICE, BOB, CHANNEL)  # even if the channel were the same
    server.hear(recorded[0])
    fails(lambda: server.check(recorded[1], "alice"))


# RFC 8032: the points of small order, as they are encoded; the first is the identity
SMALL = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
]
JUNK = {
    "empty": b"",
    "the letter alone": b"A",
    "too short": b"A" + bytes(31),
    "too long": b"A" + points.encode(points.BASE) + b"\0",
    "no letter": points.encode(points.BASE),
    "no point": b"A" + b"\x02" + bytes(31),
    "another letter": b"S" + points.encode(points.BASE),
    "the server's letter": b"B" + points.encode(points.BASE),
    "ones": b"A" + b"\xff" * 32,
    "of twice the order": b"A" + points.encode(points.add(points.BASE, points.decode(bytes.fromhex(SMALL[1])))),
    **{f"of small order {number}": b"A" + bytes.fromhex(text) for number, text in enumerate(SMALL)},
}


@pytest.mark.parametrize("element", JUNK.values(), ids=JUNK)
def test_an_element_that_no_honest_side_sends_is_as_good_as_a_wrong_code(element: bytes) -> None:
    server = Exchange("server", CODE, ALICE, BOB, CHANNEL)
    fails(lambda: server.hear(element))
    initiator = Exchange("initiator", CODE, ALICE, BOB, CHANNEL)
    letter = {b"A": b"B", b"B": b"A"}.get(element[:1], element[:1])
    fails(lambda: initiator.hear(letter + element[1:]))


def test_the_base_point_is_an_element_and_proves_nothing() -> None:
    """The twin of the junk: taken, and of no use to whoever does not know the code."""
    server = Exchange("server", CODE, ALICE, BOB, CHANNEL)
    server.hear(b"A" + points.encode(points.BASE))
    guess = points.Other("initiator", "another-code-here", 1)
    keys = guess.keys(server.element, ALICE.digest, BOB.digest, CHANNEL)
    fails(lambda: server.check(points.proof(keys[0], "initiator", "alice"), "alice"))


def test_our_own_element_sent_back_is_refused() -> None:
    initiator = Exchange("initiator", CODE, ALICE, BOB, CHANNEL)
    fails(lambda: initiator.hear(initiator.element))
    initiator = Exchange("initiator", CODE, ALICE, BOB, CHANNEL)
    fails(lambda: initiator.hear(b"B" + initiator.element[1:]))


@pytest.mark.parametrize("side", ["initiator", "server"])
def test_it_is_what_the_page_describes(side: str) -> None:
    """Each side of ours pairs with one that was written from docs/protocol.md."""
    ours = Exchange("server" if side == "initiator" else "initiator", CODE, ALICE, BOB, CHANNEL)
    other = points.Other(side, CODE, 0x1234567890ABCDEF)
    ours.hear(other.element)
    initiator, server = other.keys(ours.element, ALICE.digest, BOB.digest, CHANNEL)
    mine, theirs = (initiator, server) if side == "initiator" else (server, initiator)
    ours.check(points.proof(mine, side, "other"), "other")
    assert ours.prove("us") == points.proof(theirs, ours.side, "us")
    fails(lambda: ours.check(points.proof(theirs, side, "other"), "other"))


def test_the_numbers_of_the_page_are_those_of_the_library() -> None:
    from spake2.parameters.ed25519 import ParamsEd25519  # type: ignore[import-untyped]  # noqa: PLC0415 - as we load it

    assert (ParamsEd25519.M.to_bytes(), ParamsEd25519.N.to_bytes()) == (points.M, points.N)
    assert ParamsEd25519.group.password_to_scalar(CODE.encode()) == points.scalar(CODE)

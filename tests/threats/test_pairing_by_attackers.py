"""Attackers of pairing: who guesses, stands in between, replays, reflects or leaves. Each has a twin who means well."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peerauth.address import Address
from peerauth.control.line import Declined, Line
from peerauth.control.messages import Check, Checked
from peerauth.control.pairing import Element, Pair, Proof
from peerauth.control.wire import Message
from peerauth.errors import PeerAuthError
from peerauth.server.desk import Visit
from peerauth.store.pairing import Pairing
from peerauth.tls.alerts import Truncated
from peerauth.trust.pairing import Stage, Window
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Yard, identity, on_loops, running
from tests.support.pairing import WRONG, Initiator, Open, exchange, open_window, pin, pins, talking
from tests.support.workers import Home, serving


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110 - what is on disk has no event
            await asyncio.sleep(0.01)


async def says_no(line: Line) -> str:
    """The code of the `no` that comes."""
    with pytest.raises(Declined) as no:
        await line.receive(Proof)
    return no.value.code


# Whoever guesses


@on_loops("asyncio")
async def test_three_wrong_codes_close_the_window_to_the_right_one(tmp_path: Path) -> None:
    async with open_window(tmp_path) as node:
        mallory, alice = Initiator("mallory"), Initiator()
        assert [await mallory(node.address, WRONG) for _ in range(4)] == ["wrong-code"] * 3 + ["not-pairing"]
        assert await alice(node.address, node.window.code) == "not-pairing"
        assert node.stages == [Stage.WRONG] * 3
        assert (pins(node.home), alice.pinned, mallory.pinned) == ({}, [], [])


@on_loops()
async def test_two_wrong_codes_do_not(tmp_path: Path) -> None:
    async with open_window(tmp_path) as node:
        mallory, alice = Initiator("mallory"), Initiator()
        assert [await mallory(node.address, WRONG) for _ in range(2)] == ["wrong-code"] * 2
        assert await alice(node.address, node.window.code) == "paired"
        assert (pins(node.home), alice.pinned) == ({"alice": [pin("alice")]}, [pin("node")])
        assert [event.code for event in node.events if event.event == "refused"] == ["wrong-code"] * 2


@on_loops("asyncio")
async def test_no_guess_holds_the_loop_while_it_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks and syncs wait for a disk; whoever guesses makes nobody else wait for it."""
    threads: list[int] = []
    real = Pairing.change

    def change(self: Pairing, *facts: Any, **more: Any) -> Window:  # noqa: ANN401 - as they are
        threads.append(threading.get_ident())
        return real(self, *facts, **more)

    monkeypatch.setattr(Pairing, "change", change)
    async with open_window(tmp_path) as node:
        assert await Initiator("mallory")(node.address, WRONG) == "wrong-code"
        assert await Initiator()(node.address, node.window.code) == "paired"
        await until(lambda: node.stages == [Stage.WRONG, Stage.PAIRED])
    assert len(threads) == 6, "two guesses begin, one is wrong; the other is proven, pinned, and heard"
    assert threading.get_ident() not in threads


async def _begin(address: Address, start: asyncio.Event, ready: asyncio.Semaphore) -> str:
    """Be there, wait for the others, then guess."""
    try:
        async with talking(address, "mallory") as line:
            guess = exchange(line, WRONG, me="mallory")
            ready.release()
            await start.wait()
            await line.send(Pair(guess.element))
            await line.receive(Element)
            return "let"
    except PeerAuthError as error:
        return error.code
    finally:
        ready.release()


def test_of_twenty_at_once_over_two_workers_three_are_let_to_guess(tmp_path: Path) -> None:
    home = Home(tmp_path)

    async def storm(address: Address) -> list[str]:
        start, ready = asyncio.Event(), asyncio.Semaphore(0)
        tasks = [asyncio.create_task(_begin(address, start, ready)) for _ in range(20)]
        for _ in tasks:
            await ready.acquire()
        start.set()
        return await asyncio.gather(*tasks)

    with serving(home, workers=2) as server, Pairing(home.home).opened("node", None, ()) as window:
        address = Address("127.0.0.1", server.port)
        came = asyncio.run(storm(address))
        assert came.count("let") == 3
        assert set(came) - {"let", "closed"} == {"not-pairing"}  # "closed": more from one address than a worker hears
        assert asyncio.run(Initiator()(address, window.code)) == "not-pairing"
        assert len({said["worker"] for said in server.told("refused", code="wrong-code")}) >= 1
    assert pins(home) == {}


def test_of_three_at_once_who_know_the_code_one_is_pinned(tmp_path: Path) -> None:
    """The twin: with the right code over two workers; and one window makes one peer."""
    home = Home(tmp_path)
    people = [Initiator(who) for who in ("alice", "bob", "carol")]

    async def together(address: Address, code: str) -> list[str]:
        return await asyncio.gather(*(one(address, code) for one in people))

    with serving(home, workers=2) as server, Pairing(home.home).opened("node", None, ()) as window:
        came = asyncio.run(together(Address("127.0.0.1", server.port), window.code))
    assert sorted(came) == ["not-pairing", "not-pairing", "paired"]
    winner = people[came.index("paired")]
    assert pins(home) == {winner.who: [pin(winner.who)]}
    assert [one.pinned for one in people if one is not winner] == [[], []]
    assert winner.pinned == [pin("node")]


@on_loops("asyncio")
async def test_where_nobody_waits_nothing_is_tried_and_nothing_noted(tmp_path: Path) -> None:
    async with open_window(tmp_path) as node:
        node.pairing.close()
        assert await Initiator()(node.address, node.window.code) == "not-pairing"
        assert node.pairing.look() is None


# Whoever stands in between


@contextlib.asynccontextmanager
async def in_the_middle(place: Path, onward: Address, said: list[Message]) -> AsyncIterator[Address]:
    """Mallory with a certificate of her own on both sides, who passes on whatever is said."""

    async def relay(visit: Visit, request: Pair) -> Message:
        async with talking(onward, "mallory") as line:

            async def pass_on(message: Message, *kinds: type[Message]) -> Message:
                said.append(message)
                await line.send(message)
                said.append(await line.receive(*kinds))
                return said[-1]

            await visit.line.send(await pass_on(request, Element))
            return await pass_on(await visit.line.receive(Proof), Proof)

    async with running(Yard(place / "middle"), own=identity("mallory")) as middle:
        middle.server._desk._handlers = {Pair: relay}
        yield Address("127.0.0.1", middle.port)


@on_loops()
async def test_whoever_relays_with_certificates_of_their_own_fails_on_both_sides_and_uses_up_one_guess(
    tmp_path: Path,
) -> None:
    said: list[Message] = []
    async with open_window(tmp_path) as node, in_the_middle(tmp_path, node.address, said) as middle:
        alice = Initiator()
        assert await alice(middle, node.window.code) == "wrong-code"
        assert "somebody stands in between" in alice.error.message
        assert [type(one) for one in said] == [Pair, Element, Proof]
        assert node.stages == [Stage.WRONG]
        assert node.now.guesses[0].fingerprint == pin("mallory")
        assert (pins(node.home), alice.pinned) == ({}, [])
        assert await alice(node.address, node.window.code) == "paired"  # straight, with the same code


@on_loops("asyncio")
async def test_whoever_passes_bytes_on_is_no_attacker(tmp_path: Path) -> None:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(node.address.host, node.address.port)

        async def one_way(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.write_eof()

        with contextlib.suppress(OSError):
            await asyncio.gather(one_way(reader, there[1]), one_way(there[0], writer))
        for end in (there[1], writer):
            end.close()

    async with open_window(tmp_path) as node:
        wire = await asyncio.start_server(carry, "127.0.0.1", 0)
        async with wire:
            alice = Initiator()
            assert await alice(Address("127.0.0.1", wire.sockets[0].getsockname()[1]), node.window.code) == "paired"
    assert (pins(node.home), alice.pinned) == ({"alice": [pin("alice")]}, [pin("node")])


# Whoever knows something, but not all


@on_loops("asyncio")
@pytest.mark.parametrize(
    "swapped", [{"me": "alice", "them": "node"}, {"me": "mallory", "them": "alice"}, {"me": "node", "them": "mallory"}]
)
async def test_a_proof_about_other_certificates_is_not_good(tmp_path: Path, swapped: dict[str, str]) -> None:
    """Even from somebody who knows the code; the twin differs in the certificates that it speaks of."""
    async with open_window(tmp_path) as node:
        for about, good in ((swapped, False), ({"me": "mallory", "them": "node"}, True)):
            async with talking(node.address, "mallory") as line:
                ours = exchange(line, node.window.code, **about)
                await line.send(Pair(ours.element))
                ours.hear((await line.receive(Element)).element)
                await line.send(Proof(ours.prove("mallory"), "mallory"))
                if good:
                    answer = await line.receive(Proof)
                    ours.check(answer.proof, answer.name)
                else:
                    assert await says_no(line) == "wrong-code"
            assert pins(node.home) == ({"mallory": [pin("mallory")]} if good else {})


@on_loops("asyncio")
async def test_what_was_recorded_is_worth_nothing_on_another_connection(tmp_path: Path) -> None:
    """Alice leaves before her proof; somebody who has recorded all of it (and even has her key) plays it again."""
    async with open_window(tmp_path) as node:
        async with talking(node.address) as line:
            ours = exchange(line, node.window.code)
            await line.send(Pair(ours.element))
            ours.hear((await line.receive(Element)).element)
            recorded = Pair(ours.element), Proof(ours.prove("alice"), "alice")
        async with talking(node.address) as line:
            await line.send(recorded[0])
            await line.receive(Element)
            await line.send(recorded[1])
            assert await says_no(line) == "wrong-code"
        assert (node.stages, pins(node.home)) == ([Stage.WRONG] * 2, {})
        assert await Initiator()(node.address, node.window.code) == "paired"


@on_loops("asyncio")
async def test_the_proof_is_asked_for_before_the_server_gives_its_own(tmp_path: Path) -> None:
    async with open_window(tmp_path) as node, talking(node.address) as line:
        ours = exchange(line, WRONG)
        await line.send(Pair(ours.element))
        ours.hear((await line.receive(Element)).element)
        await line.send(Proof(bytes(32), "alice"))
        assert await says_no(line) == "wrong-code"  # and that is all that it says


@on_loops("asyncio")
@pytest.mark.parametrize(
    "element", [b"", b"A" + b"\1" + bytes(31), b"A" + b"\xff" * 32, bytes(1000)], ids=["empty", "identity", "ones", "long"]
)
async def test_an_element_that_is_none_is_a_guess_like_any_other(tmp_path: Path, element: bytes) -> None:
    async with open_window(tmp_path) as node:
        async with talking(node.address, "mallory") as line:
            await line.send(Pair(element))
            assert await says_no(line) == "wrong-code"
        assert node.stages == [Stage.WRONG]
        assert await Initiator()(node.address, node.window.code) == "paired"


@on_loops("asyncio")
@pytest.mark.parametrize(
    ("name", "refused"),
    [("../evil", "bad-name"), ("a\x1b[31mb", "bad-name"), ("", "bad-name"), ("db", "name-reserved"), ("mallory", None)],
)
async def test_a_name_that_somebody_proposes_is_checked(tmp_path: Path, name: str, refused: str | None) -> None:
    async with open_window(tmp_path, settings='[groups]\nops = ["db"]\n') as node:
        async with talking(node.address, "mallory") as line:
            ours = exchange(line, node.window.code, me="mallory")
            await line.send(Pair(ours.element))
            ours.hear((await line.receive(Element)).element)
            await line.send(Proof(ours.prove(name), name))
            if refused:
                assert await says_no(line) == refused
            else:
                await line.receive(Proof)
        assert list(pins(node.home)) == ([] if refused else [name])
        assert node.now.guesses[0].reason.isprintable()
        assert len(list(node.home.path.iterdir())) == (0 if refused else 1)


# Whoever leaves


async def _leave_after(node: Open, steps: int, code: str) -> None:
    """Break off, without a goodbye, after so many messages of an initiator."""
    with contextlib.suppress(PeerAuthError, OSError):
        async with talking(node.address) as line:
            ours = exchange(line, code)
            if steps > 0:
                await line.send(Pair(ours.element))
                ours.hear((await line.receive(Element)).element)
            if steps > 1:
                await line.send(Proof(ours.prove("alice"), "alice"))
            if steps > 2:
                await line.receive(Proof)
            line.abort()
            raise Truncated("left")


@on_loops("asyncio")
@pytest.mark.parametrize(
    ("steps", "stages", "pinned"),
    [(0, [], False), (1, [Stage.WRONG], False), (2, [Stage.UNHEARD], True), (3, [Stage.UNHEARD], True)],
)
async def test_who_breaks_off_has_used_a_guess_up_and_is_pinned_only_if_it_was_good(
    tmp_path: Path, steps: int, stages: list[Stage], pinned: bool
) -> None:
    async with open_window(tmp_path) as node:
        await _leave_after(node, steps, node.window.code)
        await until(lambda: node.stages == stages)
        assert pins(node.home) == ({"alice": [pin("alice")]} if pinned else {})
        assert await Initiator("bob")(node.address, node.window.code) == ("not-pairing" if pinned else "paired")


@on_loops("asyncio")
async def test_who_proves_nothing_and_breaks_off_is_not_pinned(tmp_path: Path) -> None:
    async with open_window(tmp_path) as node:
        await _leave_after(node, 2, WRONG)
        await until(lambda: node.stages == [Stage.WRONG])
        assert pins(node.home) == {}


@on_loops("asyncio")
@pytest.mark.parametrize("late", [False, True])
async def test_a_proof_that_comes_when_the_window_is_over_is_not_good(tmp_path: Path, late: bool) -> None:
    async with open_window(tmp_path) as node:
        async with talking(node.address) as line:
            ours = exchange(line, node.window.code)
            await line.send(Pair(ours.element))
            ours.hear((await line.receive(Element)).element)
            if late:
                node.pairing.change(node.window.id, lambda window: replace(window, until=time.time()))
            await line.send(Proof(ours.prove("alice"), "alice"))
            if late:
                assert await says_no(line) == "not-pairing"
            else:
                await line.receive(Proof)
        assert pins(node.home) == ({} if late else {"alice": [pin("alice")]})
        if late:
            assert await Initiator()(node.address, node.window.code) == "not-pairing"


@on_loops("asyncio")
async def test_a_guess_at_one_window_is_none_at_the_next(tmp_path: Path) -> None:
    """Begun in a window that was closed, and proven in the one after it, with the same code."""
    async with open_window(tmp_path) as node, talking(node.address) as line:
        ours = exchange(line, node.window.code)
        await line.send(Pair(ours.element))
        ours.hear((await line.receive(Element)).element)
        node.pairing.change(node.window.id, lambda window: replace(window, id="another", guesses=()))
        await line.send(Proof(ours.prove("alice"), "alice"))
        assert await says_no(line) == "not-pairing"
        assert (pins(node.home), node.stages) == ({}, [])


@on_loops("asyncio")
async def test_whoever_pairs_has_no_service_before_it_is_pinned(tmp_path: Path) -> None:
    async with open_window(tmp_path) as node:
        async with talking(node.address) as line:
            await line.send(Check())
            assert (await line.receive(Checked)).code == "unknown"
        assert await Initiator()(node.address, node.window.code) == "paired"
        async with talking(node.address) as line:
            await line.send(Check())
            assert (await line.receive(Checked)).name == "alice"

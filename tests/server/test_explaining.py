"""A service that explains: who is refused hears it in HTTP, in every worker, and a command that it is shown admits it."""

from __future__ import annotations

import asyncio
import shlex
import time
from datetime import timedelta
from pathlib import Path

import pytest

from peerauth.store.pending import strangers
from peerauth.store.state import State
from peerauth.trust.identity import Identity
from peerauth.trust.policy import EVERY_PEER, Policy
from tests.cli.running import peerauth
from tests.support.asking import ASK, Heard, ask, asking, ends_with
from tests.support.dropin import NOW, mint
from tests.support.engine import Caller, Yard, how_it_ends, identity, on_loops, running
from tests.support.workers import Home, serving

EXPLAIN = ("--on-unknown", "explain")
JSON = asking(Accept="application/json")


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """An empty peers directory."""
    return Yard(tmp_path / "peers")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stranger_is_told_in_every_worker_and_admitted_by_the_command_that_it_was_shown(home: Home, workers: int) -> None:
    home.pin("alice")
    stranger, state = Caller(identity("mallory")), State(home.home)
    with serving(home, *EXPLAIN, relay=False, workers=workers) as node:
        first = ask(stranger, node.port, JSON)
        assert (first.status, first.json["code"]) == (403, "unknown")
        told = [ask(stranger, node.port, JSON, session=first.session) for _ in range(20)]
        assert {one.status for one in told} == {403}
        assert all(one.resumed for one in told)
        node.until(lambda: len(node.told("refused", code="unknown")) >= 10)
        if workers == 2:
            assert {said["worker"] for said in node.told("refused")} == {1, 2}
        node.until(lambda: bool(strangers(state)))
        (pending,) = strangers(state)
        assert pending.proven, "the handshake was completed"

        words = shlex.split(first.json["admit"][0])
        assert words[:3] == ["peerauth", "peer", "approve"]
        assert peerauth(*words[1:], "--home", home.home).code == 0
        node.hears("peer-added", peer="mallory")
        node.until(lambda: ask(stranger, node.port, session=first.session).body == "Hello, mallory!\n")
        home.unpin("mallory")
        node.hears("peer-removed", peer="mallory")
        node.until(lambda: ask(stranger, node.port, JSON).status == 403)


def test_where_strangers_are_not_remembered_the_file_is_pinned(home: Home, tmp_path: Path) -> None:
    home.pin("alice")
    stranger, file = Caller(identity("mallory")), tmp_path / "mallory.crt"
    file.write_text(identity("mallory").certificate.pem)
    with serving(home, *EXPLAIN, relay=False, workers=1, settings="[refusals]\nremember = false") as node:
        (command,) = ask(stranger, node.port, JSON).json["admit"]
        words = shlex.split(command.replace("FILE", str(file)))
        assert peerauth(*words[1:], "--home", home.home).code == 0
        node.hears("peer-added", peer="mallory")
        assert ask(stranger, node.port).body == "Hello, mallory!\n"


@on_loops()
async def test_a_removed_peers_connection_is_reset_and_its_next_one_is_explained(yard: Yard) -> None:
    alice, bob = Caller(yard.pin("alice")), Caller(yard.pin("bob"))
    async with running(yard, hello=True, on_unknown="explain") as node:
        live = [await asyncio.to_thread(one.open, node.port) for one in (alice, bob)]
        for tls in live:
            tls.sendall(ASK)
            assert await asyncio.to_thread(ends_with, tls, b"!\n")
        yard.unpin("alice")
        assert await asyncio.to_thread(how_it_ends, live[0]) == "cut"
        again = await asyncio.to_thread(ask, alice, node.port, JSON)
        assert (again.status, again.json["code"]) == (403, "unknown")
        live[1].sendall(ASK)
        assert await asyncio.to_thread(ends_with, live[1], b"Hello, bob!\n")
        for tls in live:
            tls.close()


EVERYONE: tuple[Policy, str] = (EVERY_PEER, "")
CASES: dict[str, tuple[Identity, Policy, str, str]] = {
    "expired": (mint("alice", until=NOW - timedelta(hours=1)), *EVERYONE, "the certificate expired on"),
    "not-yet-valid": (mint("alice", since=NOW + timedelta(hours=9)), *EVERYONE, "the certificate is not valid before"),
    "until-passed": (identity("alice"), EVERY_PEER, "until = 2020-01-01", "the peer was admitted until"),
    "not-from-here": (identity("alice"), EVERY_PEER, 'from = ["10.0.0.0/8"]', "the peer may not come from 127.0.0.1"),
    "not-allowed": (identity("alice"), Policy("db", frozenset({"bob"})), "", "the service 'db' is not for this peer"),
}


@pytest.mark.parametrize("code", CASES)
@on_loops("uvloop")
async def test_every_reason_is_said_to_whom_it_concerns(yard: Yard, code: str) -> None:
    own, policy, settings, reason = CASES[code]
    yard.pin("alice", own, settings=settings)
    async with running(yard, hello=True, on_unknown="explain", policy=policy) as node:
        answer = await asyncio.to_thread(ask, Caller(own), node.port, JSON)
        assert (answer.status, answer.headers["peerauth-refused"], answer.json["code"]) == (403, code, code)
        assert answer.json["message"].startswith(reason)
        assert answer.json["admit"] == []
        event = await node.hears("refused", code=code)
        assert event.peer == "alice"
        yard.pin("alice", identity("alice"), settings="note = 'all is well'")
        if policy is EVERY_PEER:  # the twin: the same door, and nothing against her
            await node.hears("peer-changed", peer="alice")
            twin = await asyncio.to_thread(ask, Caller(identity("alice")), node.port)
            assert twin.body == "Hello, alice!\n"


@on_loops()
async def test_the_last_room_of_a_peer_is_not_taken_twice(yard: Yard) -> None:
    alice = Caller(yard.pin("alice", settings="max_connections = 1"))
    async with running(yard, hello=True, on_unknown="explain") as node:
        with await asyncio.to_thread(alice.open, node.port) as tls:
            tls.sendall(ASK)
            assert (await asyncio.to_thread(tls.recv, 9)) == b"HTTP/1.1 "
            full: Heard = await asyncio.to_thread(ask, alice, node.port, JSON)
            assert (full.status, full.json["code"]) == (403, "too-many")
        await node.until(lambda: node.server.live.count("alice") == 0)
        assert (await asyncio.to_thread(ask, alice, node.port)).body == "Hello, alice!\n"


@on_loops()
async def test_stopping_waits_for_no_stranger(yard: Yard) -> None:
    yard.pin("alice")
    async with running(yard, hello=True, on_unknown="explain") as node:
        tls = await asyncio.to_thread(Caller(identity("mallory")).open, node.port)
        await node.until(lambda: len(node.server._explainer) == 1)
        began = time.monotonic()
        await node.server.stop(5)
        assert time.monotonic() - began < 2
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        tls.close()

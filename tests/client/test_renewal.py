"""A client meets a server that has rotated, or has rotated itself: once, with good statements, it gets through."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from peerauth.client import renewal
from peerauth.errors import TrustRefused
from peerauth.node import Node
from peerauth.server.arrivals import Arrival
from peerauth.store.kinds import OnUnknown
from peerauth.store.rotations import append_statement
from peerauth.tls.session import Session
from peerauth.trust.continuity import Statement
from peerauth.trust.fingerprint import Fingerprint
from tests.cli.running import process
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Running, identity, on_loops, running
from tests.support.rotating import HOUR, Home, compromised, following, withdrawn

FIRST, SECOND = following("n1", "n2", -3), following("n2", "n3", -2)


async def greeting(home: Home, node: Running, peer: str = "db-1") -> str:
    """What this home's node hears when it connects; the code of the error where it does not get through."""
    try:
        reader, writer = await Node.load(home.home).open_connection(peer, f"127.0.0.1:{node.port}")
    except TrustRefused as error:
        return f"{error.code} {error.side}"
    try:
        return (await asyncio.wait_for(reader.readline(), DEADLINE_S)).decode().strip()
    except TrustRefused as error:
        return f"{error.code} {error.side}"
    finally:
        writer.close()


def pins(home: Home, name: str = "db-1") -> list[Fingerprint]:
    return [one.fingerprint for one in Node.load(home.home).peers.certificates_of(name)]


def of(*names: str) -> list[Fingerprint]:
    return [identity(name).certificate.fingerprint for name in names]


def client(tmp_path: Path, *, accept: str = "auto", knows: str = "n1", settings: str = "") -> Home:
    """Alice's home, who knows db-1 by this certificate."""
    home = Home(tmp_path / "alice", "alice", accept)
    home.pin("db-1", identity(knows), settings=settings)
    return home


def server(tmp_path: Path, own: str, *said: Statement, knows: str = "alice") -> Home:
    """The home of db-1, who has this certificate, has said that, and knows alice by that one."""
    home = Home(tmp_path / "db-1", own, "auto", *said)
    home.pin("alice", identity(knows))
    return home


# The server has a new certificate


@on_loops()
async def test_a_client_that_was_away_learns_the_servers_new_certificate(tmp_path: Path) -> None:
    there, here = server(tmp_path, "n3", FIRST, SECOND), client(tmp_path, settings='tags = ["db"]')
    async with running(there, own=identity("n3"), config=there.config) as node:
        assert await greeting(here, node) == "hello alice"
        assert pins(here) == of("n1", "n2", "n3")
        peer = Node.load(here.home).peers["db-1"]
        assert (peer.tags, {*peer.settings.retire}) == (
            ("db",),
            {*zip(of("n1", "n2"), (FIRST.retire, SECOND.retire), strict=True)},
        )
        assert await greeting(here, node) == "hello alice"


@on_loops("asyncio")
async def test_the_next_certificate_is_learnt_with_the_present_one(tmp_path: Path) -> None:
    """The server has announced one that it does not present yet."""
    there, here = server(tmp_path, "n2", FIRST, SECOND), client(tmp_path)
    async with running(there, own=identity("n2"), config=there.config) as node:
        assert await greeting(here, node) == "hello alice"
    assert pins(here) == of("n1", "n2", "n3")


@on_loops("asyncio")
async def test_after_the_overlap_the_old_one_is_gone(tmp_path: Path) -> None:
    over = following("n1", "n2", -3, retire=HOUR)
    there, here = server(tmp_path, "n2", over), client(tmp_path)
    async with running(there, own=identity("n2"), config=there.config) as node:
        assert await greeting(here, node) == "hello alice"
    assert pins(here) == of("n2")


@on_loops("asyncio")
@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("n2", ()),
        ("mallory", (FIRST,)),
        ("n3", (FIRST, following("x", "n3", -2))),
        ("n3", (SECOND,)),
        ("n2", (FIRST, withdrawn("n1", "n2", -2))),
        ("mallory", (following("mallory", "n1", -2),)),
    ],
    ids=["no statement", "about another", "a gap", "not from the pin", "withdrawn", "about itself"],
)
async def test_whoever_stands_in_between_is_refused_as_before(tmp_path: Path, own: str, said: tuple[Statement, ...]) -> None:
    there, here = server(tmp_path, own, *said), client(tmp_path)
    async with running(there, own=identity(own), config=there.config) as node:
        assert await greeting(here, node) == "unknown us"
        assert pins(here) == of("n1")
        assert not node.told("admitted")


@on_loops("asyncio")
async def test_whoever_stands_in_between_does_not_learn_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = server(tmp_path, "mallory", FIRST), client(tmp_path)
    heard: list[Fingerprint] = []
    async with running(there, own=identity("mallory"), config=there.config) as node:
        desk = node.server._desk
        begin = desk.receive

        def receive(arrival: Arrival, session: Session) -> None:
            heard.append(Fingerprint.of(session.greet()))
            begin(arrival, session)

        monkeypatch.setattr(desk, "receive", receive)
        assert await greeting(here, node) == "unknown us"
    assert len(heard) == 1
    assert heard != of("alice")


@on_loops("asyncio")
@pytest.mark.parametrize(("accept", "asked"), [("ask", True), ("never", False)])
async def test_a_person_decides_where_that_is_wanted(tmp_path: Path, accept: str, asked: bool) -> None:
    there, here = server(tmp_path, "n2", FIRST), client(tmp_path, accept=accept)
    async with running(there, own=identity("n2"), config=there.config) as node:
        assert await greeting(here, node) == "unknown us"
        assert ("db-1" in here.waiting) is asked
        Node.load(here.home).peers.directory.succeed("db-1", identity("n2").certificate, FIRST.retire)
        assert await greeting(here, node) == "hello alice"


@on_loops("asyncio")
async def test_a_lost_key_is_dropped_and_its_successor_is_a_persons_to_admit(tmp_path: Path) -> None:
    there, here = server(tmp_path, "n2", compromised("n1", "n2", -1)), client(tmp_path)
    async with running(there, own=identity("n2"), config=there.config) as node:
        with pytest.raises(TrustRefused):
            await Node.load(here.home).open_connection("db-1", f"127.0.0.1:{node.port}")
        assert "db-1" not in Node.load(here.home).peers
        assert "db-1" in here.waiting


@on_loops("asyncio")
async def test_a_peer_that_presents_another_peers_certificate_is_refused(tmp_path: Path) -> None:
    there, here = server(tmp_path, "n2", FIRST), client(tmp_path)
    here.pin("db-2", identity("n2"))
    async with running(there, own=identity("n2"), config=there.config) as node:
        assert await greeting(here, node) == "unknown us"
        assert await greeting(here, node, "db-2") == "hello alice"


@on_loops("asyncio")
async def test_it_is_tried_once_and_in_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something that accepts and says nothing, in the place of the desk."""
    monkeypatch.setattr(renewal, "SECONDS", 0.3)
    there, here = server(tmp_path, "n2"), client(tmp_path)
    visits: list[Arrival] = []
    async with running(there, own=identity("n2"), config=there.config) as node:
        monkeypatch.setattr(node.server._desk, "receive", lambda arrival, _: visits.append(arrival))
        assert await greeting(here, node) == "unknown us"
        assert len(visits) == 1
        for arrival in visits:
            arrival.sock.close()


# We have a new certificate


def rotated(tmp_path: Path, own: str = "a2", *said: Statement) -> Home:
    home = client(tmp_path, knows="node")
    home.be(own)
    for one in said or (following("alice", "a2", -2),):
        append_statement(home.config, one.data)
    return home


@on_loops()
async def test_a_server_that_was_away_is_told_of_our_new_certificate(tmp_path: Path) -> None:
    there, here = server(tmp_path, "node"), rotated(tmp_path)
    async with running(there, config=there.config) as node:
        assert await greeting(here, node) == "hello alice"
        await node.hears("rotated", peer="alice")
        assert pins(there, "alice") == of("alice", "a2")
        assert await greeting(here, node) == "hello alice"
        assert len(node.told("rotated")) == 1


@on_loops("asyncio")
async def test_the_whole_way_is_told_and_more_than_fits_is_left_out(tmp_path: Path) -> None:
    names = [f"alice-{number}" for number in range(30)]
    chain = [following(old, new, number - 60) for number, (old, new) in enumerate(itertools.pairwise(names))]
    there, here = server(tmp_path, "node", knows="alice-22"), rotated(tmp_path, names[-1], *chain)
    async with running(there, config=there.config) as node:
        assert await greeting(here, node) == "hello alice"
    (tmp_path / "other").mkdir()
    there = server(tmp_path / "other", "node", knows="alice-2")
    async with running(there, config=there.config) as node:
        assert await greeting(here, node) == "refused-by-peer peer"


@on_loops("asyncio")
async def test_a_server_that_asks_a_person_refuses_until_they_say_yes(tmp_path: Path) -> None:
    there, here = Home(tmp_path / "db-1", "node", "ask"), rotated(tmp_path)
    there.pin("alice")
    async with running(there, config=there.config) as node:
        assert await greeting(here, node) == "refused-by-peer peer"
        assert "alice" in there.waiting
        node.server.peers.succeed("alice", identity("a2").certificate, None)
        assert await greeting(here, node) == "hello alice"


@on_loops("asyncio")
async def test_whoever_has_not_rotated_tells_nothing(tmp_path: Path) -> None:
    there, here = server(tmp_path, "node"), client(tmp_path, knows="node")
    here.be("mallory")
    append_statement(here.config, following("alice", "a2", -2).data)  # of others: it does not lead to ours
    async with running(there, config=there.config) as node:
        assert await greeting(here, node) == "refused-by-peer peer"
        assert not node.told("rotated")
        assert not node.told("refused", code="rotation-refused")


@on_loops("asyncio")
async def test_nothing_is_told_to_a_server_that_is_not_the_pinned_one(tmp_path: Path) -> None:
    there, here = server(tmp_path, "mallory"), rotated(tmp_path)
    async with running(there, own=identity("mallory"), config=there.config) as node:
        assert await greeting(here, node) == "unknown us"
        assert not node.told("rotated")


@on_loops("asyncio")
async def test_a_server_that_does_not_speak_first_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a ticket nor a word: the connection is there all the same."""
    monkeypatch.setattr("peerauth.client.dial.DOUBT", 0.2)
    monkeypatch.setattr("peerauth.tls.outgoing.ClientSession.has_spoken", lambda _: False)
    there, here = server(tmp_path, "node", knows="a2"), rotated(tmp_path)
    async with running(there, config=there.config) as node:
        assert await greeting(here, node) == "hello alice"


# The commands


@on_loops("asyncio")
@pytest.mark.parametrize(("command", "on_unknown"), [("get", "refuse"), ("get", "explain"), ("connect", "refuse")])
async def test_a_command_gets_through_and_says_why(tmp_path: Path, command: str, on_unknown: OnUnknown) -> None:
    """Both have a new certificate, and neither knows of the other's."""
    there, here = server(tmp_path, "n2", FIRST), rotated(tmp_path)
    here.pin("db-1", identity("n1"))
    async with running(
        there, own=identity("n2"), config=there.config, hello=command == "get", on_unknown=on_unknown
    ) as node:
        where = f"127.0.0.1:{node.port}"
        words = ("get", f"https://{where}/hello") if command == "get" else ("connect", where)
        expected = "Hello, alice!\n" if command == "get" else "hello alice\necho"
        for said in ("endorsed by the one that was pinned", ""):
            got = await asyncio.to_thread(process, *words, "--peer", "db-1", "--home", here.home, stdin=b"echo")
            assert (got.code, got.out) == (0, expected), got.err
            assert said in got.err if said else not got.err


@on_loops("asyncio")
async def test_a_command_says_when_a_person_is_to_be_asked(tmp_path: Path) -> None:
    there, here = server(tmp_path, "n2", FIRST), client(tmp_path, accept="ask")
    async with running(there, own=identity("n2"), config=there.config, hello=True) as node:
        url = f"https://127.0.0.1:{node.port}/hello"
        got = await asyncio.to_thread(process, "get", url, "--peer", "db-1", "--home", here.home)
    assert got.code == 3
    assert f"its next certificate is {identity('n2').certificate.fingerprint}" in got.err

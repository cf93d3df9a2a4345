"""Certificates that end soon are spoken of in time: once for each level, whoever restarts, and never too many at a time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from peerauth.audit import Event
from peerauth.server import reminders
from peerauth.server.reminders import AT_ONCE, NOTED, Reminders
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.state import State
from peerauth.trust.identity import Identity
from tests.cli.running import environment
from tests.support.dropin import DEADLINE_S, NOW, mint
from tests.support.engine import Yard, on_loops, running
from tests.support.workers import Home, serving

DAY = timedelta(days=1)
FIVE_DAYS, NINE_DAYS, LONG = (mint("x", until=NOW + days * DAY) for days in (5, 9, 300))


class Node:
    """A node whose clock a test turns."""

    def __init__(self, place: Path, own: Identity = LONG) -> None:
        self.home = place
        self.yard = Yard(place / "peers")
        self.own = own
        self.now = NOW
        self.noting = True

    def reminders(self) -> Reminders:
        """As a server that has just started has them."""
        directory = PeerDirectory(self.yard.path)
        directory.refresh()
        state = State(self.home) if self.noting else None
        return Reminders(lambda: self.own.certificate, directory, state, lambda: self.now)

    def said(self, reminding: Reminders | None = None) -> list[tuple[str | None, int | None]]:
        """Of whom is spoken now, with the days that are left."""
        return [(event.peer, event.days_left) for event in (reminding or self.reminders()).due()]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_each_level_is_said_once_on_its_day_restarts_included(node: Node) -> None:
    node.yard.pin("alice", mint("alice", until=NOW + 40 * DAY))
    running_on, days = node.reminders(), []
    for day in range(45):
        node.now = NOW + day * DAY
        again = node.reminders() if day % 2 else running_on
        days += [left for _, left in node.said(again)]
        assert node.said() == []
    assert days == [30, 14, 7, 1, -1]


def test_without_a_state_each_process_says_it_once(node: Node) -> None:
    node.yard.pin("alice", FIVE_DAYS)
    node.noting = False
    one = node.reminders()
    assert node.said(one) == [("alice", 5)]
    assert node.said(one) == []
    assert node.said() == [("alice", 5)]


def test_a_state_that_cannot_be_written_is_as_good_as_none(node: Node) -> None:
    node.yard.pin("alice", FIVE_DAYS)
    (node.home / "state").write_text("a file is in the way")
    one = node.reminders()
    assert node.said(one) == [("alice", 5)]
    assert node.said(one) == []


@pytest.mark.parametrize("junk", ["nonsense", "[]", '{"x": []}', '{"%s": "7"}', '{"%s": null}'])
def test_what_was_noted_may_be_anything(node: Node, junk: str) -> None:
    node.yard.pin("alice", FIVE_DAYS)
    (node.home / "state").mkdir()
    key = FIVE_DAYS.certificate.fingerprint.digest.hex()[:16]
    State(node.home).path(NOTED).write_text(junk.replace("%s", key))
    assert node.said() == [("alice", 5)]
    assert node.said() == []


def test_a_new_certificate_of_a_peer_is_another_one(node: Node) -> None:
    node.yard.pin("alice", FIVE_DAYS)
    assert node.said() == [("alice", 5)]
    node.yard.pin("alice", LONG)
    assert node.said() == []
    assert State(node.home).read(NOTED) == {}  # nothing is kept of what is gone
    node.yard.pin("alice", NINE_DAYS)
    assert node.said() == [("alice", 9)]


def test_our_own_certificate_comes_first_and_says_what_to_type(tmp_path: Path) -> None:
    node = Node(tmp_path, own=NINE_DAYS)
    node.yard.pin("alice", FIVE_DAYS)
    own, alice = node.reminders().due()
    assert own.as_data() == {
        "event": "expires",
        "message": f"this node's certificate expires in 9 days, on {NOW + 9 * DAY:%Y-%m-%d %H:%M} UTC",
        "hint": "type: peerauth rotate",
        "fingerprint": str(NINE_DAYS.certificate.fingerprint),
        "code": "expires-soon",
        "days_left": 9,
    }
    assert (alice.peer, alice.code, alice.hint) == ("alice", "expires-soon", "on its machine: peerauth rotate")
    assert node.said() == []


def test_our_own_certificate_that_has_expired_is_named_at_every_start_and_not_daily(tmp_path: Path) -> None:
    node = Node(tmp_path, own=FIVE_DAYS)
    node.yard.pin("alice", NINE_DAYS)
    node.now = NOW + 10 * DAY
    first = node.reminders()
    own, alice = first.due()
    assert (own.peer, own.code, alice.peer, alice.code) == (None, "expired", "alice", "expired")
    assert node.said(first) == []
    assert node.said() == [(None, -5)]


def test_many_are_named_by_urgency_and_the_rest_counted(node: Node) -> None:
    for number in range(AT_ONCE + 3):
        node.yard.pin(f"p{number}", mint(f"p{number}", until=NOW + (28 - number) * DAY))
    events = node.reminders().due()
    assert [event.peer for event in events[:-1]] == [f"p{number}" for number in range(AT_ONCE + 2, 2, -1)]
    assert events[-1].message.startswith("3 more certificates that end soon")
    assert "peerauth status" in str(events[-1].hint)
    assert node.said() == []


def test_more_than_can_be_noted_are_counted_once_a_day(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The note stays small, whatever there is to note."""
    monkeypatch.setattr(reminders, "MOST_NOTED", 3)
    for number in range(8):
        node.yard.pin(f"p{number}", mint(f"p{number}", until=NOW + (10 + number) * DAY))
    events = node.reminders().due()
    assert [event.peer for event in events] == ["p0", "p1", "p2", None]
    assert events[-1].message.startswith("5 more certificates that end soon")
    assert len(State(node.home).read(NOTED)) == 4
    assert node.said() == []
    node.now = NOW + DAY
    assert [event.message.split()[0] for event in node.reminders().due()] == ["5"]


def test_names_that_have_come_are_looked_at_and_nobody_else(node: Node) -> None:
    node.yard.pin("alice", FIVE_DAYS)
    node.yard.pin("bob", NINE_DAYS)
    reminding = node.reminders()
    assert [event.peer for event in reminding.due(["bob", "nobody"])] == ["bob"]
    assert reminding.due(["bob"]) == []
    assert node.said(reminding) == [("alice", 5)]


@on_loops()
async def test_it_looks_once_a_day_by_the_clock_on_the_wall(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the naps are; a clock that was set back does not stop it."""
    monkeypatch.setattr(reminders, "_NAP", 0.001)
    node.yard.pin("alice", mint("alice", until=NOW + 31 * DAY))
    reminding = node.reminders()
    looks: asyncio.Queue[datetime] = asyncio.Queue()
    said: asyncio.Queue[Event] = asyncio.Queue()
    loop, real = asyncio.get_running_loop(), reminding.due

    def due(*words: Any) -> list[Event]:  # noqa: ANN401 - as it is called
        now, found = node.now, real(*words)
        loop.call_soon_threadsafe(looks.put_nowait, now)
        return found

    monkeypatch.setattr(reminding, "due", due)
    following = asyncio.create_task(reminding.follow(said.put_nowait))
    async with asyncio.timeout(DEADLINE_S):
        assert await looks.get() == NOW
        node.now = NOW + DAY / 2
        for turned in (NOW + 2 * DAY, NOW - DAY, NOW + 25 * DAY):
            node.now = turned
            assert await looks.get() == turned
        assert (await said.get()).days_left == 29
        assert (await said.get()).days_left == 6
    following.cancel()


@on_loops("uvloop")
async def test_a_peer_that_is_added_while_a_server_runs_is_looked_at(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    yard.pin("alice", FIVE_DAYS)
    async with running(yard) as server:
        assert "alice expires in" in (await server.hears("expires", peer="alice")).message
        yard.pin("bob", LONG)
        await server.hears("peer-added", peer="bob")
        yard.pin("carol", NINE_DAYS)
        assert (await server.hears("expires", peer="carol")).days_left in (8, 9)
        yard.pin("alice", NINE_DAYS, FIVE_DAYS)
        await server.hears("peer-changed", peer="alice")
        assert server.told("expires", peer="bob") == []
        assert len(server.told("expires", peer="alice")) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_serve_says_it_once_over_all_workers_and_restarts(home: Home, workers: int) -> None:
    home.pin("alice", FIVE_DAYS)
    with serving(home, workers=workers) as node:
        event = node.hears("expires", peer="alice")
        assert event["code"] == "expires-soon"
        assert event["days_left"] in (4, 5)
        assert "worker" not in event
        if workers > 1:
            node.hears("listening")
            os.kill(node.pid(1), signal.SIGKILL)
            node.hears("worker-started", worker=1, times=2)
        home.pin("bob", NINE_DAYS)
        node.hears("expires", peer="bob")
        assert len(node.told("expires")) == 2
    with serving(home, workers=workers) as node:
        home.pin("carol", mint("carol", until=NOW + 3 * DAY))
        node.hears("expires", peer="carol")
        assert len(node.told("expires")) == 1
    noted = json.loads((home.home / "state" / "expiry.json").read_text())
    assert sorted(noted.values()) == [7, 7, 14]


def test_quiet_does_not_hide_it(home: Home) -> None:
    home.pin("alice", FIVE_DAYS)
    home.configure("")
    with subprocess.Popen(
        [sys.executable, "-m", "peerauth", "serve", "-q", "--home", str(home.home), "--listen", "127.0.0.1:0"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stderr is not None
        line, hint = process.stderr.readline(), process.stderr.readline()
        process.send_signal(signal.SIGINT)
    assert "the certificate of alice expires in" in line
    assert "peerauth rotate" in hint

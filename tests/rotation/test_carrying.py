"""`serve` carries a rotation forward: it tells who was away, switches when it is time, and begins one when that is due."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from peerauth.client import carrying
from peerauth.client.carrying import Carrier, News, carry_on, terms_of
from peerauth.client.telling import tell_all
from peerauth.errors import BadInput
from peerauth.store.config import AutoRotation, load_config
from peerauth.store.home import create
from peerauth.store.own import rotation_path
from peerauth.store.rotations import read_statements
from peerauth.store.succession import begin, next_pair, read_succession
from peerauth.trust.continuity import Kind
from peerauth.trust.identity import KeyType, new_key, self_signed
from tests.cli.running import peerauth
from tests.rotation.test_telling import free_port
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, carry, on_loops
from tests.support.members import Member, serving_at
from tests.support.workers import Home, serving


def nothing(_: News) -> None:
    """Nobody listens."""


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110 - it happens on the disk, or in a thread
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("workers", [1, 2])
def test_serve_switches_at_the_deadline_and_no_byte_of_a_transfer_is_lost(tmp_path: Path, workers: int) -> None:
    home = Home(tmp_path)
    alice = home.pin("alice")  # without an address: she hears of it when she comes
    with serving(home, workers=workers) as node, Caller(alice).open(node.port) as tls:
        over, begun, same = threading.Event(), threading.Event(), list[bool]()
        thread = threading.Thread(target=lambda: same.append(carry(tls, over, begun)))
        thread.start()
        assert begun.wait(DEADLINE_S)
        done = peerauth("rotate", "--deadline", "2s", "--json", "--home", home.home)
        assert (done.code, done.json["phase"], done.json["peers"][0]["outcome"]) == (0, "telling", None)
        node.hears("identity-changed", fingerprint=done.json["next"])
        node.hears("rotation")
        over.set()
        thread.join(DEADLINE_S)
        assert same == [True]
        assert len(node.told("rotation")) == 1, "one process does it, and says it"
    assert not rotation_path(load_config(home.home)).exists()
    assert len(list(home.home.glob("node.key.old-*"))) == 1


def test_serve_that_takes_the_place_of_a_killed_one_goes_on(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.pin("alice")
    with serving(home, workers=2) as node:
        assert node.port
        done = peerauth("rotate", "--deadline", "1h", "--json", "--home", home.home)
        for worker in (1, 2):
            os.kill(node.pid(worker), signal.SIGKILL)
        node.hears("worker-started", worker=1, times=2)
        peerauth("rotate", "--deadline", "1s", "--home", home.home)
        node.hears("identity-changed", fingerprint=done.json["next"])


@on_loops("asyncio")
async def test_who_was_away_is_told_by_the_background_and_then_it_switches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrying, "LOOK", 0.05)
    monkeypatch.setattr(carrying, "FIRST_PAUSE", 0.1)
    node, away = Member.make(tmp_path, "node"), Member.make(tmp_path, "away")
    away.knows(node)
    port = free_port(away.host)
    node.knows(away, f"{away.host}:{port}")
    before = node.pin
    async with serving_at(node) as running:
        said: list[News] = []
        running.server.do_also(carry_on(node.own(), node.directory, said.append))
        running.server.do_also(carry_on(node.own(), node.directory, said.append))  # as another process would
        begun = await asyncio.to_thread(peerauth, "rotate", "--home", node.home)
        assert begun.code == 0, begun.err
        await until(lambda: bool(said))
        async with serving_at(away, port):
            await until(lambda: node.pin != before)
        await until(lambda: not rotation_path(node.config).exists())
        await running.hears("identity-changed", fingerprint=str(node.pin))
    assert away.pins_of("node") == {before, node.pin}
    assert [(news.peer, news.code) for news in said] == [
        ("away", "connection-refused"),
        ("away", "accepted"),
        (None, None),
    ], "each thing is said once, by one of the two"


@on_loops("asyncio")
async def test_rotate_that_waits_returns_when_the_new_certificate_is_presented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrying, "LOOK", 0.05)
    monkeypatch.setattr(carrying, "FIRST_PAUSE", 0.1)
    node, away = Member.make(tmp_path, "node"), Member.make(tmp_path, "away")
    away.knows(node)
    port = free_port(away.host)
    node.knows(away, f"{away.host}:{port}")
    before = node.pin
    waiting = asyncio.create_task(asyncio.to_thread(peerauth, "rotate", "--wait", "--json", "--home", node.home))
    await until(lambda: any(errand.told for errand in read_succession(node.config).errands))
    assert not waiting.done()
    async with serving_at(away, port):
        done = await waiting
    assert (done.code, done.json["phase"], done.json["peers"][0]["outcome"]) == (0, "done", "accepted")
    assert away.pins_of("node") == {before, node.pin}


@on_loops("asyncio")
async def test_a_key_that_cannot_be_written_down_is_not_made_again_and_again(tmp_path: Path) -> None:
    node = await old_node(tmp_path, 61)
    (node.home / "node.next.key").write_text("somebody's")
    now = 0.0
    carrier = Carrier(node.own(), node.directory, nothing, AutoRotation(timedelta(days=60)), lambda: now)
    with pytest.raises(BadInput):
        await carrier.step()
    await carrier.step()
    now = 3599.0
    await carrier.step()
    now = 3600.0
    with pytest.raises(BadInput):
        await carrier.step()


@on_loops("asyncio")
async def test_a_peer_that_is_away_is_tried_ever_more_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Member.make(tmp_path, "node")
    node.knows(Member.make(tmp_path, "away"), "127.0.0.1:1")
    await asyncio.to_thread(peerauth, "rotate", "--home", node.home)
    now, tried = 1000.0, []
    carrier = Carrier(node.own(), node.directory, nothing, now=lambda: now)
    node.directory.refresh()

    async def counted(*words: object) -> object:
        tried.append(now - 1000)
        return await tell_all(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(carrying, "tell_all", counted)
    for second in range(0, 15_000, 10):
        now = 1000.0 + second
        await carrier.step()
    assert tried == [0, 60, 180, 420, 900, 1860, 3780, 7380, 10980, 14580]


@on_loops("asyncio")
async def test_a_certificate_that_is_old_enough_is_replaced_by_one_of_its_kind(tmp_path: Path) -> None:
    node, other = await old_node(tmp_path, 61), Member.make(tmp_path, "other")
    other.knows(node)
    before = node.certificate
    async with serving_at(other) as running:
        node.knows(other, f"{other.host}:{running.port}")
        said: list[News] = []
        carrier = Carrier(node.own(), node.directory, said.append, AutoRotation(timedelta(days=60)))
        await carrier.step()
        assert "60 days old" in said[0].text
        assert node.certificate != before
        await carrier.step()
        assert len(read_statements(node.config)) == 1, "the new one is young"
    assert node.certificate.key_type == before.key_type
    lifetimes = [(one.not_after - one.not_before).days for one in (before, node.certificate)]
    assert lifetimes == [201, 201]
    assert set(before.alternative_names) == set(node.certificate.alternative_names)
    assert other.pins_of("node") == {before.fingerprint, node.pin}


@on_loops("asyncio")
async def test_a_certificate_that_is_not_old_enough_stays(tmp_path: Path) -> None:
    node = await old_node(tmp_path, 59)
    before = node.pin
    carrier = Carrier(node.own(), node.directory, nothing, AutoRotation(timedelta(days=60)))
    await carrier.step()
    assert (node.pin, rotation_path(node.config).exists()) == (before, False)


async def old_node(place: Path, days: int) -> Member:
    """A node whose certificate was made so many days ago, for 200 days."""
    member = Member.make(place, "node")
    then = datetime.now(UTC) - timedelta(days=days)
    old = self_signed(new_key(KeyType.ED25519), "node", then, days=200, names=("old.example",))
    create(member.home, "node", old, then, None, force=True)
    return member


def test_a_rotation_ends_before_the_certificate_does() -> None:
    now = datetime.now(UTC)
    week = timedelta(days=7)
    short = self_signed(new_key(KeyType.P256), "node", now, days=3).certificate
    terms = terms_of(Kind.NEXT, short, now, week, week)
    assert (terms.deadline, terms.retire) == (short.not_after, short.not_after + week)
    gone = self_signed(new_key(KeyType.P256), "node", now - 2 * week, days=3).certificate
    assert terms_of(Kind.NEXT, gone, now, week, week).deadline == now


@on_loops("asyncio")
async def test_an_identity_that_was_replaced_meanwhile_is_left_alone_and_said_once(tmp_path: Path) -> None:
    node = Member.make(tmp_path, "node")
    now = datetime.now(UTC).replace(microsecond=0)
    own = node.own()
    successor = self_signed(new_key(KeyType.P256), "node", now)
    begin(node.config, own.identity, successor, None, terms_of(Kind.NEXT, node.certificate, now, timedelta(), timedelta()))
    other = self_signed(new_key(KeyType.P256), "node", now)
    create(node.home, "node", other, now, None, force=True)
    said: list[News] = []
    carrier = Carrier(node.own(), node.directory, said.append)
    running = asyncio.create_task(carrier.run())
    await until(lambda: bool(said))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (said[0].code, said[0].problem) == ("other-identity", True)
    assert node.certificate == other.certificate
    assert all(path.exists() for path in next_pair(node.config)), "whoever asks a person touches nothing"

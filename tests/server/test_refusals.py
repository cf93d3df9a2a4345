"""Who is refused is remembered: seldom written, within bounds, whatever the disk does, and at no cost to the loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest

from peerauth.audit import REFUSALS_AT_ONCE, Audit, Event
from peerauth.errors import PeerAuthError
from peerauth.server import refusals as module
from peerauth.server.arrivals import source_of
from peerauth.server.refusals import MOST, Knock, Refusals
from peerauth.store import pending
from peerauth.store.pending import FILE, remembered, strangers
from peerauth.store.refusals import MOST as MOST_ON_DISK
from peerauth.store.refusals import Refusal
from peerauth.store.state import State
from peerauth.trust.certificate import Certificate
from peerauth.trust.decision import Refused, decide
from peerauth.trust.peers import PeerSet
from tests.support.dropin import NOW
from tests.support.engine import identity, on_loops
from tests.support.pool import certificates

NOBODY = PeerSet()
FLOOD = 10_000


@dataclass
class Place:
    """A server's refusals over a directory, what was said, and what was written when."""

    refusals: Refusals
    state: State
    events: list[Event] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def knock(self, der: bytes, source: str = "10.0.0.1", *, proven: bool = False) -> None:
        """Somebody comes and is refused."""
        remote = IPv4Address(source)
        refused = decide(der, NOBODY, now=NOW)
        assert isinstance(refused, Refused)
        self.refusals.refused(refused, Knock("db", f"{source}:5", source_of(remote), remote, der, proven), NOBODY)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until this is true; looked at when something was written."""
        async with asyncio.timeout(20):
            while not true():
                self.news.clear()
                await self.news.wait()

    async def until_written(self, times: int) -> None:
        """Wait until so much was written."""
        await self.until(lambda: len(self.writes) >= times)


@contextlib.asynccontextmanager
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, on: bool = True) -> AsyncIterator[Place]:
    events: list[Event] = []
    loop = asyncio.get_running_loop()
    state = State(tmp_path)
    found = Place(Refusals(Audit(events.append, time.monotonic), state if on else None, frozenset), state, events)

    def noted(state: State, news: Iterable[Refusal]) -> None:
        assert threading.current_thread() is not threading.main_thread(), "beside the loop"
        pending.remember(state, news)
        found.writes.append(time.monotonic())
        loop.call_soon_threadsafe(found.news.set)

    monkeypatch.setattr(module, "remember", noted)
    yield found
    await found.refusals.close()


@on_loops()
async def test_it_is_written_at_once_when_it_was_quiet_and_then_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.3)
    first, *rest = certificates(50)
    async with place(tmp_path, monkeypatch) as here:
        began = time.monotonic()
        here.knock(first)
        await here.until_written(1)
        assert [one.certificate for one in remembered(here.state)] == [first]
        for der in rest:
            here.knock(der)
            await asyncio.sleep(0.001)
        await here.until_written(2)
        assert len(remembered(here.state)) == 50
        assert here.writes[1] - began >= 0.3
        assert len(here.writes) == 2


@on_loops("uvloop")
async def test_a_flood_of_ten_thousand_certificates_is_bounded_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory, on disk, in writes and in log lines; and whoever comes from elsewhere is still there."""
    honest = identity("honest").certificate.der
    began = time.monotonic()
    async with place(tmp_path, monkeypatch) as here:
        here.knock(honest, "10.0.0.7")
        tracemalloc.start()
        try:
            for number, der in enumerate(certificates(FLOOD)):
                here.knock(der)
                if number % 100 == 0:
                    await asyncio.sleep(0)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(here.refusals._news) <= MOST
        took = time.monotonic() - began
    assert peak < 16 << 20
    assert len(here.writes) <= took + 2
    assert sum(event.event == "refused" for event in here.events) <= REFUSALS_AT_ONCE + 2 * took + 1
    assert here.state.path(FILE).stat().st_size < 1 << 20
    those = strangers(here.state)
    assert len(those) <= MOST_ON_DISK
    assert honest in {one.certificate for one in those}


@on_loops("uvloop")
async def test_certificates_of_strangers_are_read_beside_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: in the loop as many as the log has room for, whatever comes."""
    loop, read = threading.get_ident(), []
    real = Certificate.__init__

    def counted(self: Certificate, der: bytes) -> None:
        read.append(threading.get_ident())
        real(self, der)

    ders = list(certificates(1000))
    monkeypatch.setattr(Certificate, "__init__", counted)
    async with place(tmp_path, monkeypatch) as here:
        began = time.monotonic()
        for der in ders:
            here.knock(der)
        at_most = REFUSALS_AT_ONCE + 2 * (time.monotonic() - began) + 1
        await here.until_written(1)
        assert read.count(loop) <= at_most
    assert len(read) - read.count(loop) <= 2 * MOST


@on_loops("uvloop")
async def test_a_refusal_in_the_loop_is_a_bounded_number_of_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one costs when the log has no room for it: some fifty calls of Python's and C's, which take 7 us."""
    ders = list(certificates(400))
    async with place(tmp_path, monkeypatch) as here:
        knocks = []
        for number, der in enumerate(ders):
            refused = decide(der, NOBODY, now=NOW)
            assert isinstance(refused, Refused)
            remote = ip_address(f"10.0.0.{number % 7}")
            knocks.append((refused, Knock("db", f"{remote}:5", source_of(remote), remote, der)))
        for refused, knock in knocks[:200]:
            here.refusals.refused(refused, knock, NOBODY)
        calls = 0

        def count(_frame: object, event: str, _: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            for refused, knock in knocks[200:]:
                here.refusals.refused(refused, knock, NOBODY)
        finally:
            sys.setprofile(None)
        assert calls / 200 < 60


@on_loops()
async def test_the_words_are_those_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place(tmp_path, monkeypatch) as here:
        here.knock(identity("mallory").certificate.der)
        await here.until_written(1)
        (event,), (found,) = here.events, remembered(here.state)
        message, hint = found.told()
        assert event.message == f"{message}, from 10.0.0.1:5"
        assert event.hint == hint
        assert hint is not None
        assert "peerauth peer approve" in hint


@on_loops()
async def test_where_it_is_off_nothing_is_written_and_the_log_says_another_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(tmp_path, monkeypatch, on=False) as here:
        here.knock(identity("mallory").certificate.der)
        here.refusals.failed("tls-version", "no common version", None, Knock("db", "10.0.0.1:5", "10.0.0.1"))
    assert not State(tmp_path).path(FILE).parent.exists()
    assert "peer add FILE" in (here.events[0].hint or "")
    assert [event.code for event in here.events] == ["unknown", "tls-version"]


@on_loops()
async def test_what_says_nothing_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place(tmp_path, monkeypatch) as here:
        knock = Knock("db", "10.0.0.1:5", "10.0.0.1")
        here.refusals.failed("timeout", "it said nothing", None, knock, telling=False)
        here.refusals.failed("tls-version", "no common version of TLS", "min_tls", knock)
    assert [one.code for one in remembered(here.state)] == ["tls-version"]


@on_loops()
async def test_the_last_ones_are_written_when_the_server_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = certificates(2)
    async with place(tmp_path, monkeypatch) as here:
        here.knock(first)
        await here.until_written(1)
        here.knock(second)
    assert len(remembered(here.state)) == 2


@on_loops()
async def test_who_comes_while_it_is_written_at_the_end_is_written_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = certificates(2)
    began, go_on = threading.Event(), threading.Event()
    async with place(tmp_path, monkeypatch) as here:

        def slow(state: State, news: Iterable[Refusal]) -> None:
            began.set()
            assert go_on.wait(20)
            pending.remember(state, news)

        monkeypatch.setattr(module, "remember", slow)
        here.knock(first)
        await asyncio.to_thread(began.wait, 20)
        here.knock(second)
        closing = asyncio.create_task(here.refusals.close())
        await asyncio.sleep(0)
        go_on.set()
        await closing
    assert len(remembered(here.state)) == 2


@on_loops()
async def test_a_disk_that_takes_nothing_costs_nobody_anything_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    attempts: list[int] = []
    broken, loop = True, asyncio.get_running_loop()
    async with place(tmp_path, monkeypatch) as here:

        def fail(state: State, news: Iterable[Refusal]) -> None:
            attempts.append(sum(1 for _ in news))
            loop.call_soon_threadsafe(here.news.set)
            if broken:
                raise PeerAuthError("cannot-write", "cannot write there")
            pending.remember(state, news)
            here.writes.append(time.monotonic())
            loop.call_soon_threadsafe(here.news.set)

        monkeypatch.setattr(module, "remember", fail)
        for der in certificates(2 * MOST):
            here.knock(der)
        await here.until(lambda: len(attempts) >= 3)
        assert attempts == [MOST] * len(attempts)
        assert [event.code for event in here.events].count("not-remembered") == 1
        broken = False
        await here.until_written(1)
        assert len(remembered(here.state)) == MOST


@on_loops()
async def test_a_lock_that_somebody_holds_does_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAST_WORDS_S", 0.2)
    state, letting_go = State(tmp_path), threading.Event()
    holding = threading.Event()

    def hold() -> None:
        with state.changing("another"):
            holding.set()
            letting_go.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert await asyncio.to_thread(holding.wait, 20)
    try:
        async with place(tmp_path, monkeypatch) as here:
            here.knock(identity("mallory").certificate.der)
            began = time.monotonic()
        assert time.monotonic() - began < 10
    finally:
        letting_go.set()
        await asyncio.to_thread(holder.join, 20)
    await here.until_written(1)
    assert json.loads(state.path(FILE).read_text())["refusals"]

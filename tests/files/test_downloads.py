"""A file on its way, when something happens: to the file, the disk, the peer, or the reader."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import ssl
import threading
from pathlib import Path

import pytest

from peerauth.http.filepath import Asked
from peerauth.services import files, finding, stretch
from peerauth.services.finding import Finder, Question
from peerauth.services.pouring import PouringTransport
from peerauth.services.stretch import Stretch
from peerauth.tls import linger
from peerauth.tls.scratch import SIZE
from tests.support.engine import Caller, Running, Yard, descriptors, how_it_ends, on_loops, running
from tests.support.web import ask

MUCH = 24 << 20  # more than sockets hold between the two
ASKING = b"GET /big HTTP/1.1\r\nhost: node\r\n\r\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with a big file, of which the disk knows only where something stands, and a small one."""
    root = tmp_path / "root"
    root.mkdir()
    with (root / "big").open("wb") as file:
        for place in range(0, MUCH, 100_001):
            os.pwrite(file.fileno(), place.to_bytes(8, "big"), place)
        file.truncate(MUCH)
    (root / "small").write_bytes(b"small\n")
    return root


def begin(caller: Caller, port: int) -> ssl.SSLSocket:
    """A download that has begun, and whose reader has stopped."""
    tls = caller.open(port)
    tls.sendall(ASKING)
    assert tls.recv(1000).startswith(b"HTTP/1.1 200")
    return tls


def whole(caller: Caller, port: int, path: str = "/big") -> tuple[int, str]:
    """(status, hash) of a download from its beginning to its end."""
    with caller.open(port) as tls:
        got = ask(tls, path)
        return got.status, hashlib.sha256(got.body).hexdigest()


def content(path: Path) -> tuple[int, str]:
    return 200, hashlib.sha256(path.read_bytes()).hexdigest()


def transports(node: Running) -> list[PouringTransport]:
    return [one for one in node.server.live.everyone() if isinstance(one, PouringTransport)]


def pouring(node: Running) -> int:
    """How many stretches are on their way."""
    return sum(one._pour is not None for one in transports(node))


@on_loops()
@pytest.mark.parametrize("harm", ["cut off", "written over", "grown"])
async def test_a_file_that_changes_on_its_way_never_looks_complete(yard: Yard, root: Path, harm: str) -> None:
    def hurt() -> None:
        with (root / "big").open("r+b") as file:
            if harm == "cut off":
                file.truncate(MUCH // 2)
            elif harm == "grown":
                file.seek(0, os.SEEK_END)
                file.write(b"more")
            else:
                file.seek(MUCH // 2)
                file.write(b"other")

    caller = Caller(yard.pin("alice"))
    async with running(yard, root=root) as node:
        tls = await asyncio.to_thread(begin, caller, node.port)
        await node.until(lambda: pouring(node) == 1)
        await asyncio.to_thread(hurt)
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        tls.close()
        assert await asyncio.to_thread(whole, caller, node.port) == content(root / "big")


@on_loops()
@pytest.mark.parametrize("at_hand", [True, False], ids=["memory", "threads alone"])
async def test_every_byte_arrives_however_the_disk_is_read(
    yard: Yard, root: Path, monkeypatch: pytest.MonkeyPatch, *, at_hand: bool
) -> None:
    if not at_hand:
        monkeypatch.setattr(stretch, "_NOW", 0)
    caller = Caller(yard.pin("alice"))
    async with running(yard, root=root) as node:
        with (root / "big").open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert await asyncio.to_thread(whole, caller, node.port) == content(root / "big")


@on_loops()
async def test_a_removed_peer_loses_its_download_and_another_keeps_every_byte(yard: Yard, root: Path) -> None:
    """Promise 2."""
    alice, bob = Caller(yard.pin("alice")), Caller(yard.pin("bob"))
    async with running(yard, root=root) as node:
        of_alice, of_bob = [await asyncio.to_thread(begin, caller, node.port) for caller in (alice, bob)]
        await node.until(lambda: len(transports(node)) == 2)
        yard.unpin("alice")
        await node.hears("ended", peer="alice")
        assert await asyncio.to_thread(how_it_ends, of_alice) == "cut"
        assert await asyncio.to_thread(how_much, of_bob) > MUCH - 1000
        of_alice.close()
        of_bob.close()


async def at_rest(node: Running, caller: Caller) -> int:
    """How many descriptors are open when somebody has come and gone."""
    assert (await asyncio.to_thread(whole, caller, node.port, "/small"))[0] == 200
    await node.until(lambda: not node.server.live.everyone() and not linger._lingering)
    return descriptors()


def times_open(path: Path) -> int:
    """How many descriptors of this process are of this file."""
    held = 0
    for held_open in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # it was the listing's own
            held += held_open.samefile(path)
    return held


def how_much(tls: ssl.SSLSocket) -> int:
    """Read until the rest of the big file has come."""
    count = 0
    while count < MUCH - 1000:
        piece = tls.recv(1 << 20)
        assert piece
        count += len(piece)
    return count


@on_loops()
async def test_a_reader_that_is_slow_costs_little_and_nobody_else(yard: Yard, root: Path) -> None:
    """Each of them has 256 KB, one open file and no thread."""
    caller, slow = Caller(yard.pin("alice")), 12
    async with running(yard, root=root) as node:
        before = await at_rest(node, caller)
        stuck = [await asyncio.to_thread(begin, caller, node.port) for _ in range(slow)]
        await node.until(lambda: pouring(node) == slow)
        held = [one._pour for one in transports(node)]
        assert all(pour is not None and len(pour.buffer.view) == SIZE for pour in held)
        assert sum(one.get_write_buffer_size() for one in transports(node)) == 0
        await node.until(lambda: descriptors() == before + 3 * slow)  # a socket on either side, and the file
        assert await asyncio.to_thread(whole, caller, node.port) == content(root / "big")
        for tls in stuck:
            tls.close()
        await node.until(lambda: descriptors() == before)


@on_loops()
async def test_a_disk_that_hangs_holds_up_nobody_but_who_asks_for_it(
    yard: Yard, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are served and removed meanwhile; and a file is closed when nobody reads it any more, not before."""
    hanging, reading = threading.Event(), threading.Event()
    fetch = Stretch.fetch

    def hang(one: Stretch, view: memoryview) -> int:
        if len(one) == MUCH:
            reading.set()
            assert hanging.wait(20)
        return fetch(one, view)

    monkeypatch.setattr(Stretch, "fetch", hang)
    monkeypatch.setattr(stretch, "_NOW", 0)
    alice, bob = Caller(yard.pin("alice")), Caller(yard.pin("bob"))
    async with running(yard, root=root) as node:
        tls = await asyncio.to_thread(begin, alice, node.port)
        await asyncio.to_thread(reading.wait, 20)
        assert await asyncio.to_thread(whole, bob, node.port, "/small") == content(root / "small")
        yard.unpin("alice")
        await node.hears("ended", peer="alice")
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        tls.close()
        await node.until(lambda: not node.server.live.everyone())
        assert times_open(root / "big") == 1, "a thread reads it"
        hanging.set()
        await node.until(lambda: times_open(root / "big") == 0)


@on_loops()
async def test_nonsense_behind_a_question_does_not_get_into_the_answer(yard: Yard, root: Path) -> None:
    """The HTTP server answers it at once with 400, which is no part of a file."""
    caller = Caller(yard.pin("alice"))

    def visit(port: int) -> bytes:
        with begin(caller, port) as tls:
            tls.sendall(b"\x00\x00nonsense\r\n\r\n")
            heard = b""
            with contextlib.suppress(OSError):
                while piece := tls.recv(1 << 20):
                    heard += piece
            return heard

    async with running(yard, root=root) as node:
        heard = await asyncio.to_thread(visit, node.port)
        assert len(heard) < MUCH
        assert b"400 Bad Request" not in heard


@on_loops("uvloop")
async def test_a_listing_that_nobody_takes_is_not_kept(yard: Yard, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_PATIENCE", 0.2)
    listing = b"x" * MUCH
    monkeypatch.setattr(finding, "write_listing", lambda *_, **__: listing)
    caller = Caller(yard.pin("alice"))

    async with running(yard, root=root) as node:
        with await asyncio.to_thread(caller.open, node.port) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nhost: node\r\n\r\n")
            await node.hears("admitted")
            await node.until(lambda: not node.server.live.everyone())
            assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        assert not node.told("problem")


@on_loops("uvloop")
async def test_a_root_that_is_not_there_is_said_on_both_sides_and_comes_back(yard: Yard, root: Path) -> None:
    caller = Caller(yard.pin("alice"))
    async with running(yard, root=root) as node:
        away = await asyncio.to_thread(root.rename, root.with_name("away"))
        assert (await asyncio.to_thread(whole, caller, node.port, "/small"))[0] == 503
        said = await node.hears("problem")
        assert said.code == "cannot-read"
        assert "/small" in said.message
        await asyncio.to_thread(away.rename, root)
        assert await asyncio.to_thread(whole, caller, node.port, "/small") == content(root / "small")


@on_loops("uvloop")
async def test_a_failure_of_ours_is_an_answer_and_an_event(yard: Yard, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(finding, "media_type", fail)
    caller = Caller(yard.pin("alice"))
    async with running(yard, root=root) as node:
        assert (await asyncio.to_thread(whole, caller, node.port, "/small"))[0] == 500
        assert (await node.hears("problem")).code == "handler-failed"


@pytest.mark.parametrize(("times", "status"), [(0, 200), (2, 200), (3, 503)])
def test_a_small_file_is_whole_or_not_there(root: Path, monkeypatch: pytest.MonkeyPatch, times: int, status: int) -> None:
    """Somebody writes to it while it is read, so many times; what is sent is one state of it."""
    real, left = os.pread, [times]

    def pread(descriptor: int, length: int, start: int) -> bytes:
        data = real(descriptor, length, start)
        if left[0]:
            left[0] -= 1
            (root / "small").write_bytes(b"state %d\n" % left[0])
        return data

    monkeypatch.setattr(os, "pread", pread)
    reply = Finder(root, None).find(Question("GET", Asked((b"small",), directory=False), {}, b""))
    assert reply.status == status
    if status == 200:
        assert reply.parts == ((root / "small").read_bytes(),)

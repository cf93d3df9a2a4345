"""Promise 3: a change to `peers/` needs no signal and no restart, whoever makes it; what is broken touches nobody else."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from peerauth.store import notifier, watch
from peerauth.store.peerdir import PeerDirectory
from peerauth.trust.identity import Identity
from tests.support.engine import Caller, Running, Yard, hear_line, how_it_ends, identity, on_loops, running


@pytest.fixture(params=["inotify", "inotify as with many files", "poll"])
def noticed_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How changes are noticed: by inotify, or by looking now and then where there is none.

    With many files in the directory, what inotify names is looked at first and the rest a little later.
    """
    if request.param == "inotify as with many files":
        monkeypatch.setattr(watch, "_FEW", -1)
    if request.param == "poll":

        def none_here(*_: object) -> None:
            raise OSError(errno.ENOSPC, "inotify watch limit reached")

        monkeypatch.setattr(notifier, "RustNotify", none_here)
    return str(request.param)


async def hear(node: Running, own: Identity) -> str:
    return await asyncio.to_thread(Caller(own).hear, node.port)


async def stay(node: Running, own: Identity) -> ssl.SSLSocket:
    tls = await asyncio.to_thread(Caller(own).open, node.port)
    assert (await asyncio.to_thread(hear_line, tls)).startswith("hello ")
    return tls


async def still_there(tls: ssl.SSLSocket) -> bool:
    tls.sendall(b"still here\n")
    return await asyncio.to_thread(hear_line, tls) == "still here"


@on_loops()
async def test_added_removed_and_renamed_peers_count_at_once(yard: Yard, noticed_by: str) -> None:
    del noticed_by
    async with running(yard) as node:
        assert await hear(node, identity("alice")) == "TLSV1_ALERT_UNKNOWN_CA"
        yard.pin("alice")
        await node.hears("peer-added", peer="alice")
        assert await hear(node, identity("alice")) == "hello alice"
        (yard.path / "alice.crt").rename(yard.path / "carol.crt")
        await node.hears("peer-added", peer="carol")
        assert await hear(node, identity("alice")) == "hello carol"
        yard.unpin("carol")
        await node.hears("peer-removed", peer="carol")
        assert await hear(node, identity("alice")) == "TLSV1_ALERT_UNKNOWN_CA"


def overwritten(yard: Yard) -> None:
    """As `cp` and `>` do."""
    (yard.path / "alice.crt").write_text("now nonsense")


def half_written(yard: Yard) -> None:
    whole = identity("alice").certificate.pem
    (yard.path / "alice.crt").write_text(whole[: len(whole) // 2])


def emptied(yard: Yard) -> None:
    (yard.path / "alice.crt").write_bytes(b"")


def huge(yard: Yard) -> None:
    yard.place("alice.crt", b"x" * (300 << 10))


def a_directory(yard: Yard) -> None:
    yard.unpin("alice")
    (yard.path / "alice.crt").mkdir()


def a_fifo(yard: Yard) -> None:
    yard.unpin("alice")
    os.mkfifo(yard.path / "alice.crt")


def a_key(yard: Yard) -> None:
    yard.place("alice.crt", identity("alice").key_pem())


def broken_notes(yard: Yard) -> None:
    yard.place("alice.toml", "until = = 3")


def impossible_notes(yard: Yard) -> None:
    yard.place("alice.toml", "until = 0001-01-01T00:00:00+23:00")


@pytest.mark.parametrize(
    "damage", [overwritten, half_written, emptied, huge, a_directory, a_fifo, a_key, broken_notes, impossible_notes]
)
@on_loops("uvloop")
async def test_file_that_is_there_and_broken_leaves_what_was_known(yard: Yard, damage: Callable[[Yard], None]) -> None:
    alice, bob = yard.pin("alice"), yard.pin("bob")
    async with running(yard) as node:
        tls, other = await stay(node, alice), await stay(node, bob)
        damage(yard)
        problem = await node.hears("problem")
        assert "alice" in problem.message
        assert "PRIVATE KEY" not in problem.message
        assert await still_there(tls)
        assert await still_there(other)
        assert await hear(node, alice) == "hello alice"
        assert await hear(node, bob) == "hello bob"
        assert not node.told("peer-removed")
        tls.close()
        other.close()


@on_loops("uvloop")
async def test_file_that_was_never_good_admits_nobody_and_counts_once_it_is(yard: Yard) -> None:
    whole = identity("alice").certificate.pem
    yard.pin("bob")
    async with running(yard) as node:
        with (yard.path / "alice.crt").open("w") as file:
            file.write(whole[:300])
            file.flush()
            await node.hears("problem")
            assert await hear(node, identity("alice")) == "TLSV1_ALERT_UNKNOWN_CA"
            assert await hear(node, identity("bob")) == "hello bob"
            file.write(whole[300:])
        await node.hears("peer-added", peer="alice")
        assert await hear(node, identity("alice")) == "hello alice"


@on_loops("uvloop")
async def test_notes_that_were_never_readable_admit_nobody_by_that_name(yard: Yard) -> None:
    """What they restrict is not known; the twin's notes became unreadable when the peer was known."""
    alice = yard.pin("alice", settings="until = = 3")
    bob = yard.pin("bob", settings='from = ["127.0.0.1"]')
    async with running(yard) as node:
        broken_notes(yard)
        yard.place("bob.toml", "until = = 3")
        await node.hears("problem")
        assert await hear(node, alice) == "TLSV1_ALERT_UNKNOWN_CA"
        assert await hear(node, bob) == "hello bob"
        assert await asyncio.to_thread(Caller(bob).hear, node.port, source="127.0.0.2") == "TLSV1_ALERT_UNKNOWN_CA"
        yard.place("alice.toml", "until = 2999-01-01")
        await node.hears("peer-added", peer="alice")
        assert await hear(node, alice) == "hello alice"


@pytest.mark.parametrize("leftover", [".alice.crt.swp", "alice.crt~", "alice.crt.bak", "4913", "#alice.crt#", ".hidden.crt"])
@on_loops("uvloop")
async def test_editors_leftovers_are_not_looked_at(yard: Yard, leftover: str) -> None:
    async with running(yard) as node:
        (yard.path / leftover).write_text(identity("alice").certificate.pem)
        yard.pin("bob")
        await node.hears("peer-added", peer="bob")
        assert await hear(node, identity("alice")) == "TLSV1_ALERT_UNKNOWN_CA"
        assert not node.told("problem")


@on_loops()
async def test_editor_that_deletes_and_creates_keeps_the_connections(yard: Yard, noticed_by: str) -> None:
    """With the time in between that a slow editor takes; the twin is not created again."""
    del noticed_by
    alice, bob = yard.pin("alice"), yard.pin("bob")
    async with running(yard) as node:
        tls, other = await stay(node, alice), await stay(node, bob)
        for turn in range(4):
            yard.unpin("alice")
            await asyncio.sleep(0.04)
            (yard.path / "alice.crt").write_text(alice.certificate.pem + f"saved {turn} times\n")
            yard.pin(f"another-{turn}")
            await node.hears("peer-added", peer=f"another-{turn}")  # the edit before it has been looked at as well
        assert await still_there(tls)
        assert not node.told("ended")
        yard.unpin("bob")
        assert await asyncio.to_thread(how_it_ends, other) == "cut"
        assert await still_there(tls)
        tls.close()
        other.close()


def mounted(path: Path, *names: str) -> None:
    """What Kubernetes does with a Secret volume: files are links through `..data`, which is swapped."""
    fresh = path / f"..{len(list(path.iterdir()))}"
    fresh.mkdir()
    for name in names:
        (fresh / f"{name}.crt").write_text(identity(name).certificate.pem)
        if not (path / f"{name}.crt").is_symlink():
            (path / f"{name}.crt").symlink_to(f"..data/{name}.crt")
    waiting = path / "..data_tmp"
    waiting.symlink_to(fresh.name)
    waiting.rename(path / "..data")
    for link in path.glob("*.crt"):
        if link.stem not in names:
            link.unlink()


@on_loops()
async def test_mount_that_swaps_its_data_counts_and_ends_only_what_is_gone(yard: Yard, noticed_by: str) -> None:
    del noticed_by
    mounted(yard.path, "alice", "bob")
    async with running(yard) as node:
        tls, other = await stay(node, identity("alice")), await stay(node, identity("bob"))
        mounted(yard.path, "bob", "carol")
        await node.hears("peer-added", peer="carol")
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        assert await hear(node, identity("carol")) == "hello carol"
        assert await still_there(other)
        assert not node.told("ended", peer="bob")
        tls.close()
        other.close()


@on_loops()
async def test_directory_that_goes_admits_nobody_until_it_is_there_again(yard: Yard, noticed_by: str) -> None:
    del noticed_by
    alice = yard.pin("alice")
    async with running(yard) as node:
        tls = await stay(node, alice)
        shutil.rmtree(yard.path)
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        assert await hear(node, alice) == "TLSV1_ALERT_UNKNOWN_CA"
        await asyncio.to_thread(Yard(yard.path).pin, "alice")
        await node.hears("peer-added", peer="alice")
        tls.close()
        tls = await stay(node, alice)
        yard.unpin("alice")
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        tls.close()


@on_loops()
async def test_directory_that_is_replaced_is_followed_from_then_on(yard: Yard, noticed_by: str, tmp_path: Path) -> None:
    del noticed_by
    yard.pin("alice")
    bob = yard.pin("bob")
    other = Yard(tmp_path / "other")
    other.pin("bob")
    async with running(yard) as node:
        kept = await stay(node, bob)
        yard.path.rename(tmp_path / "old")
        other.path.rename(yard.path)
        await node.hears("peer-removed", peer="alice")
        assert await still_there(kept)
        assert not node.told("ended")
        yard.unpin("bob")
        assert await asyncio.to_thread(how_it_ends, kept) == "cut"
        kept.close()


@on_loops("uvloop")
async def test_directory_behind_a_link_is_followed_when_the_link_is_swapped(yard: Yard, tmp_path: Path) -> None:
    yard.pin("alice")
    yard.path.rename(tmp_path / "one")
    yard.path.symlink_to("one")
    Yard(tmp_path / "two").pin("bob")
    async with running(yard) as node:
        tls = await stay(node, identity("alice"))
        (tmp_path / "link").symlink_to("two")
        (tmp_path / "link").rename(yard.path)
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        assert await hear(node, identity("bob")) == "hello bob"
        tls.close()


@on_loops("uvloop")
async def test_file_behind_a_link_is_followed_where_it_lies(yard: Yard, tmp_path: Path) -> None:
    """The slow poll would notice as well, two seconds later."""
    elsewhere = Yard(tmp_path / "elsewhere")
    alice = elsewhere.pin("alice")
    (yard.path / "alice.crt").symlink_to(elsewhere.path / "alice.crt")
    async with running(yard) as node:
        tls = await stay(node, alice)
        started = time.monotonic()
        elsewhere.unpin("alice")
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        assert time.monotonic() - started < 1.0
        tls.close()


@pytest.mark.parametrize("comes_back", [True, False])
@on_loops("uvloop")
async def test_look_into_the_middle_of_an_edit_is_looked_at_again(
    yard: Yard, noticed_by: str, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    """Whatever made us look, a peer is gone only if it is still gone when things have settled."""
    del noticed_by
    alice, looks = yard.pin("alice"), 0
    file = yard.path / "alice.crt"
    suspects = PeerDirectory.suspects

    def in_the_middle(directory: PeerDirectory, *breathe: Callable[[], None]) -> list[str]:
        nonlocal looks
        looks += 1
        if looks != 2:  # the first one is the server's start
            return suspects(directory, *breathe)
        file.unlink()
        found = suspects(directory, *breathe)
        assert found == [file.name]
        if comes_back:
            file.write_text(alice.certificate.pem)
        return found

    monkeypatch.setattr(PeerDirectory, "suspects", in_the_middle)
    async with running(yard) as node:
        await node.until(lambda: looks > 2 and (comes_back or bool(node.told("peer-removed"))))
        yard.pin("bob")
        await node.hears("peer-added", peer="bob")
        assert bool(node.told("peer-removed", peer="alice")) == (not comes_back)


@on_loops("uvloop")
async def test_removal_acts_while_the_directory_never_rests(yard: Yard) -> None:
    alice = yard.pin("alice")
    async with running(yard) as node:
        tls = await stay(node, alice)
        ending = asyncio.create_task(asyncio.to_thread(how_it_ends, tls))
        yard.unpin("alice")
        turns = 0
        while not ending.done():
            (yard.path / f"noise{turns % 7}.crt").write_text(f"{turns}")
            turns += 1
            assert turns < 400, "still connected after four seconds"
            await asyncio.sleep(0.01)
        assert await ending == "cut"
        tls.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_want_of_descriptors_says_nothing_about_the_directory(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Strangers may take our last descriptor; they end nobody's connection by it. The twin is a real EACCES."""
    yard.pin("alice")
    directory = PeerDirectory(yard.path)
    directory.refresh()

    def fails_with(number: int) -> Callable[..., None]:
        def fails(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        return fails

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", fails_with(number))
        assert "alice" in directory.refresh()
        assert [problem.code for problem in directory.problems] == ["cannot-look"]
    (yard.path / "alice.crt").touch()
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fails_with(number))
        assert "alice" in directory.refresh()
    assert "alice" in directory.refresh()
    assert not directory.problems
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", fails_with(errno.EACCES))
        assert "alice" not in directory.refresh()
        assert [problem.code for problem in directory.problems] == ["no-directory"]

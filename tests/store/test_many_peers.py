"""Sets of many peers: what is looked at, read and remembered is counted, not timed."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import shutil
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peerauth.store import files, notifier, watch
from peerauth.store.notifier import Notice, Notifier
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.watch import Change
from peerauth.trust.peers import Peer, PeerSet, PeerSettings
from tests.support.dropin import DEADLINE_S, mint
from tests.support.engine import Yard, identity, on_loops
from tests.support.pool import certificates, fill, pem

ALICE, BOB = identity("alice").certificate, identity("bob").certificate
CHAIN = mint("leaf", issuer=mint("root", ca=True)).certificate.pem + mint("root", ca=True).certificate.pem
MANY = 700  # more than are looked through at every notice


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path / "peers")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("many") / "peers"
    path.mkdir()
    fill(path, MANY)
    return path


@pytest.fixture
def pool(many: Path, tmp_path: Path) -> Yard:
    """A directory of its own with MANY peers in it."""
    shutil.copytree(many, tmp_path / "peers")
    yard = Yard.__new__(Yard)
    yard.path = tmp_path / "peers"
    return yard


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    monkeypatch.setattr("peerauth.store.usual._RACY", -1e9)
    found: list[str] = []
    real = files.read_with_status

    def noting(path: Path | str, limit: int, directory: int | None = None) -> tuple[os.stat_result, bytes]:
        found.append(Path(path).name)
        return real(path, limit, directory)

    monkeypatch.setattr(files, "read_with_status", noting)
    return found


def test_one_change_among_many_looks_at_that_file_alone(
    pool: Yard, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = PeerDirectory(pool.path)
    assert len(directory.refresh()) == MANY
    assert len(reads) == MANY  # each is read once
    reads.clear()
    before = directory.current

    def never(*_: object) -> None:
        raise AssertionError("the whole directory was looked at")

    monkeypatch.setattr(os, "scandir", never)
    pool.pin("alice")
    pool.place("p5.crt", BOB.pem)
    pool.unpin("p6")
    after = directory.refresh(["alice.crt", "p5.crt", "p6.crt", ".p7.crt.tmp", "x/p8.crt", "p9.txt"])
    assert set(reads) == {"alice.crt", "p5.crt", "p6.crt"}
    assert len(after) == MANY
    change = Change.between(before, after)
    assert (change.added, change.removed, change.changed) == (("alice",), ("p6",), ("p5",))
    assert after._rows._base is before._rows._base  # type: ignore[attr-defined]
    assert before.get("p6") is not None


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["alice.crt", "alice.pem", "ALICE.crt", "bob.crt", "b-b.der", "alice.toml", "bob.toml", "A b.crt"]
            ),
            st.sampled_from(["alice", "bob", "both", "chain", "der", "key", "limit", "gone"]),
        ),
        max_size=10,
    )
)
def test_looking_at_named_files_ends_where_looking_at_everything_does(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]
) -> None:
    """Whatever came and went before: twins, several files of a name, notes that pin the key, names that are none."""
    path = tmp_path_factory.mktemp("model") / "peers"
    path.mkdir()
    named, scanned = PeerDirectory(path), PeerDirectory(path)
    contents = {
        "alice": ALICE.pem.encode(),
        "bob": BOB.pem.encode(),
        "both": (ALICE.pem + BOB.pem).encode(),
        "chain": CHAIN.encode(),
        "der": ALICE.der,
        "key": b'pin = "key"',
        "limit": b"max_connections = 3",
    }
    for file, what in steps:
        if what == "gone":
            (path / file).unlink(missing_ok=True)
        elif file.endswith(".toml") == (what in {"key", "limit"}):
            (path / file).write_bytes(contents[what])
        named.refresh([file])
        scanned.refresh()
        anew = PeerDirectory(path)
        assert named.current == scanned.current == anew.refresh()
        assert dict(named.current._by_key) == dict(anew.current._by_key)
        assert named.problems == scanned.problems == anew.problems
        assert named.count == scanned.count == anew.count == len(list(path.iterdir()))
        for certificate in (ALICE, BOB):
            assert named.current.holder(certificate.fingerprint) == anew.current.holder(certificate.fingerprint)


def test_file_costs_four_system_calls(pool: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open, status, read, close; the second look at all of them asks for the status alone."""
    monkeypatch.setattr("peerauth.store.usual._RACY", -1e9)
    calls: Counter[str] = Counter()

    def counted(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*arguments: object, **named: object) -> object:
            calls[name] += 1
            return real(*arguments, **named)

        return call

    for name in ("open", "fstat", "read", "close", "stat", "lstat", "readlink"):
        monkeypatch.setattr(os, name, counted(name))
    directory = PeerDirectory(pool.path)
    assert len(directory.refresh()) == MANY
    assert calls == {"open": MANY + 1, "fstat": MANY, "read": MANY, "close": MANY + 1}  # one for the directory
    calls.clear()
    directory.refresh()
    assert calls["open"] == calls["close"] <= 1
    assert calls["read"] == 0


def test_memory_of_a_peer_is_a_few_hundred_bytes_that_the_garbage_collector_never_sees(pool: Yard) -> None:
    directory = PeerDirectory(pool.path)
    gc.collect()
    objects = len(gc.get_objects())
    tracemalloc.start()
    try:
        directory.refresh()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    gc.collect()
    assert used / MANY < 600
    assert len(gc.get_objects()) - objects < MANY / 4


def test_file_that_could_not_be_read_for_want_of_descriptors_is_read_when_there_are_some(
    pool: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks the same as before; the twin is a file that is broken, which is not read again until it looks different."""
    directory = PeerDirectory(pool.path)

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fails)
        assert not directory.refresh(["p1.crt", "p2.crt"])
    assert [problem.code for problem in directory.problems] == ["unreadable"] * 2
    broken = pool.place("broken.crt", "nonsense")
    os.utime(broken, (1, 1))
    monkeypatch.setattr("peerauth.store.usual._RACY", -1e9)
    assert len(directory.refresh()) == MANY
    assert [problem.code for problem in directory.problems] == ["not-a-certificate"]
    assert directory.suspects() == []


@pytest.mark.parametrize("number", [0, MANY - 1])
def test_look_at_everything_finds_what_is_new_gone_or_different(pool: Yard, number: int, reads: list[str]) -> None:
    directory = PeerDirectory(pool.path)
    directory.refresh()
    assert directory.suspects() == []
    pool.pin("alice")
    pool.unpin(f"p{number}")
    (pool.path / "p5.crt").touch()
    reads.clear()
    assert sorted(directory.suspects()) == sorted(["alice.crt", f"p{number}.crt", "p5.crt"])
    assert reads == []  # it asks for the status and opens nothing


def test_look_at_everything_stops_when_it_is_told_to(pool: Yard) -> None:
    class Enough(Exception):
        pass

    def enough() -> None:
        raise Enough

    with pytest.raises(Enough):
        PeerDirectory(pool.path).suspects(enough)


# What a notice means


@pytest.fixture
def notices(yard: Yard, tmp_path: Path) -> Callable[..., tuple[list[str], bool]]:
    """What these paths mean for yard.path, once a symbolic link in it leads elsewhere, or none does."""

    def means(*paths: str, linked: bool = False, restless: bool = False) -> tuple[list[str], bool]:
        directory = PeerDirectory(yard.path)
        if linked:
            elsewhere = tmp_path / "elsewhere"
            elsewhere.mkdir(exist_ok=True)
            with suppress(FileExistsError):
                (yard.path / "carol.crt").symlink_to(elsewhere / "carol.crt")
            directory.refresh()
        one = Notifier(directory, ())
        notice = one._notice({str(tmp_path / path) for path in paths}, restless=restless)
        assert isinstance(notice, Notice)
        return sorted(notice.names), notice.more

    return means


def test_notice_names_files_and_says_whether_there_may_be_others(notices: Callable[..., tuple[list[str], bool]]) -> None:
    named = ["peers/alice.crt", "peers/alice.toml"]
    assert notices(*named) == (["alice.crt", "alice.toml"], False)
    assert notices(*named, restless=True) == (["alice.crt", "alice.toml"], True)
    assert notices("peers/.alice.crt.tmp", "peers/alice.crt~", "state", "config.toml") == ([], False)
    assert notices("peers/.alice.crt.tmp", linked=True) == ([], True)
    assert notices("peers/..data", linked=True) == ([], True)
    assert notices("config.toml", linked=True) == ([], True)
    assert notices("elsewhere/carol.crt", linked=True) == ([], True)
    assert notices("peers") == ([], True)
    assert notices("else/where") == ([], True)
    many = [f"peers/p{number}.crt" for number in range(255)]
    assert notices(*many) == (sorted(path[6:] for path in many), False)
    assert notices(*many, "peers/q.crt")[1]  # the kernel may have dropped some


# Following


class Followed:
    """A directory that is followed in this loop, and what was told of it."""

    def __init__(self, directory: PeerDirectory) -> None:
        self.directory = directory
        self.changes: list[Change] = []
        self.looks = 0
        self.news = asyncio.Event()

    def note(self, change: Change) -> None:
        self.changes.append(change)
        self.news.set()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not true():
                self.news.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.news.wait(), 0.02)


@asynccontextmanager
async def followed(path: Path, monkeypatch: pytest.MonkeyPatch, poll: float) -> AsyncIterator[Followed]:
    monkeypatch.setattr("peerauth.store.usual._RACY", -1e9)  # no file is read again to be sure: looks are counted
    directory = PeerDirectory(path)
    directory.refresh()
    one = Followed(directory)
    suspects = PeerDirectory.suspects

    def counted(directory: PeerDirectory, *breathe: Callable[[], None]) -> list[str]:
        found = suspects(directory, *breathe)
        one.looks += 1
        return found

    monkeypatch.setattr(PeerDirectory, "suspects", counted)
    task = asyncio.create_task(watch.watch(directory, one.note, poll=poll))
    try:
        await one.until(lambda: one.looks > 0)
        yield one
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@on_loops("uvloop")
async def test_change_that_is_noticed_among_many_reads_one_file_and_walks_through_nothing(
    pool: Yard, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with followed(pool.path, monkeypatch, poll=3600) as one:
        reads.clear()
        pool.pin("alice")
        await one.until(lambda: len(one.changes) == 1)
        pool.place("p5.crt", BOB.pem)
        await one.until(lambda: len(one.changes) == 2)
        pool.unpin("p6")
        await one.until(lambda: len(one.changes) == 3)
        assert [(c.added, c.removed, c.changed) for c in one.changes] == [
            (("alice",), (), ()),
            ((), (), ("p5",)),
            ((), ("p6",), ()),
        ]
        assert one.looks == 1
        assert set(reads) == {"alice.crt", "p5.crt", "p6.crt"}


@on_loops("uvloop")
async def test_change_that_no_notice_names_is_found_by_the_poll(pool: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network file system, or when the kernel's queue ran over."""
    real = Notifier._notice
    monkeypatch.setattr(
        Notifier, "_notice", lambda self, *_, **__: Notice(real(self, set(), restless=False).names, more=False)
    )
    async with followed(pool.path, monkeypatch, poll=0.01) as one:
        pool.pin("alice")
        pool.unpin("p6")
        await one.until(lambda: "alice" in one.directory.current and "p6" not in one.directory.current)


@on_loops("uvloop")
async def test_notice_that_may_not_say_everything_has_everything_looked_at(
    pool: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin is `test_change_that_is_noticed_among_many_reads_one_file_and_walks_through_nothing`."""
    monkeypatch.setattr(notifier, "_MANY", 1)
    real = Notifier._notice

    def forgetful(self: Notifier, paths: set[str], *, restless: bool) -> Notice:
        return Notice((), real(self, paths, restless=restless).more)

    monkeypatch.setattr(Notifier, "_notice", forgetful)
    async with followed(pool.path, monkeypatch, poll=3600) as one:
        pool.unpin("p6")
        await one.until(lambda: len(one.changes) == 1)
        assert one.changes[0].removed == ("p6",)


@on_loops("uvloop")
async def test_link_that_is_added_is_followed_to_where_it_leads(
    pool: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Yard(tmp_path / "elsewhere")
    elsewhere.pin("alice")
    async with followed(pool.path, monkeypatch, poll=3600) as one:
        (pool.path / "alice.crt").symlink_to(elsewhere.path / "alice.crt")
        await one.until(lambda: "alice" in one.directory.current)
        await one.until(lambda: one.looks > 1)  # it is watched from now on
        elsewhere.unpin("alice")
        await one.until(lambda: "alice" not in one.directory.current)


@pytest.mark.parametrize("few", [True, False])
@on_loops("uvloop")
async def test_name_that_is_no_text_does_not_end_the_watch(yard: Yard, monkeypatch: pytest.MonkeyPatch, few: bool) -> None:
    if not few:
        monkeypatch.setattr(watch, "_FEW", -1)
    yard.pin("alice")
    async with followed(yard.path, monkeypatch, poll=3600) as one:
        yard.place(os.fsdecode(b"\xff.tmp"), "")
        await one.until(lambda: one.looks > 1)
        yard.pin("bob")
        await one.until(lambda: "bob" in one.directory.current)


@on_loops("uvloop")
async def test_others_may_refresh_the_directory_and_the_change_is_told_all_the_same(
    pool: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with followed(pool.path, monkeypatch, poll=3600) as one:
        one.directory.add("alice", [ALICE], PeerSettings(note="x"))
        assert "alice" in one.directory.current
        await one.until(lambda: bool(one.changes))
        assert one.changes[0].added == ("alice",)


@on_loops("uvloop")
async def test_many_changes_are_told_in_portions_and_all_of_them(pool: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PORTION", 100)
    monkeypatch.setattr(notifier, "_MANY", 1)
    async with followed(pool.path, monkeypatch, poll=3600) as one:
        for number, der in enumerate(certificates(2 * MANY)):
            if number >= MANY:
                (pool.path / f"p{number}.crt").write_bytes(pem(der))
        for number in range(MANY - 1):
            pool.unpin(f"p{number}")
        await one.until(lambda: set(one.directory.current.peers) == {f"p{n}" for n in range(MANY - 1, 2 * MANY)})
        await one.until(lambda: sum(len(change.removed) for change in one.changes) == MANY - 1)
        assert sum(len(change.added) for change in one.changes) == MANY
        assert not any(change.problems for change in one.changes)


def test_change_says_who_came_went_and_became_other() -> None:
    fingerprint, other = ALICE.fingerprint, BOB.fingerprint
    before = PeerSet.of([Peer("a", (fingerprint,)), Peer("b", (other,)), Peer("c", (other,))])
    after = PeerSet.of([Peer("a", (fingerprint,)), Peer("b", (fingerprint,)), Peer("d", (other,))])
    change = Change.between(before, after)
    assert (change.added, change.removed, change.changed) == (("d",), ("c",), ("b",))

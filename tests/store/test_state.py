"""What the program notes for itself: whole, shared by processes, and nothing that anybody depends on."""

import json
import multiprocessing
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from peerauth.store.state import State


def count_up(home: Path, times: int) -> None:
    for _ in range(times):
        with State(home).changing("count") as noted:
            noted["n"] = noted.get("n", 0) + 1


def test_what_is_not_there_is_empty_and_what_was_noted_is_there(tmp_path: Path) -> None:
    state = State(tmp_path)
    assert state.read("things") == {}
    with state.changing("things") as noted:
        noted["a"] = [1]
    assert State(tmp_path).read("things") == {"a": [1]}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b"null"])
def test_a_broken_file_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    state = State(tmp_path)
    with state.changing("things") as noted:
        noted["a"] = 1
    state.path("things").write_bytes(content)
    assert state.read("things") == {}
    with state.changing("things") as noted:
        noted["b"] = 2
    assert state.read("things") == {"b": 2}


def test_a_change_that_fails_leaves_what_was(tmp_path: Path) -> None:
    state = State(tmp_path)
    with state.changing("things") as noted:
        noted["a"] = 1

    def fail() -> None:
        with state.changing("things") as noted:
            noted["a"] = 2
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert state.read("things") == {"a": 1}


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    with State(tmp_path).changing("things") as noted:
        noted["a"] = 1
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / "things.json").stat().st_mode) == 0o600


def test_no_change_of_threads_or_processes_is_lost(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: count_up(tmp_path, 10), range(4)))
    spawning = multiprocessing.get_context("spawn")
    processes = [spawning.Process(target=count_up, args=(tmp_path, 20)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert json.loads((tmp_path / "state" / "count.json").read_text()) == {"n": 100}


def be_alive(home: Path, what: str, many: bool, told: Any) -> None:  # noqa: ANN401 - an event of multiprocessing
    with State(home).alive(what, many=many):
        told.set()
        time.sleep(60)


@pytest.mark.parametrize("many", [False, True])
def test_whoever_does_something_is_seen_until_it_is_killed(tmp_path: Path, many: bool) -> None:
    state = State(tmp_path)
    assert not state.is_alive("serving", many=many)
    told = multiprocessing.get_context("spawn").Event()
    process = multiprocessing.get_context("spawn").Process(target=be_alive, args=(tmp_path, "serving", many, told))
    process.start()
    try:
        assert told.wait(30)
        assert state.is_alive("serving", many=many)
        assert state.is_alive("serving", many=many)  # asking changes nothing
        with state.alive("serving", many=many) as so:
            assert so is many
        assert state.is_alive("serving", many=many)
    finally:
        process.kill()
        process.join(30)
    assert not state.is_alive("serving", many=many)
    with state.alive("serving", many=many) as so:
        assert so


def test_whoever_asks_keeps_nobody_from_being_alive(tmp_path: Path) -> None:
    state = State(tmp_path)
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            state.is_alive("serving", many=True)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            for _ in range(300):
                with state.alive("serving", many=True) as so:
                    assert so
        finally:
            over.set()
        asking.result(30)


def test_two_who_look_do_not_take_each_other_for_somebody_alive(tmp_path: Path) -> None:
    state = State(tmp_path)
    with state.alive("serving", many=True):
        pass
    with ThreadPoolExecutor(4) as pool:
        seen = pool.map(lambda _: [state.is_alive("serving", many=True) for _ in range(200)], range(4))
    assert {one for some in seen for one in some} == {False}

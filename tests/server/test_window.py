"""The window in `state/` through which `status` looks at a running server."""

from __future__ import annotations

import json
import os
import select
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from peerauth.server import window
from peerauth.server.window import LARGEST, Window, look
from tests.support.dropin import DEADLINE_S


@contextmanager
def shown(home: Path, facts: dict[str, Any]) -> Iterator[Window]:
    """A window that is open, watched in a thread."""
    opened = Window(home, lambda: facts)
    opened.open()
    descriptor = opened.fd
    assert descriptor is not None
    ending, end = os.pipe()

    def watch() -> None:
        while ending not in (ready := select.select([descriptor, ending], [], [])[0]):
            assert ready
            opened.show()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield opened
    finally:
        os.close(end)
        watching.join(DEADLINE_S)
        os.close(ending)
        opened.close()


def sockets(home: Path) -> list[Path]:
    return sorted((home / "state").glob("*.window*"))


def test_who_looks_sees_how_things_stand(tmp_path: Path) -> None:
    with shown(tmp_path, {"connections": 3}):
        assert look(tmp_path) == [{"connections": 3}]
    assert sockets(tmp_path) == []
    assert look(tmp_path) == []


def test_it_is_for_this_user_alone(tmp_path: Path) -> None:
    with shown(tmp_path, {}):
        (path,) = sockets(tmp_path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_several_servers_of_a_home_have_a_window_each(tmp_path: Path) -> None:
    with shown(tmp_path, {"n": 1}), shown(tmp_path, {"n": 2}):
        assert sorted(facts["n"] for facts in look(tmp_path)) == [1, 2]


def test_what_a_killed_server_left_is_no_server_and_is_taken_away_by_the_next(tmp_path: Path) -> None:
    opened = Window(tmp_path, dict)
    opened.open()
    opened.leave()  # as its death does
    assert len(sockets(tmp_path)) == 1
    assert look(tmp_path) == []
    with shown(tmp_path, {"n": 2}):
        assert len(sockets(tmp_path)) == 1
        assert look(tmp_path) == [{"n": 2}]


def test_what_a_server_left_that_was_killed_while_it_opened_is_taken_away_and_another_is_not_disturbed(
    tmp_path: Path,
) -> None:
    (tmp_path / "state").mkdir()
    ended = subprocess.Popen(["true"])
    ended.wait()
    killed, opening = (tmp_path / "state" / f"{pid}-x.window.new" for pid in (ended.pid, os.getpid()))
    for path in (killed, opening):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    with shown(tmp_path, {}):
        assert (killed.exists(), opening.exists()) == (False, True)


def test_a_home_with_a_long_path_has_one_too(tmp_path: Path) -> None:
    """The path of a Unix socket has 107 bytes (unix(7)); that of a home may have thousands."""
    home = tmp_path / ("a" * 100) / ("b" * 100)
    home.mkdir(parents=True)
    with shown(home, {"n": 1}):
        assert look(home) == [{"n": 1}]


@pytest.mark.parametrize("answer", [b"", b"half a", b"[]", b"[" * 100_000, b"\xff", b"{" + b" " * 3 * LARGEST])
def test_a_server_that_answers_nonsense_is_there_and_says_nothing(tmp_path: Path, answer: bytes) -> None:
    (tmp_path / "state").mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "state" / "1-x.window"))
        sock.listen()

        def reply() -> None:
            caller, _ = sock.accept()
            with caller, suppress(OSError):
                caller.sendall(answer)

        replying = threading.Thread(target=reply)
        replying.start()
        assert look(tmp_path) == [{}]
        replying.join(DEADLINE_S)


def test_a_server_that_is_stuck_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "PATIENCE_S", 0.05)
    opened = Window(tmp_path, dict)
    opened.open()
    assert look(tmp_path) == [{}]
    opened.close()


def test_who_connects_and_leaves_or_says_much_disturbs_nobody(tmp_path: Path) -> None:
    opened = Window(tmp_path, lambda: {"n": 1})
    opened.open()
    opened.show()  # nobody is there
    (path,) = sockets(tmp_path)
    for said in (b"", b"x" * 100_000):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.setblocking(False)
            if said:
                sock.send(said)
        opened.show()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        opened.show()
        sock.settimeout(DEADLINE_S)
        assert json.loads(sock.recv(1000)) == {"n": 1}
        assert sock.recv(1) == b""
    opened.close()


def test_where_nothing_can_be_made_there_is_no_window_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file is in the way")
    opened = Window(tmp_path, dict)
    opened.open()
    assert opened.fd is None
    opened.leave()
    opened.close()

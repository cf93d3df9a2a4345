"""Commands that come, change and go with a changed config.toml, in one process and in several."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.test_commands import BACKEND, QUICK, ask, caller, leftovers, until
from tests.server.test_reload import Node, several
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, hear_line, how_it_ends, identity
from tests.support.workers import Home, is_alive, started, with_patch


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A node's home in which alice is pinned, and whose path is short."""
    made = Home(tmp_path_factory.mktemp("c"))
    made.pin("alice")
    return made


def block(node: Node, name: str, *words: str) -> str:
    """A service by tests/support/backend.py, which is given these words."""
    command = json.dumps([sys.executable, BACKEND, *words])
    at = f'[[serve]]\nname = "{name}"\nlisten = "127.0.0.1:{node.ports[name]}"\n'
    return f'{at}command = {command}\nspeaks = "tcp"\n'


def hello(node: Node) -> str:
    """A service without a command."""
    return f'[[serve]]\nname = "three"\nlisten = "127.0.0.1:{node.ports["three"]}"\n'


@contextlib.contextmanager
def up(home: Home, workers: int, *names: str, quick: bool = False) -> Iterator[Node]:
    """Commands of these names, which run, beside a service without one."""
    node = Node(home, None, workers)
    node.write(hello(node), *(block(node, name) for name in names))
    with started(home, "up", program=with_patch(QUICK if quick else "")) as node.serving:
        for name in ("three", *names):
            node.serving.hears("listening", service=name)
        yield node


def said(node: Node, name: str) -> dict[str, Any]:
    """What the command of this service says of itself."""
    with caller(node.ports[name]) as tls:
        return ask(tls)


def called(node: Node, name: str) -> ssl.SSLSocket:
    """alice, connected."""
    return Caller(identity("alice")).open(node.ports[name])


@several
def test_command_that_is_new_is_started_and_ends_with_us(home: Home, workers: int) -> None:
    with up(home, workers) as node:
        node.write(hello(node), block(node, "one", "late=0.3"))
        assert node.reload().endswith("1 new, 1 as before")
        (started,) = node.serving.told("command-started")
        assert {said(node, "one")["pid"] for _ in range(6)} == {started["pid"]}
        assert said(node, "one")["directory"] == str(home.home)
        assert len(leftovers(home)) == 1
        node.serving.send(signal.SIGTERM)
        assert node.serving.wait() == 0
    assert not is_alive(started["pid"])
    assert leftovers(home) == []


@several
@pytest.mark.parametrize("names", [(), ("two",)], ids=["first", "second"])
def test_command_that_is_new_ends_although_we_are_killed(home: Home, workers: int, names: tuple[str, ...]) -> None:
    with up(home, workers, *names, quick=True) as node:
        node.write(hello(node), block(node, "one", "deaf", "child"), *(block(node, name) for name in names))
        node.reload()
        facts = said(node, "one")
        pids = [facts["pid"], facts["child"], *(said(node, name)["pid"] for name in names)]
        node.serving.process.kill()
        node.serving.wait()
        until(lambda: not any(map(is_alive, pids)))
        until(lambda: leftovers(home) == [])


@several
def test_command_that_no_service_has_ends_when_the_last_who_was_connected_has_gone(home: Home, workers: int) -> None:
    with up(home, workers, "one", "two", quick=True) as node:
        other = said(node, "two")["pid"]
        callers = [called(node, "one") for _ in range(3 * workers)]
        pid = {ask(tls)["pid"] for tls in callers}.pop()
        node.write(hello(node), block(node, "two"))
        node.reload()
        node.serving.until(lambda: node.is_shut("one"))
        for tls in callers:
            assert ask(tls)["pid"] == pid, "who is connected has the time that draining takes: 30 s"
            tls.close()
        assert node.serving.hears("command-stopped")["pid"] == pid
        assert not is_alive(pid)
        assert len(leftovers(home)) == 1
        assert said(node, "two")["pid"] == other
        node.serving.send(signal.SIGTERM)
        assert node.serving.wait() == 0
    assert node.serving.told("command-ended") == []


@several
def test_who_stays_connected_to_a_command_that_goes_has_the_time_to_drain(home: Home, workers: int) -> None:
    """What is deaf to SIGTERM, and what it has started, is killed then."""
    with up(home, workers, quick=True) as node:
        node.write(hello(node), block(node, "one", "deaf", "child"))
        node.reload()
        with called(node, "one") as tls:
            facts = ask(tls)
            node.write(hello(node), limits="drain = 0.3")
            node.serving.send(signal.SIGHUP)
            node.serving.hears("reloaded", times=2)
            assert how_it_ends(tls) == "cut"
        assert "ended by signal 9 (SIGKILL)" in node.serving.hears("command-stopped")["message"]
        until(lambda: not is_alive(facts["pid"]) and not is_alive(facts["child"]) and leftovers(home) == [])
        assert not node.is_shut("three")


@several
def test_changed_command_serves_whoever_comes_and_the_old_one_who_is_there(home: Home, workers: int) -> None:
    with up(home, workers, "one") as node:
        before = called(node, "one")
        old = ask(before)["pid"]
        node.write(hello(node), block(node, "one", "other"))
        assert node.reload().endswith("1 changed, 1 as before")
        now = {said(node, "one")["pid"] for _ in range(6)}
        assert len(now) == 1
        assert old not in now
        assert ask(before)["pid"] == old
        before.close()
        assert node.serving.hears("command-stopped")["pid"] == old
        assert said(node, "one")["words"] == ["other"]


@pytest.mark.parametrize(
    ("workers", "word", "code", "words"),
    [(1, "exit=3", "command-ended", "exit code 3 before it served"), (2, "never", "command-silent", "no socket within 1 s")],
)
def test_command_that_does_not_serve_changes_nothing(home: Home, workers: int, word: str, code: str, words: str) -> None:
    with up(home, workers, "one", quick=True) as node, called(node, "one") as tls:
        pid = ask(tls)["pid"]
        node.write(block(node, "one"), block(node, "two", word))
        assert words in node.reload("problem", code=code)
        assert ask(tls)["pid"] == pid
        assert node.is_shut("two")
        failed = node.serving.told("command-started")[-1]["pid"]
        node.serving.hears("command-stopped", pid=failed)
        assert len(leftovers(home)) == 1
        node.write(hello(node), block(node, "two"), block(node, "one"))
        assert node.reload().endswith("1 new, 2 as before")
        assert said(node, "two")["pid"] != pid
        assert said(node, "one")["pid"] == pid


@several
def test_command_that_ends_by_itself_ends_us_only_while_a_service_has_it(home: Home, workers: int) -> None:
    with up(home, workers, "one") as node:
        with called(node, "one") as tls:
            pid = ask(tls)["pid"]
            node.write(hello(node), block(node, "two", "other"), limits="drain = 0.2")
            node.reload()
            os.kill(pid, signal.SIGKILL)
            node.serving.hears("command-stopped", pid=pid)
        new = said(node, "two")["pid"]
        os.kill(new, signal.SIGKILL)
        assert node.serving.hears("command-ended")["pid"] == new
        assert node.serving.wait() == 137
    assert leftovers(home) == []


def test_commands_have_a_keeper_again_when_it_was_killed(home: Home) -> None:
    with up(home, 2, "one") as node:
        first = said(node, "one")["pid"]
        parent = node.serving.process.pid
        children = {int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()}
        (keeper,) = children - {first, node.serving.pid(1), node.serving.pid(2)}
        os.kill(keeper, signal.SIGKILL)
        until(lambda: not is_alive(keeper))
        node.write(hello(node), block(node, "one"), block(node, "two"))
        node.reload()
        second = said(node, "two")["pid"]
        node.serving.process.kill()
        node.serving.process.wait(DEADLINE_S)
        until(lambda: not is_alive(first) and not is_alive(second) and leftovers(home) == [])


@several
def test_command_whose_service_changes_twice_is_there_until_the_last_has_gone(home: Home, workers: int) -> None:
    """First it is another service by the same program, then none; who came in between is still connected."""
    with up(home, workers, "one") as node, called(node, "one") as first:
        pid = ask(first)["pid"]
        node.write(hello(node), block(node, "one") + 'proxy_protocol = "v2"\n')
        node.reload()
        callers = [called(node, "one") for _ in range(3 * workers)]
        node.write(hello(node))
        node.reload()
        first.close()
        for tls in callers:
            tls.sendall(b"?\n")
            assert hear_line(tls).endswith("}")
        assert is_alive(pid)
        assert node.serving.told("command-stopped") == []
        for tls in callers:
            tls.close()
        node.serving.hears("command-stopped", pid=pid)

"""A changed config.toml in a running node: what did not change keeps its connections, in one process and in several."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, carry, how_it_ends
from tests.support.targets import echo, target, unused_port
from tests.support.workers import Home, Serving, is_alive, ping, started, with_patch

several = pytest.mark.parametrize("workers", [1, 2])


class Node:
    """A node that runs by config.toml, which the test rewrites. Each service relays to the same echo."""

    def __init__(self, home: Home, where: object, workers: int) -> None:
        self.home = home
        self.where = where
        self.workers = workers
        self.ports = {name: unused_port() for name in ("one", "two", "three")}
        self.serving: Serving

    def write(self, *blocks: str, limits: str = "drain = 30", more: str = "") -> None:
        self.home.configure("\n".join([*blocks, f"[limits]\nworkers = {self.workers}\n{limits}", more]))

    def service(self, name: str, *, host: str = "127.0.0.1", extra: str = "", where: object = None) -> str:
        port = self.ports[name]
        return f'[[serve]]\nname = "{name}"\nlisten = "{host}:{port}"\ntarget = "{where or self.where}"\n{extra}\n'

    def reload(self, event: str = "reloaded", **facts: object) -> str:
        """Have config.toml read again; what was said of it."""
        times = len(self.serving.told(event, **facts)) + 1
        self.serving.send(signal.SIGHUP)
        return str(self.serving.hears(event, times=times, **facts)["message"])

    def call(self, caller: Caller, name: str) -> ssl.SSLSocket:
        tls = caller.open(self.ports[name])
        ping(tls)
        return tls

    def lets_in(self, caller: Caller, name: str) -> bool:
        try:
            with caller.open(self.ports[name]) as tls:
                ping(tls)
        except (ssl.SSLError, ConnectionError):
            return False
        return True

    def is_shut(self, name: str) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.ports[name]), DEADLINE_S).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:  # it is being closed in this very moment
            return False
        return False


@contextmanager
def up(
    home: Home, workers: int, *names: str, command: str = "up", program: Sequence[str] = ("-m", "peerauth")
) -> Iterator[Node]:
    """Relays of these names, which run."""
    with target(echo) as where:
        node = Node(home, where, workers)
        node.write(*map(node.service, names))
        with started(home, command, program=program) as node.serving:
            for name in names:
                node.serving.hears("listening", service=name)
            yield node


@several
def test_unchanged_service_keeps_its_connections_whole_while_others_come_and_go(home: Home, workers: int) -> None:
    caller = Caller(home.pin("alice"))
    over, begun, same = threading.Event(), threading.Event(), []
    with up(home, workers, "one", "two") as node, node.call(caller, "one") as kept:
        moving = threading.Thread(target=lambda: same.append(carry(kept, over, begun, at_least=2_000_000)))
        moving.start()
        try:
            assert begun.wait(DEADLINE_S)
            node.write(node.service("one"), node.service("three"))
            said = node.reload()
            assert said.endswith("services and tunnels: 1 new, 1 gone, 1 as before")
            node.serving.hears("listening", service="three")
            node.serving.until(lambda: node.is_shut("two"))
            node.call(caller, "three").close()
            node.call(caller, "one").close()
        finally:
            over.set()
            moving.join(DEADLINE_S)
        assert same == [True]
        assert node.serving.told("problem") == []


@several
def test_removed_service_gives_its_connections_the_time_to_drain(home: Home, workers: int) -> None:
    caller = Caller(home.pin("alice"))
    with up(home, workers, "one", "two") as node:
        leaving = node.call(caller, "two")
        node.write(node.service("one"), limits="drain = 1.5")
        node.reload()
        node.serving.until(lambda: node.is_shut("two"))
        ping(leaving)
        assert how_it_ends(leaving) == "cut"
        leaving.close()
        node.call(caller, "one").close()


@several
def test_changed_service_has_the_same_door_and_another_room(home: Home, workers: int) -> None:
    """Nobody is turned away in between: the socket stays open."""
    caller = Caller(home.pin("alice"))
    failed: list[BaseException] = []
    over = threading.Event()

    def upper(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            sock.sendall(data.upper())

    with target(upper) as other, up(home, workers, "one") as node:

        def knock() -> None:
            while not over.is_set():
                try:
                    with caller.open(node.ports["one"]) as tls:
                        tls.sendall(b"x\n")
                        assert tls.recv(10).lower() == b"x\n"
                except BaseException as error:  # noqa: BLE001 - whatever it is: the test says it
                    failed.append(error)

        before = node.call(caller, "one")
        knocking = threading.Thread(target=knock)
        knocking.start()
        try:
            node.write(node.service("one", where=other))
            assert node.reload().endswith("1 changed")
        finally:
            over.set()
            knocking.join(DEADLINE_S)
        assert failed == []
        ping(before)
        before.close()
        with caller.open(node.ports["one"]) as tls:
            tls.sendall(b"ping\n")
            assert tls.recv(10) == b"PING\n"


@several
def test_group_that_loses_a_member_ends_her_connections_and_no_other(home: Home, workers: int) -> None:
    callers = {name: Caller(home.pin(name)) for name in ("alice", "bob")}
    with up(home, workers, "one", "two") as node:
        allow = 'allow = ["@staff"]'
        blocks = [node.service("one", extra=allow), node.service("two")]
        node.write(*blocks, more='[groups]\nstaff = ["alice", "bob"]')
        node.reload()
        alice, bob, elsewhere = (node.call(callers[n], s) for n, s in (("alice", "one"), ("bob", "one"), ("alice", "two")))
        node.write(*blocks, more='[groups]\nstaff = ["bob"]')
        assert node.reload().endswith("1 changed, 1 as before")
        assert how_it_ends(alice) == "cut"
        assert node.serving.hears("ended", peer="alice")["code"] == "not-allowed"
        ping(bob)
        ping(elsewhere)
        callers["alice"].hear(node.ports["one"])
        node.serving.hears("refused", peer="alice", code="not-allowed")
        for tls in (alice, bob, elsewhere):
            tls.close()


BROKEN = [
    ('[[serve]]\nlisten = ":1"\ntraget = "x"', 5, "unknown setting 'serve[1].traget'"),
    ('[[serve]]\nlisten = "127"', 4, "serve[1].listen"),
    ('[groups]\nx = ["@y"]', 4, "groups.x"),
    ("[[serve]]\nlisten = 127.0.0.1:1", 4, "not valid TOML"),
]


@several
def test_broken_configuration_changes_nothing_and_is_reported_with_its_line(home: Home, workers: int) -> None:
    caller = Caller(home.pin("alice"))
    with up(home, workers, "one") as node, node.call(caller, "one") as tls:
        for text, line, words in BROKEN:
            home.configure(text)
            said = node.reload("problem")
            assert f"config.toml:{line}: " in said
            assert words in said
            ping(tls)
        home.configure('[[serve]]\nlisten = 3\n[limit]\n[limits]\ndrain = "x"')
        times = len(node.serving.told("problem"))
        node.serving.send(signal.SIGHUP)
        node.serving.hears("problem", times=times + 3)
        every = node.serving.told("problem")[times:]
        assert [str(event["message"]).partition("config.toml:")[2][:1] for event in every] == ["4", "5", "7"]
        assert "did you mean 'limits'?" in [event.get("hint") for event in every]
        (home.home / "config.toml").unlink()
        node.reload("problem", code="no-config")
        node.call(caller, "one").close()
        node.write(node.service("one"), node.service("two"))
        assert node.reload().endswith("1 new, 1 as before")
        node.call(caller, "two").close()
        ping(tls)


def test_address_that_is_taken_keeps_everything_as_it_was(home: Home) -> None:
    caller = Caller(home.pin("alice"))
    with up(home, 2, "one") as node, socket.create_server(("127.0.0.1", node.ports["three"])):
        node.write(node.service("two"), node.service("three"))
        assert "cannot listen on" in node.reload("problem", code="cannot-listen")
        node.call(caller, "one").close()
        assert node.is_shut("two")


@several
def test_listening_at_every_address_instead_of_one_needs_no_gap(home: Home, workers: int) -> None:
    caller = Caller(home.pin("alice"))
    with up(home, workers, "one") as node, node.call(caller, "one") as tls:
        node.write(node.service("one", host="0.0.0.0"))  # noqa: S104 - that is what is tried
        assert node.reload().endswith("1 new, 1 gone")
        ping(tls)
        node.serving.hears("listening", address=f"0.0.0.0:{node.ports['one']}")
        node.serving.until(lambda: node.lets_in(caller, "one"))  # in that very moment, the door that closes may be met still


def test_what_needs_a_restart_is_said_and_stays_as_it_is(home: Home) -> None:
    caller = Caller(home.pin("alice"))
    with up(home, 2, "one") as node:
        text = f'min_tls = "1.2"\n{node.service("one")}[limits]\nworkers = 3\n'
        home.configure(text)
        said = node.reload("problem", code="restart-needed")
        assert "[node], limits.workers" in said
        node.call(caller, "one").close()
        with pytest.raises(ssl.SSLError):
            Caller(home.pin("alice"), tls12=True).open(node.ports["one"])


def test_limits_count_for_new_connections(home: Home) -> None:
    caller = Caller(home.pin("alice"))
    with up(home, 2, "one") as node:
        first, second = node.call(caller, "one"), node.call(caller, "one")
        node.write(node.service("one"), limits="max_connections = 2")
        assert node.reload().endswith("; the limits are new")
        assert node.serving.told("refused") == []
        caller.hear(node.ports["one"])
        node.serving.hears("refused", code="too-many")
        ping(first)
        ping(second)
        first.close()
        second.close()


def test_worker_that_is_started_again_serves_what_is_configured_now(home: Home) -> None:
    caller = Caller(home.pin("alice"))
    with up(home, 2, "one") as node:
        node.write(node.service("two"))
        node.reload()
        for worker in (1, 2):
            os.kill(node.serving.pid(worker), signal.SIGKILL)
            pid = node.serving.pid(worker, times=2)
            assert is_alive(pid)
        for _ in range(6):
            node.call(caller, "two").close()
        assert node.is_shut("one")


def test_worker_that_dies_while_others_go_over_is_not_waited_for(home: Home) -> None:
    """Stopped, it cannot answer; killed, it need not."""
    caller = Caller(home.pin("alice"))
    with up(home, 2, "one") as node:
        os.kill(node.serving.pid(2), signal.SIGSTOP)
        node.write(node.service("two"))
        node.serving.send(signal.SIGHUP)
        node.serving.until(lambda: not node.is_shut("two"))  # it is open, and nobody accepts there yet
        os.kill(node.serving.pid(2), signal.SIGKILL)
        node.serving.hears("reloaded")
        node.serving.pid(2, times=2)
        for _ in range(6):
            node.call(caller, "two").close()


def test_worker_that_cannot_get_ready_keeps_all_of_them_as_they_are(home: Home, tmp_path: Path) -> None:
    """The first to make the service "two" ready succeeds, and nobody else ever does."""
    caller = Caller(home.pin("alice"))
    patch = f"""
import os, peerauth.server.doors as doors
real = doors.make_offer
async def once(service, *more, **how):
    if service.name == "two":
        os.close(os.open({str(tmp_path / "taken")!r}, os.O_CREAT | os.O_EXCL))
    return await real(service, *more, **how)
doors.make_offer = once
"""
    with up(home, 2, "one", program=with_patch(patch)) as node, node.call(caller, "one") as tls:
        for _ in range(2):
            node.write(node.service("two"), node.service("three"))
            assert "FileExistsError" in node.reload("problem", code="not-prepared")
            node.serving.until(lambda: node.is_shut("two") and node.is_shut("three"))
            ping(tls)
        node.write(node.service("one"), node.service("three"))
        assert node.reload().endswith("1 new, 1 as before")
        for _ in range(4):
            node.call(caller, "three").close()
        ping(tls)


LATE = """
import os, time, peerauth.server.worker as w
real = w._Worker._go_over
def late(self):
    while self._number == 1 and not os.path.exists({path!r}):
        time.sleep(0.01)
    real(self)
w._Worker._go_over = late
"""


def test_it_is_said_when_all_workers_have_gone_over(home: Home, tmp_path: Path) -> None:
    """Who hears it can count on it that nobody serves by the old file any more."""
    path = tmp_path / "go"
    with up(home, 2, "one", program=with_patch(LATE.format(path=str(path)))) as node:
        node.write(node.service("two"))
        node.serving.send(signal.SIGHUP)
        node.serving.until(lambda: not node.is_shut("two"))
        node.serving.send(signal.SIGUSR1)
        node.serving.hears("status")
        assert node.serving.told("reloaded") == []
        path.touch()
        node.serving.hears("reloaded")
        assert node.is_shut("one")


def test_worker_that_does_not_go_over_is_ended(home: Home, tmp_path: Path) -> None:
    """It would let in by the old file who is not meant to come in any more."""
    caller = Caller(home.pin("alice"))
    patch = f"{LATE.format(path=str(tmp_path / 'never'))}\nimport peerauth.server.reloading as r; r.PATIENCE = 1.0"
    with up(home, 2, "one", program=with_patch(patch)) as node:
        node.write(node.service("two"))
        assert node.reload().endswith("1 new, 1 gone")
        assert node.is_shut("one")
        node.serving.hears("worker-ended", worker=2)
        for _ in range(6):
            node.call(caller, "two").close()


def test_worker_that_is_not_heard_because_nobody_reads_is_not_ended(home: Home) -> None:
    """Who goes over while the pipe to whoever reads the log is full has done nothing wrong."""
    caller = Caller(home.pin("alice"))
    patch = """
import peerauth.server.reloading as r
from peerauth.audit import Event
r.PATIENCE = 0.3
real = r.Reloading._prepared
def prepared(self, worker, answer, workers):
    real(self, worker, answer, workers)
    if self._under_way is not None and not self._under_way.waiting:
        for _ in range(200):
            self._say(Event("problem", "x" * 500))
r.Reloading._prepared = prepared
"""
    with target(echo) as where:
        node = Node(home, where, 2)
        node.write(node.service("one"))
        with started(home, "up", program=with_patch(patch), read=False) as node.serving:
            assert node.serving.process.stdout is not None
            while "listening" not in node.serving.process.stdout.readline():
                pass
            kept = [node.call(caller, "one") for _ in range(8)]
            node.write(node.service("one"), node.service("two"))
            node.serving.send(signal.SIGHUP)
            node.serving.until(lambda: node.lets_in(caller, "two"))
            until = time.monotonic() + 1  # three times the patience
            while time.monotonic() < until:
                for tls in kept:
                    ping(tls)
            node.serving.begin()
            node.serving.hears("reloaded")
            assert node.serving.told("worker-ended") == []
            for tls in kept:
                ping(tls)
                tls.close()


def test_a_server_that_the_command_line_describes_does_not_follow_config_toml(home: Home) -> None:
    caller = Caller(home.pin("alice"))
    with target(echo) as where:
        node = Node(home, where, 1)
        node.write()
        with started(home, "serve", "--listen", f"127.0.0.1:{node.ports['one']}", "--target", str(where)) as node.serving:
            node.serving.hears("listening")
            home.configure("this is no TOML")
            node.serving.send(signal.SIGHUP)
            node.call(caller, "one").close()
            assert node.serving.told("problem") == []


def test_serve_follows_its_services_as_up_does(home: Home) -> None:
    caller = Caller(home.pin("alice"))
    with up(home, 1, "one", command="serve") as node:
        node.write(node.service("two"))
        node.reload()
        node.call(caller, "two").close()


def test_unix_socket_goes_with_its_service(home: Home, tmp_path: Path) -> None:
    home.pin("alice")
    with up(home, 2, "one") as node:
        path = tmp_path / "socket"
        node.write(node.service("one"), f'[[serve]]\nname = "u"\nlisten = "unix:{path}"\ntarget = "{node.where}"\n')
        node.reload()
        node.serving.hears("listening", service="u")
        assert path.is_socket()
        node.write(node.service("one"))
        node.reload()
        node.serving.until(lambda: not path.exists())

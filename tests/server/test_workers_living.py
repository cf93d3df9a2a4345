"""Workers: who is there, who takes over, who ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.running import process
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, Halting, carry, hear_line, how_it_ends
from tests.support.workers import TRIES, Home, is_alive, ping, serving, with_patch


def test_each_worker_is_a_process_and_all_are_ready_before_anybody_hears_of_it(home: Home) -> None:
    home.pin("alice")
    with serving(home, workers=3) as node:
        node.hears("listening")
        assert [said["event"] for said in node.events] == ["worker-started"] * 3 + ["listening"]
        pids = {node.pid(worker) for worker in (1, 2, 3)}
        assert len(pids | {node.process.pid}) == 4
        assert node.told("listening")[0]["peers"] == 1


def test_the_parent_has_no_thread_no_loop_and_no_watch(home: Home) -> None:
    """A fork of it is whole and quiet at any time; so is it after it has forked again."""
    caller = Caller(home.pin("alice"))
    with serving(home) as node:
        node.in_worker(1, caller).close()
        os.kill(node.pid(1), signal.SIGKILL)
        node.pid(1, times=2)
        proc = Path(f"/proc/{node.process.pid}")
        assert len(list((proc / "task").iterdir())) == 1
        held = {str(file.readlink()) for file in (proc / "fd").iterdir()}
        assert not [link for link in held if "eventpoll" in link or "inotify" in link]
        assert len(list(Path(f"/proc/{node.pid(2)}/task").iterdir())) > 1


def test_one_worker_is_no_process_of_its_own(home: Home) -> None:
    caller = Caller(home.pin("alice"))
    with serving(home, workers=1) as node:
        with caller.open(node.port) as tls:
            ping(tls)
        assert "worker" not in node.hears("admitted")
        assert not Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text()


def test_killed_worker_costs_nobody_else_a_byte_and_the_door_is_served_all_the_time(home: Home) -> None:
    """The second kill makes a pause of half a second, in which another worker stands in for it."""
    caller = Caller(home.pin("alice"))
    over, served, same = threading.Event(), [0], []
    with serving(home, limits="max_connections = 100") as node:
        lost, kept = node.in_worker(1, caller), node.in_worker(2, caller)
        transferring = threading.Thread(target=lambda: same.append(carry(kept, over, at_least=4_000_000)))

        def knock() -> None:
            while not over.is_set():
                with suppress(ConnectionError, ssl.SSLEOFError), caller.open(node.port) as tls:
                    tls.sendall(b"ping\n")
                    served[0] += hear_line(tls) == "ping"

        knocking = threading.Thread(target=knock)
        transferring.start()
        knocking.start()
        try:
            os.kill(node.pid(1), signal.SIGKILL)
            assert how_it_ends(lost) == "cut"
            ended = node.hears("worker-ended", worker=1)
            assert "signal 9 (SIGKILL)" in ended["message"]
            assert ended["message"].endswith("at once")
            os.kill(node.pid(1, times=2), signal.SIGKILL)
            assert node.hears("worker-ended", worker=1, times=2)["message"].endswith("in 0.5 s")
            before = served[0]
            node.until(lambda: served[0] > before + 3 or len(node.told("worker-started", worker=1)) == 3)
            assert len(node.told("worker-started", worker=1)) == 2, "nobody stood in"
            node.pid(1, times=3)
            before = served[0]
            node.until(lambda: served[0] > before + 3)
        finally:
            over.set()
            knocking.join(DEADLINE_S)
            transferring.join(DEADLINE_S)
        assert same == [True]
        node.in_worker(1, caller).close()
        node.counts(lambda status: status["connections"] <= 2)
        lost.close()
        kept.close()


def doors_watched_by(pid: int, port: int) -> int:
    """At how many listening sockets of this port a process waits for somebody to come, from proc(5)."""
    fields = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {field[9] for field in fields if field[1].endswith(f":{port:04X}") and field[3] == "0A"}
    proc, watched = Path(f"/proc/{pid}"), 0
    for file in (proc / "fdinfo").iterdir():
        with suppress(FileNotFoundError):
            for descriptor in re.findall(r"^tfd:\s+(\d+)", file.read_text(), re.MULTILINE):
                link = str((proc / "fd" / descriptor).readlink())
                watched += link.startswith("socket:[") and link[8:-1] in listening
    return watched


def test_stand_in_steps_back_when_the_successor_is_there(home: Home) -> None:
    with serving(home) as node:
        port, both = node.port, [node.pid(1), node.pid(2)]
        node.until(lambda: [doors_watched_by(pid, port) for pid in both] == [1, 1])
        for times in (1, 2):
            os.kill(node.pid(1, times=times), signal.SIGKILL)
            node.hears("worker-ended", times=times)
        node.until(lambda: doors_watched_by(both[1], port) == 2)
        node.until(lambda: doors_watched_by(both[1], port) == 1)
        node.until(lambda: doors_watched_by(node.pid(1, times=3), port) == 1)


def test_pauses_between_starts_grow(home: Home) -> None:
    with serving(home) as node:
        node.hears("listening")  # before that, the death of a worker is the end
        for times, when in enumerate(("at once", "in 0.5 s", "in 1 s"), 1):
            pid = node.pid(2, times=times)
            os.kill(pid, signal.SIGKILL)
            ended = node.hears("worker-ended", worker=2, times=times)
            assert ended["message"].endswith(when)
            assert (ended["pid"], ended["code"]) == (pid, "worker-ended")
        assert node.pid(2, times=4)
        assert len(node.told("worker-started", worker=1)) == 1


def test_workers_end_when_their_parent_is_killed(home: Home) -> None:
    caller = Caller(home.pin("alice"))
    with serving(home) as node:
        open_ones = [node.in_worker(worker, caller) for worker in (1, 2)]
        pids, port = [node.pid(worker) for worker in (1, 2)], node.port
        started = time.monotonic()
        node.process.kill()
        assert [how_it_ends(tls) for tls in open_ones] == ["cut", "cut"]
        node.until(lambda: not any(map(is_alive, pids)))
        assert time.monotonic() - started < 1.0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        for tls in open_ones:
            tls.close()


def test_sigterm_drains_every_worker(home: Home) -> None:
    caller = Caller(home.pin("alice"))
    with serving(home, limits="drain = 60") as node:
        open_ones = [node.in_worker(worker, caller) for worker in (1, 2)]
        node.send(signal.SIGTERM)
        node.until(lambda: "stopping; 2 open connections have 60 s to end" in node.errors)
        node.until(lambda: not accepts(node.port))
        for tls in open_ones:
            ping(tls)
        pids = [node.pid(worker) for worker in (1, 2)]
        open_ones[0].close()
        node.until(lambda: not is_alive(pids[0]))
        ping(open_ones[1])
        open_ones[1].close()
        assert node.wait() == 0
        assert node.told("worker-ended") == []


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize(
    "signals", [(signal.SIGINT,), (signal.SIGTERM, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM)], ids=str
)
def test_sigint_or_a_second_signal_ends_at_once(home: Home, signals: tuple[signal.Signals, ...]) -> None:
    caller = Caller(home.pin("alice"))
    with serving(home, limits="drain = 3600") as node:
        open_ones = [node.in_worker(worker, caller) for worker in (1, 2)]
        for left, number in zip(reversed(range(len(signals))), signals, strict=True):
            node.send(number)
            if left:  # two at once would be one
                node.until(lambda: "stopping; " in node.errors)
        assert [how_it_ends(tls) for tls in open_ones] == ["cut", "cut"]
        assert node.wait() == 0
        for tls in open_ones:
            tls.close()


def test_drain_has_an_end(home: Home) -> None:
    caller = Caller(home.pin("alice"))
    with serving(home, limits="drain = 0.2") as node:
        tls = node.in_worker(2, caller)
        node.send(signal.SIGTERM)
        assert how_it_ends(tls) == "cut"
        assert node.wait() == 0
        tls.close()


def test_worker_that_does_not_end_is_killed(home: Home) -> None:
    patch = "import peerauth.server.supervisor as supervisor\nsupervisor._GRACE = 0.3"
    caller = Caller(home.pin("alice"))
    with serving(home, limits="drain = 0.1", program=with_patch(patch)) as node:
        tls = node.in_worker(1, caller)
        os.kill(node.pid(1), signal.SIGSTOP)
        node.send(signal.SIGTERM)
        assert node.wait() == 0
        assert not is_alive(node.pid(1))
        tls.close()


def test_hello_is_said_by_every_worker(home: Home) -> None:
    caller = Caller(home.pin("alice"))
    caller.context.set_alpn_protocols(["http/1.1"])
    with serving(home, relay=False) as node:
        ticket = None
        for worker in (1, 2):
            for _ in range(TRIES):
                with caller.open(node.port, session=ticket) as tls:
                    tls.sendall(b"GET /hello HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
                    heard = b"".join(iter(lambda tls=tls: tls.recv(65536), b""))  # type: ignore[misc]
                    assert heard.endswith(b"Hello, alice!\n")
                    assert tls.session_reused is (ticket is not None)
                    ticket = tls.session
                    if node.worker_of(tls) == worker:
                        break


def test_signals_to_a_worker_are_for_its_parent(home: Home) -> None:
    """Ctrl-C and a service manager signal all processes of a group at once; the parent alone says what is to be done."""
    caller = Caller(home.pin("alice"))
    with serving(home) as node:
        tls = node.in_worker(1, caller)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            os.kill(node.pid(1), number)
        ping(tls)
        tls.close()
        node.in_worker(1, caller).close()
        assert node.told("worker-ended") == []


def test_worker_that_cannot_start_is_an_error(home: Home) -> None:
    patch = """
import peerauth.server.job as job
def fails(*_, **__): raise RuntimeError("no such thing")
job.Server = fails
"""
    with serving(home, program=with_patch(patch)) as node:
        assert node.wait() == 1
        assert "error: worker 1 could not start: it ended with exit code 1" in re.sub(r"worker \d", "worker 1", node.errors)
        assert "RuntimeError: no such thing" in node.errors
        assert node.told("listening") == []


def test_unix_socket_is_shared_and_taken_away_at_the_end(home: Home, tmp_path: Path) -> None:
    caller, path = Caller(home.pin("alice")), tmp_path / "socket"

    def call() -> None:
        with socket.socket(socket.AF_UNIX) as plain:
            plain.connect(str(path))
            with caller.context.wrap_socket(plain, server_hostname="node") as tls:
                ping(tls)

    with serving(home, listen=f"unix:{path}") as node:
        assert node.hears("listening")["address"] == f"unix:{path}"
        call()
        for worker in (1, 2):
            os.kill(node.pid(worker), signal.SIGKILL)
        call()
        for worker in (1, 2):
            node.pid(worker, times=2)
        call()
        node.send(signal.SIGTERM)
        assert node.wait() == 0
        assert not path.exists()


def test_worker_that_ends_late_leaves_the_socket_of_the_next_server(home: Home, tmp_path: Path) -> None:
    caller, path = Caller(home.pin("alice")), tmp_path / "socket"
    with serving(home, listen=f"unix:{path}") as node:
        node.hears("listening")
        os.kill(node.pid(1), signal.SIGSTOP)
        node.send(signal.SIGTERM)
        node.until(lambda: not path.exists())
        with serving(home, listen=f"unix:{path}") as following:
            following.hears("listening")
            os.kill(node.pid(1), signal.SIGCONT)
            assert node.wait() == 0
            assert path.exists()
            with socket.socket(socket.AF_UNIX) as plain:
                plain.connect(str(path))
                with caller.context.wrap_socket(plain, server_hostname="node") as tls:
                    ping(tls)


def test_nobody_else_can_listen_where_workers_do(home: Home, tmp_path: Path) -> None:
    """Sockets that share an address share it with those of the same node only."""
    (tmp_path / "other").mkdir()
    other = Home(tmp_path / "other")
    with serving(home) as node:
        for workers in ("1", "2"):
            result = process("serve", "--home", other.home, "--listen", f"127.0.0.1:{node.port}", "--workers", workers)
            assert result.code == 1
            assert "another program listens there" in result.err


def test_one_free_port_is_for_both_families_and_all_workers(home: Home) -> None:
    caller = Caller(home.pin("alice"))
    with serving(home, listen=":0") as node:
        assert len({said["address"].rpartition(":")[2] for said in node.told("listening")}) <= 1
        node.port  # noqa: B018 - waits
        assert len({said["address"].rpartition(":")[2] for said in node.told("listening")}) == 1
        for worker in (1, 2):
            node.in_worker(worker, caller).close()


def test_workers_do_not_have_the_same_random_numbers(home: Home) -> None:
    """OpenSSL notices a fork; a ServerHello's random (RFC 8446 section 4.1.3) shows whether it did."""
    caller, seen = Caller(home.pin("alice")), []
    with serving(home, workers=4) as node:
        for _ in range(24):
            with Halting(caller, node.port) as halting:
                halting.sock.sendall(halting.hello())
                heard = b""
                while len(heard) < 43:
                    heard += halting.sock.recv(43 - len(heard))
                seen.append(heard[11:43])
    assert len(set(seen)) == len(seen)

"""What the parent of several workers says, and that saying it keeps nobody waiting."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from peerauth.audit import REFUSALS_AT_ONCE
from tests.cli.running import CHECKOUT, Terminal, environment
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, how_it_ends, identity
from tests.support.workers import Home, is_alive, ping, serving, with_patch

KNOCKS = 200
VISITS = 500
LITTLE_ROOM = """
import socket, peerauth.server.channel as channel, peerauth.server.worker as worker
channel._WAITING = 3000
begin = worker.work
def work(number, job, estate, sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    begin(number, job, estate, sock)
import peerauth.server.supervisor as supervisor
supervisor.work = work
"""  # that a few hundred events fill
F_SETPIPE_SZ = 1031  # fcntl(2); fcntl.F_SETPIPE_SZ on Linux alone


def knock(caller: Caller, port: int) -> None:
    with suppress(ssl.SSLError, ConnectionError), caller.open(port) as tls:
        tls.recv(1)


def test_flood_of_refusals_is_bounded_over_all_workers_together_and_counted(home: Home) -> None:
    alice, stranger = Caller(home.pin("alice")), Caller(identity("stranger"))
    with serving(home, workers=4) as node:
        with ThreadPoolExecutor(8) as crowd:
            list(crowd.map(lambda _: knock(stranger, node.port), range(KNOCKS)))
        node.in_worker(1, alice).close()

        def counted() -> int:
            left_out = [int(re.match(r"\d+", said["message"])[0]) for said in node.told("left-out")]  # type: ignore[index]
            return len(node.told("refused")) + sum(left_out)

        node.until(lambda: counted() == KNOCKS)
        assert REFUSALS_AT_ONCE <= len(node.told("refused")) < 3 * REFUSALS_AT_ONCE
        node.send(signal.SIGUSR1)
        assert node.hears("status")["refused"] == {"unknown": KNOCKS}


def visit_often(caller: Caller, port: int, times: int) -> None:
    def come(_: int) -> None:
        with caller.open(port) as tls:
            ping(tls)

    with ThreadPoolExecutor(8) as crowd:
        list(crowd.map(come, range(times)))


def test_workers_serve_while_nobody_reads_what_the_parent_says(home: Home) -> None:
    """The pipe is full, and so is what may wait: events are dropped, whole lines only; a signal is still heard."""
    alice = Caller(home.pin("alice"))
    with serving(home, read=False, program=with_patch(LITTLE_ROOM)) as node:
        assert node.process.stdout is not None
        descriptor = node.process.stdout.fileno()
        fcntl.fcntl(descriptor, F_SETPIPE_SZ, 4096)
        said = b""
        while b"listening" not in said:
            said += os.read(descriptor, 65536)
        (listening,) = [json.loads(line) for line in said.splitlines() if b"listening" in line]
        port = int(listening["address"].rpartition(":")[2])
        with alice.open(port) as kept:
            ping(kept)
            visit_often(alice, port, VISITS)
            ping(kept)
        node.send(signal.SIGTERM)
        assert node.process.wait(DEADLINE_S) == 0
        while piece := os.read(descriptor, 65536):
            said += piece
        assert all(json.loads(line) for line in said.splitlines())
        assert said.count(b'"admitted"') < VISITS


def test_what_was_dropped_is_counted(home: Home) -> None:
    """The parent stands still, and then it reads again."""
    alice = Caller(home.pin("alice"))
    with serving(home, read=False, program=with_patch(LITTLE_ROOM)) as node:
        assert node.process.stdout is not None
        *_, listening = (json.loads(node.process.stdout.readline()) for _ in range(3))
        port = int(listening["address"].rpartition(":")[2])
        node.send(signal.SIGSTOP)
        visit_often(alice, port, VISITS)
        node.send(signal.SIGCONT)
        node.begin()

        def counted() -> int:
            left_out = [int(re.match(r"\d+", said["message"])[0]) for said in node.told("left-out")]  # type: ignore[index]
            return len(node.told("admitted")) + sum(left_out)

        node.until(lambda: counted() == VISITS)
        assert node.told("left-out")


def test_log_of_a_worker_is_written_by_the_parent(home: Home) -> None:
    patch = """
import logging, peerauth.server.worker as worker
begin = worker.Server.add_service
async def logs(self, *given):
    logging.getLogger("library").error("something %s", "odd")
    logging.getLogger("library").info("of no interest")
    return await begin(self, *given)
worker.Server.add_service = logs
"""
    with serving(home, program=with_patch(patch)) as node:
        node.hears("listening")
        node.until(lambda: node.errors.count("something odd") == 2)
        assert "no interest" not in node.errors


@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_looks_at_the_peers_again_and_ends_nothing(home: Home, workers: int) -> None:
    """Where nothing tells of changes and the next look is far away."""
    patch = """
import watchfiles._rust_notify as notify
class Deaf:
    def __init__(self, *_): pass
    def watch(self, debounce, step, timeout, stop):
        stop.wait(timeout / 1000)
        return "timeout"
    def close(self): pass
notify.RustNotify = Deaf
import peerauth.store.watch as watch
watch.watch.__kwdefaults__["poll"] = 3600.0
"""
    alice, bob = Caller(home.pin("alice")), Caller(home.pin("bob"))
    with serving(home, workers=workers, program=with_patch(patch)) as node:
        port = node.port
        with alice.open(port) as gone, bob.open(port) as kept:
            ping(gone)
            ping(kept)
            home.unpin("alice")
            node.send(signal.SIGHUP)
            node.hears("peer-removed", peer="alice")
            assert how_it_ends(gone) == "cut"
            ping(kept)
            status = node.counts(lambda status: status["connections"] == 1)
            assert (status["connections"], status["admitted"], status["ended"]) == (1, 2, 1)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_server_ends_with_the_terminal_that_it_was_started_on(home: Home, workers: str) -> None:
    """SIGHUP then means what it always did."""
    terminal = Terminal("serve", "--home", home.home, "--listen", "127.0.0.1:0", "--workers", workers, "-v")
    terminal.wait_for("says hello on")
    pid = terminal.process.pid
    os.close(terminal._own)
    assert terminal.process.wait(DEADLINE_S) == 0
    assert not is_alive(pid)


def test_passphrase_is_asked_for_once(home: Home) -> None:
    (home.home / "node.key").write_bytes(identity("node").key_pem(b"correct horse"))
    terminal = Terminal("serve", "--home", home.home, "--listen", "127.0.0.1:0", "--workers", "2", "-v")
    terminal.wait_for("Passphrase of .*: ")
    terminal.type("correct horse")
    terminal.wait_for("worker 1 is process ([0-9]+)|worker 2 is process ([0-9]+)")
    terminal.wait_for("says hello on")
    assert "Passphrase" not in terminal.seen
    terminal.type("\x03")
    assert terminal.end()[0] == 0


def test_people_hear_of_workers_when_one_is_gone_and_not_before(home: Home) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "peerauth", "serve", "--home", home.home, "--listen", "127.0.0.1:0", "--workers", "2"],
        cwd=CHECKOUT,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as serving_:
        assert serving_.stderr is not None
        assert "says hello on 127.0.0.1:" in serving_.stderr.readline()
        children = Path(f"/proc/{serving_.pid}/task/{serving_.pid}/children").read_text().split()
        os.kill(int(children[1]), signal.SIGKILL)
        assert re.search(
            r"Z worker-ended: worker 2 ended by signal 9 \(SIGKILL\); it is started again at once",
            serving_.stderr.readline(),
        )
        assert re.search(r"Z worker-started: worker 2 is process \d+", serving_.stderr.readline())
        serving_.send_signal(signal.SIGUSR1)
        assert "status: open connections: 0; since the start: admitted: 0" in serving_.stderr.readline()
        serving_.send_signal(signal.SIGTERM)
        assert serving_.wait(DEADLINE_S) == 0
        assert serving_.stderr.read() == ""


def test_worker_that_ends_first_has_no_stand_in_among_those_who_are_to_end(home: Home) -> None:
    """The doors are closed by then: who is told to stand at them would only complain."""
    alice = Caller(home.pin("alice"))
    with serving(home, limits="drain = 1") as node:
        kept = node.in_worker(2, alice)
        node.counts(lambda status: status["connections"] == 1)
        node.send(signal.SIGTERM)
        assert node.wait() == 0
        assert node.told("problem") == []
        assert node.errors == "stopping; 1 open connection has 1 s to end\n"
        kept.close()

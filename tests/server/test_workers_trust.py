"""What a node promises holds over all of its workers together: tickets, limits, the list as it is now."""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from peerauth.server.job import Job
from peerauth.server.supervisor import Supervisor
from peerauth.store.config import parse_config
from peerauth.store.peerdir import PeerDirectory
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, Yard, hear_line, how_it_ends, identity
from tests.support.workers import TRIES, Home, Serving, ping, serving


def ticket_of(node: Serving, worker: int, caller: Caller) -> ssl.SSLSession:
    with node.in_worker(worker, caller) as tls:
        assert tls.session is not None
        return tls.session


def resumed_in(node: Serving, caller: Caller, ticket: ssl.SSLSession) -> dict[int, bool]:
    """Whether this ticket was good, worker by worker."""
    found = {}
    for worker in (1, 2):
        with node.in_worker(worker, caller, ticket) as tls:
            found[worker] = bool(tls.session_reused)
    return found


@pytest.mark.parametrize("tls12", [False, True])
def test_ticket_of_one_worker_is_good_in_all_before_and_after_a_removal(home: Home, tls12: bool) -> None:
    alice, bob = Caller(home.pin("alice"), tls12=tls12), Caller(home.pin("bob"), tls12=tls12)
    with serving(home, settings='min_tls = "1.2"' if tls12 else "") as node:
        tickets = {worker: ticket_of(node, worker, alice) for worker in (1, 2)}
        bobs = ticket_of(node, 1, bob)
        for ticket in tickets.values():
            assert resumed_in(node, alice, ticket) == {1: True, 2: True}

        home.unpin("bob")
        newcomer = Caller(home.pin("carol"))
        for worker in (1, 2):  # who knows carol has heard of bob
            until_admitted(node, worker, newcomer)
        for _ in range(TRIES):
            assert visit(bob, node.port, bobs)[::2] == ("TLSV1_ALERT_UNKNOWN_CA", False)
        node.counts(lambda status: status["refused"].get("unknown", 0) >= TRIES)
        assert {said["worker"] for said in node.told("refused", code="unknown")} == {1, 2}

        assert resumed_in(node, alice, tickets[1]) == {1: False, 2: False}
        for worker in (1, 2):
            assert resumed_in(node, alice, ticket_of(node, worker, alice)) == {1: True, 2: True}


def until_admitted(node: Serving, worker: int, caller: Caller) -> None:
    """Knock until this worker admits."""
    for _ in range(20 * TRIES):
        with contextlib.suppress(ssl.SSLError, ConnectionError), caller.open(node.port) as tls:
            tls.sendall(b"ping\n")
            if hear_line(tls) == "ping" and node.worker_of(tls) == worker:
                return
    raise AssertionError(f"worker {worker} never admitted")


def visit(caller: Caller, port: int, ticket: ssl.SSLSession | None = None) -> tuple[str, ssl.SSLSession | None, bool]:
    """(what was echoed or the reason, ticket, whether a ticket was used)."""
    resumed = False
    try:
        with caller.open(port, session=ticket) as tls:
            resumed = bool(tls.session_reused)
            tls.sendall(b"ping\n")
            return hear_line(tls), tls.session, resumed
    except (ssl.SSLEOFError, ConnectionError):
        return "cut", None, resumed
    except ssl.SSLError as error:
        return error.reason or str(error), None, resumed


def test_ticket_is_good_in_a_successor(home: Home) -> None:
    alice = Caller(home.pin("alice"))
    with serving(home) as node:
        ticket = ticket_of(node, 2, alice)
        os.kill(node.pid(1), signal.SIGKILL)
        node.pid(1, times=2)
        assert resumed_in(node, alice, ticket) == {1: True, 2: True}


@pytest.mark.parametrize(
    ("limits", "settings"), [("max_connections = 5", ""), ("drain = 5", "max_connections = 5")], ids=["node", "peer"]
)
def test_limit_holds_over_all_workers_in_a_race(home: Home, limits: str, settings: str) -> None:
    """Thirty at once: five get in, whatever workers they meet; where one leaves, there is room for one."""
    alice, bob = Caller(home.pin("alice", settings=settings)), Caller(home.pin("bob"))
    with serving(home, limits=limits) as node, ThreadPoolExecutor(30) as crowd:
        together = threading.Barrier(30)

        def come() -> ssl.SSLSocket | None:
            together.wait(DEADLINE_S)
            tls = alice.open(node.port)
            try:
                ping(tls)
            except (OSError, AssertionError):
                tls.close()
                return None
            return tls

        for _ in range(3):
            came = [tls for tls in crowd.map(lambda _: come(), range(30)) if tls is not None]
            assert len(came) == 5
            assert len({node.worker_of(tls) for tls in came}) <= 2
            assert (visit(bob, node.port)[0] == "ping") is bool(settings)
            came.pop().close()
            before = len(node.told("admitted", peer="alice"))
            node.until(lambda: visit(alice, node.port)[0] == "ping")
            node.until(lambda before=before: len(node.told("admitted", peer="alice")) > before)  # type: ignore[misc]
            for tls in came:
                tls.close()
            node.until(lambda: connections(node) == 0)


def connections(node: Serving) -> int:
    """How many there are, as it says when asked."""
    times = len(node.told("status")) + 1
    node.send(signal.SIGUSR1)
    return int(node.hears("status", times=times)["connections"])


def test_room_of_a_killed_worker_is_free_again(home: Home) -> None:
    alice = Caller(home.pin("alice", settings="max_connections = 2"))
    with serving(home, limits="max_connections = 3") as node:
        for _ in range(3):
            held = [alice.open(node.port) for _ in range(2)]
            for tls in held:
                ping(tls)
            assert visit(alice, node.port)[0] != "ping"
            for worker in {node.worker_of(tls) for tls in held}:
                times = len(node.told("worker-started", worker=worker))
                os.kill(node.pid(worker, times=times), signal.SIGKILL)
                node.pid(worker, times=times + 1)
            assert [how_it_ends(tls) for tls in held] == ["cut", "cut"]
            assert connections(node) == 0
            for tls in held:
                tls.close()


def test_successor_begins_with_the_list_as_it_is_and_without_old_tickets(tmp_path: Path) -> None:
    """Looked at where it is done: a successor would notice a moment later by itself."""
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    peers = PeerDirectory(yard.path)
    peers.refresh()
    config = parse_config(b"[node]\nname = 'node'", tmp_path)
    job = Job(identity("node"), peers, (), config, lambda _: None)
    supervisor = Supervisor(job, 2, None)  # type: ignore[arg-type]  # it says nothing here
    supervisor._announced = True
    began: list[tuple[set[str], int]] = []
    supervisor._fork = lambda _: began.append((set(peers.current.peers), supervisor._tally.epoch))  # type: ignore[assignment, method-assign]
    supervisor._start(supervisor._workers[0])
    yard.pin("bob")
    supervisor._start(supervisor._workers[0])
    yard.unpin("alice")
    supervisor._start(supervisor._workers[0])
    assert began == [({"alice"}, 0), ({"alice", "bob"}, 0), ({"bob"}, 1)]

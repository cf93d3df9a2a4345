"""Promise 2 with several workers: removal acts in all of them, and nobody else loses a byte.

250 ms is what a quiet machine keeps; a busy one is given a second.
"""

from __future__ import annotations

import ssl
import threading
import time
from pathlib import Path

import pytest

from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, Halting, carry, hear_line, how_it_ends, identity
from tests.support.workers import Home, Serving, ping, serving, with_patch

PROMPT_S = 1.0
SIZE = 6_000_000
WITHOUT_INOTIFY = """
import watchfiles._rust_notify as notify
def broken(*_, **__): raise OSError(24, "no more watches")
notify.RustNotify = broken
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A node's home; nobody is pinned."""
    return Home(tmp_path)


def ends_of(connections: dict[int, ssl.SSLSocket], act: object) -> float:
    """Do it, and say how long it took until the last of these was cut."""
    moments: list[float] = []

    def wait(tls: ssl.SSLSocket) -> None:
        assert how_it_ends(tls) == "cut"
        moments.append(time.monotonic())

    threads = [threading.Thread(target=wait, args=(tls,)) for tls in connections.values()]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    assert callable(act)
    act()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert len(moments) == len(connections)
    return max(moments) - started


def in_both(node: Serving, caller: Caller) -> dict[int, ssl.SSLSocket]:
    return {worker: node.in_worker(worker, caller) for worker in (1, 2)}


@pytest.mark.parametrize("patch", ["", WITHOUT_INOTIFY], ids=["inotify", "no inotify"])
def test_removal_ends_connections_in_every_worker_and_others_keep_every_byte(home: Home, patch: str) -> None:
    alice, bob = Caller(home.pin("alice")), Caller(home.pin("bob"))
    begun, over = [threading.Event(), threading.Event()], threading.Event()
    same: list[bool] = []
    with serving(home, program=with_patch(patch)) as node:
        removed, kept = in_both(node, alice), in_both(node, bob)

        def go_on(tls: ssl.SSLSocket, started: threading.Event) -> None:
            same.append(carry(tls, over, started, SIZE))

        threads = [threading.Thread(target=go_on, args=given) for given in zip(kept.values(), begun, strict=True)]
        for thread, started in zip(threads, begun, strict=True):
            thread.start()
            assert started.wait(DEADLINE_S)
        try:
            took = ends_of(removed, lambda: home.unpin("alice"))
        finally:
            over.set()
            for thread in threads:
                thread.join(DEADLINE_S)
        assert took < PROMPT_S
        assert same == [True, True]
        node.until(lambda: {said["worker"] for said in node.told("ended", peer="alice", code="unknown")} == {1, 2})
        for tls in (*removed.values(), *kept.values()):
            tls.close()


def test_half_open_handshakes_of_a_removed_peer_end_in_every_worker(home: Home) -> None:
    """They have shown their certificate and not finished: the last record is held back until the peer is removed."""
    alice, bob = Caller(home.pin("alice")), Caller(home.pin("bob"))
    with serving(home) as node:
        port = node.port
        for tls in in_both(node, bob).values():  # a worker that is late has its first guests taken in by the other
            tls.close()
        halting = [Halting(alice, port) for _ in range(12)]  # in both workers, but for once in 2000
        flights = [one.answer() for one in halting]
        for one, flight in zip(halting, flights, strict=True):
            one.sock.sendall(b"".join(flight[:-1]))
        home.unpin("alice")
        node.until(lambda: len(node.told("refused", code="unknown")) == len(halting))
        for one, flight in zip(halting, flights, strict=True):
            try:
                one.sock.sendall(flight[-1])
                heard = one.read()
            except (ssl.SSLError, ConnectionError):
                heard = b""
            assert heard == b""
            one.close()
        assert node.told("admitted", peer="alice") == []
        assert {said["worker"] for said in node.told("refused")} == {1, 2}


def test_removed_and_added_again_is_told_once_and_admitted_by_all(home: Home) -> None:
    """Every worker follows the list; people hear of a change once."""
    bob = Caller(home.pin("bob"))
    home.pin("alice")
    with serving(home) as node:
        port = node.port
        home.unpin("alice")
        node.hears("peer-removed", peer="alice")
        home.place("broken.crt", "this is no certificate")
        node.hears("problem")
        for name in ("carol", "alice"):
            caller = Caller(home.pin(name))
            node.hears("peer-added", peer=name)
            for worker in (1, 2):  # who admits it has reported it before
                for _ in range(200):
                    try:
                        with caller.open(port) as tls:
                            tls.sendall(b"ping\n")
                            admitted = hear_line(tls) == "ping" and node.worker_of(tls) == worker
                    except (ssl.SSLError, ConnectionError):
                        admitted = False
                    if admitted:
                        break
        with node.in_worker(1, bob) as one, node.in_worker(2, bob) as two:
            ping(one)
            ping(two)
        assert len(node.told("peer-removed")) == 1
        assert [said["peer"] for said in node.told("peer-added")] == ["carol", "alice"]
        assert len(node.told("problem")) == 1
        assert "worker" not in node.told("peer-removed")[0]


def test_changed_peer_is_decided_about_again_in_every_worker(home: Home) -> None:
    alice = Caller(home.pin("alice"))
    with serving(home) as node:
        live = in_both(node, alice)
        took = ends_of(live, lambda: home.place("alice.crt", identity("other").certificate.pem))
        assert took < PROMPT_S
        node.hears("peer-changed", peer="alice")
        other = Caller(identity("other"))
        for worker in (1, 2):
            node.in_worker(worker, other).close()
        for tls in live.values():
            tls.close()

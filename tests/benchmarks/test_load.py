"""The load generator is compiled and used on a real `peerauth serve`; how fast anything is decides nothing here."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.bench import Bench
from benchmarks.bench import Set as Up
from benchmarks.contenders.ourselves import PEERAUTH
from benchmarks.identities import identity
from benchmarks.load import build
from benchmarks.measurements.caller import Caller
from benchmarks.running import Failed, listens
from tests.support import needs

LONG_S = 40.0  # what a run may take at most; each ends when it has done what was asked for


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    needs("cc")
    needs("taskset")
    directory = tmp_path_factory.mktemp("bench")
    identity(directory, "client-rsa4096", "p256")  # the other client of the benchmark, whose real key takes long to make
    program = PEERAUTH.find()
    assert program is not None
    return Bench(directory, directory, build(directory), 0.5, 1000, {"peerauth": program})


@pytest.fixture(scope="module")
def up(bench: Bench) -> Iterator[Up]:
    """peerauth, with a P-256 identity so that a slow machine is fast enough."""
    with bench.up(PEERAUTH, server="p256", core=None) as there:
        yield there


def test_full_handshakes_are_counted(up: Up) -> None:
    found = up.load.run("full", LONG_S, "--number", "2", "--count", "6")
    assert 6 <= float(found["count"]) <= 8
    assert float(found["failures"]) == 0
    assert float(found["accepted"]) >= float(found["count"])
    assert float(found["resumed"]) == 0
    assert (found["tls"], found["cipher"], found["group"]) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519")
    assert 0 < float(found["p50_us"]) <= float(found["p99_us"]) <= float(found["max_us"])
    assert 0 < float(found["cpu_share"]) < 1.1


def test_resumed_connections_are_resumed(up: Up) -> None:
    found = up.load.run("resumed", LONG_S, "--number", "2", "--count", "6")
    assert 6 <= float(found["count"]) <= 8
    assert float(found["not_resumed"]) == 0
    assert float(found["resumed"]) >= float(found["count"])


@pytest.mark.parametrize("mode", ["down", "up"])
def test_bulk_arrives_whole_and_unchanged(up: Up, mode: str) -> None:
    found = up.load.run(mode, LONG_S, "--verify", "--number", "3", "--bytes", "6000000")
    assert (float(found["count"]), float(found["wrong"]), found["verified"]) == (6_000_000, 0, True)


@contextlib.contextmanager
def spoiling_backend(port: int) -> Iterator[None]:
    """A backend that echoes the first message of a connection, and to anything later answers with zeros."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(connection.recv(65536))
            while data := connection.recv(65536):
                connection.sendall(bytes(100 if len(data) == 100 else 200_000))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("mode", "options", "reason"),
    [
        ("ping", ["--verify", "--count", "5"], "an answer differs from what was sent"),
        ("down", ["--verify", "--bytes", "200000"], "received bytes differ from those sent"),
    ],
)
def test_bytes_that_were_changed_on_the_way_are_noticed(up: Up, mode: str, options: list[str], reason: str) -> None:
    outside = replace(up.load, backend=0)
    with spoiling_backend(up.place.target), pytest.raises(Failed, match=reason):
        outside.run(mode, LONG_S, *options)


@pytest.mark.parametrize("options", [["--verify"], [], ["--every", "5000"]], ids=["verified", "raw", "paced"])
def test_round_trips_bring_back_what_was_sent(up: Up, options: list[str]) -> None:
    found = up.load.run("ping", LONG_S, "--number", "4", "--count", "40", *options)
    assert 40 <= float(found["count"]) <= 44
    assert (float(found["wrong"]), float(found["lost"]), float(found["failures"])) == (0, 0, 0)


@pytest.mark.parametrize("mode", ["down", "up"])
def test_bulk_without_tls_in_the_way_moves_bytes(up: Up, mode: str) -> None:
    found = up.load.run(mode, LONG_S, "--number", "2", "--bytes", "30000000")
    assert 0 < float(found["count"]) <= 30_000_000 * 1.1
    assert float(found["failures"]) == 0


def test_idle_connections_are_held_until_they_are_let_go(up: Up) -> None:
    with up.load.holding("idle", "--number", "12") as held:
        assert float(held.ready["count"]) == 12
        assert float(held.ready["accepted"]) == 12
        assert held.lost() == 0


def test_who_is_not_pinned_measures_nothing_and_hears_why(bench: Bench, up: Up) -> None:
    stranger = replace(up.load, client=bench.identity("stranger", "p256"))
    with pytest.raises(Failed, match="unknown ca"):
        stranger.run("ping", 0.3)


def test_a_caller_knows_whether_it_is_let_in(bench: Bench, up: Up) -> None:
    with up.load.holding("backend"):
        assert Caller(up.place.listen, bench.identity("client", "p256"), http=False).enters()
        assert not Caller(up.place.listen, bench.identity("stranger", "p256"), http=False).enters()


def test_requests_over_http_are_answered_by_the_backend(up: Up) -> None:
    """Through a relay, HTTP is bytes like others."""
    web = replace(up.load, http=True)
    for mode in ("full", "ping"):
        assert float(web.run(mode, LONG_S, "--number", "2", "--count", "6")["count"]) >= 6
    assert float(web.run("ping", LONG_S, "--verify", "--count", "6")["wrong"]) == 0


def test_a_contender_that_has_ended_leaves_nothing_behind(bench: Bench) -> None:
    with bench.up(PEERAUTH, server="p256", core=None) as there:
        assert there.running.private_memory() > 1000
        assert there.running.cpu_seconds() > 0
        processes = there.running.processes()
        assert listens(there.place.listen)
    assert not listens(there.place.listen)
    assert not any(Path(f"/proc/{process}").exists() for process in processes)
    assert not there.place.directory.exists()


def test_a_contender_that_cannot_start_says_why(bench: Bench) -> None:
    broken = Bench(bench.directory, bench.cache, bench.generator, 1, 1000, {"peerauth": needs("false")}, _count=iter([99]))
    with pytest.raises(Failed, match="it ended"), broken.up(PEERAUTH, core=None):
        pass

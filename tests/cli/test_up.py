"""`peerauth up`: every service and every tunnel of config.toml, as real processes, in one and in several workers."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.running import peerauth
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller
from tests.support.targets import echo, everything, target, unused_port
from tests.support.workers import Home, Serving, ping, started

several = pytest.mark.parametrize("workers", [1, 2])
DATA = bytes(range(256)) * 8_000


@pytest.fixture
def nodes(tmp_path: Path) -> tuple[Home, Home]:
    """alice, who has tunnels, and db-1, which serves; each has pinned the other."""
    alice, db = Home(tmp_path, "alice"), Home(tmp_path, "db-1")
    alice.pin("db-1")
    db.pin("alice")
    return alice, db


@contextmanager
def far(db: Home, port: int, where: object, workers: int = 1) -> Iterator[Serving]:
    """db-1, which relays to `where`."""
    db.configure(f'[[serve]]\nlisten = "127.0.0.1:{port}"\ntarget = "{where}"\n[limits]\nworkers = {workers}\ndrain = 0\n')
    with started(db, "up") as node:
        node.hears("listening")
        yield node


def tunnel(port: int, far: int, extra: str = "") -> str:
    return f'[[tunnel]]\nname = "db"\nlisten = "127.0.0.1:{port}"\npeer = "db-1"\naddress = "127.0.0.1:{far}"\n{extra}\n'


def call(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), DEADLINE_S)


def sent_through(sock: socket.socket, data: bytes) -> bytes:
    """What comes back of `data`, until the end."""

    def send() -> None:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        return everything(sock)
    finally:
        sender.join(DEADLINE_S)


@several
def test_far_side_that_is_killed_and_started_again_costs_a_waiting_client_nothing(
    nodes: tuple[Home, Home], workers: int
) -> None:
    alice, db = nodes
    here, there = unused_port(), unused_port()
    alice.configure(f"{tunnel(here, there, 'wait = 30')}[limits]\nworkers = {workers}\n")
    with target(echo) as where, started(alice, "up") as up:
        said = up.hears("listening")
        assert (said["tunnel"], said["peer"], said["address"]) == ("db", "db-1", f"127.0.0.1:{here}")
        with far(db, there, where) as node, call(here) as under_way:
            under_way.sendall(b"x")
            assert under_way.recv(1) == b"x"
            node.process.kill()
            node.process.wait()
            with pytest.raises(ConnectionResetError):
                under_way.recv(1)
        waiting = [call(here) for _ in range(4)]
        up.hears("tunnel-down", peer="db-1", code="connection-refused")
        with far(db, there, where):
            for sock in waiting:
                with sock:
                    assert hashlib.sha256(sent_through(sock, DATA)).digest() == hashlib.sha256(DATA).digest()
        up.hears("tunnel-up", peer="db-1")
        up.send(signal.SIGTERM)
        assert up.wait() == 0


@several
def test_everything_runs_in_one_process_group_and_is_seen(nodes: tuple[Home, Home], workers: int) -> None:
    alice, db = nodes
    bob = alice.pin("bob")
    here, there, own = unused_port(), unused_port(), unused_port()
    with target(echo) as where, far(db, there, where):
        serve = f'[[serve]]\nname = "own"\nlisten = "127.0.0.1:{own}"\ntarget = "{where}"\n'
        alice.configure(f"{serve}{tunnel(here, there)}[limits]\nworkers = {workers}\n")
        with started(alice, "up") as up:
            up.hears("listening", service="own")
            up.hears("listening", tunnel="db")
            with call(here) as sock:
                assert sent_through(sock, DATA) == DATA
            with Caller(bob).open(own) as tls:
                ping(tls)
            (server,) = peerauth("status", "--json", "--home", alice.home).json["servers"]
            assert server["services"] == [{"name": "own", "address": f"127.0.0.1:{own}"}]
            assert server["tunnels"] == [{"name": "db", "address": f"127.0.0.1:{here}", "peer": "db-1"}]
            assert server["workers"] == workers
            shown = peerauth("status", "--home", alice.home).out
            assert f"db on 127.0.0.1:{here} leads to db-1 at 127.0.0.1:{there}" in shown
            assert f"own on 127.0.0.1:{own}, db on 127.0.0.1:{here} (process" in shown


@several
def test_tunnel_that_did_not_change_keeps_its_connections_when_others_do(nodes: tuple[Home, Home], workers: int) -> None:
    alice, db = nodes
    here, other, there = unused_port(), unused_port(), unused_port()
    limits = f"[limits]\nworkers = {workers}\ndrain = 1.5\n"
    second = tunnel(other, there).replace('"db"', '"second"')
    with target(echo) as where, far(db, there, where):
        alice.configure(f"{tunnel(here, there)}{second}{limits}")
        with started(alice, "up") as up:
            up.hears("listening", tunnel="second")
            with call(here) as kept, call(other) as leaving:
                for sock in (kept, leaving):
                    sock.sendall(b"x")
                    assert sock.recv(1) == b"x"
                alice.configure(f"{tunnel(here, there)}{limits}")
                up.send(signal.SIGHUP)
                assert up.hears("reloaded")["message"].endswith("1 gone, 1 as before")
                leaving.sendall(b"y")
                assert leaving.recv(1) == b"y", "it has time to end"
                with pytest.raises(ConnectionResetError):
                    leaving.recv(1)
                assert sent_through(kept, DATA) == DATA
            up.until(lambda: is_shut(other))
            alice.configure(f"{tunnel(here, there, 'wait = 1')}{limits}")
            up.send(signal.SIGHUP)
            assert up.hears("reloaded", times=2)["message"].endswith("1 changed")
            with call(here) as sock:
                assert sent_through(sock, DATA) == DATA


def is_shut(port: int) -> bool:
    try:
        call(port).close()
    except ConnectionRefusedError:
        return True
    return False


def test_peer_that_is_taken_away_takes_its_tunnels_with_it(nodes: tuple[Home, Home]) -> None:
    alice, db = nodes
    here, there = unused_port(), unused_port()
    alice.configure(tunnel(here, there))
    with target(echo) as where, far(db, there, where), started(alice, "up") as up:
        up.hears("listening")
        with call(here) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            alice.unpin("db-1")
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        with pytest.raises(ConnectionResetError), call(here) as again:  # perhaps before `call` has returned
            again.recv(1)
        up.hears("tunnel-down", code="no-such-peer")
        alice.pin("db-1")
        up.hears("peer-added", peer="db-1")
        with call(here) as back:
            assert sent_through(back, DATA) == DATA


@several
def test_socket_of_a_tunnel_is_for_whom_it_is_said_to_be(nodes: tuple[Home, Home], workers: int) -> None:
    alice, _ = nodes
    path = alice.home / "db.sock"
    block = '[[tunnel]]\nlisten = "unix:{}"\nmode = "0620"\npeer = "db-1"\naddress = "127.0.0.1:1"\n'
    alice.configure(f"{block.format(path)}[limits]\nworkers = {workers}\n")
    with started(alice, "up") as up:
        up.hears("listening", tunnel="db-1")
        assert stat.S_IMODE(path.stat().st_mode) == 0o620


def test_node_that_only_has_tunnels_opens_no_door(nodes: tuple[Home, Home]) -> None:
    alice, _ = nodes
    here = unused_port()
    alice.configure(tunnel(here, unused_port(), "wait = 0"))
    with started(alice, "up") as up:
        up.hears("listening")
        sockets = {link for link in fds(up.process.pid) if link.startswith("socket:")}
        listening = {
            line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"
        }
        own = {link.removeprefix("socket:[").removesuffix("]") for link in sockets} & listening
        assert len(own) == 1
        with pytest.raises(ConnectionResetError), call(here) as sock:
            sock.recv(1)
        assert peerauth("status", "--json", "--home", alice.home).json["servers"][0]["services"] == []


def fds(pid: int) -> list[str]:
    return [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]


def test_worker_that_dies_leaves_the_door_of_a_tunnel_to_others(nodes: tuple[Home, Home]) -> None:
    alice, db = nodes
    here, there = unused_port(), unused_port()
    alice.configure(f"{tunnel(here, there)}[limits]\nworkers = 2\n")
    with target(echo) as where, far(db, there, where), started(alice, "up") as up:
        up.hears("listening")
        for worker in (1, 2):
            os.kill(up.pid(worker), signal.SIGKILL)
            for _ in range(5):
                with call(here) as sock:
                    assert sent_through(sock, b"still here") == b"still here"
            up.pid(worker, times=2)


def test_tunnel_for_others_and_names_that_nobody_has_are_warned_about(nodes: tuple[Home, Home]) -> None:
    alice, _ = nodes
    here = unused_port()
    text = f'[[tunnel]]\nlisten = "0.0.0.0:{here}"\npeer = "carol"\n[[serve]]\nlisten = "127.0.0.1:0"\nallow = ["dave"]\n'
    alice.configure(text)
    with started(alice, "up") as up:
        up.hears("listening", tunnel="carol")
        assert f"warning: whoever can reach 0.0.0.0:{here} reaches carol as this node" in up.errors
        assert "warning: the tunnel 'carol' leads to carol, who is not pinned" in up.errors
        assert "warning: the service 'default' is for dave, who is not pinned" in up.errors

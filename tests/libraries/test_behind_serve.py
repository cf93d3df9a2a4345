"""What cannot have exact pins by itself has them behind `peerauth serve`, or through `peerauth connect --listen`."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import grpc
import psycopg
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from peerauth import Node
from peerauth.trust.identity import Identity
from tests.docs.conftest import made_nodes
from tests.seeds.actors import Program
from tests.support.databases import free_port, postgresql
from tests.support.dropin import DEADLINE_S, mint

__all__ = ["made_nodes"]

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    body = b" ".join([b"hello", *(value for name, value in scope["headers"] if name == b"x-peer-name")])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""
Launch = Callable[..., Program]


@pytest.fixture
def homes(made_nodes: Path, tmp_path: Path) -> Path:
    """db-1, alice and mallory, and the application beside them."""
    place = tmp_path / "nodes"
    shutil.copytree(made_nodes, place)
    (place / "hello.py").write_text(APPLICATION)
    return place


@pytest.fixture
def launch() -> Iterator[Launch]:
    with ExitStack() as running:

        def start(*words: str | Path, cwd: Path) -> Program:
            program = Program("/bin/sh", "-c", 'exec "$0" "$@" 2>&1', sys.executable, "-m", *words, cwd=cwd)
            running.callback(program.stop)
            return program

        yield start


def granian(launch: Launch, homes: Path, where: socket.socket, *options: str | Path) -> None:
    """Run it, until it can be reached by this socket."""
    program = launch("granian", "--interface", "asgi", "--no-ws", *options, "hello:app", cwd=homes)
    program.line("Listening at")
    address = options[1] if where.family == socket.AF_UNIX else ("127.0.0.1", int(str(options[3])))
    give_up = time.monotonic() + DEADLINE_S
    with where:
        while where.connect_ex(address if isinstance(address, tuple) else str(address)):
            assert time.monotonic() < give_up
            time.sleep(0.02)  # it says so before it is so


def port_of(program: Program) -> int:
    event = json.loads(program.line(r'^\{.*"listening".*\}$')[0])
    return int(event["address"].rpartition(":")[2])


def get(context: ssl.SSLContext, port: int) -> str:
    """What is answered, or the kind of trouble."""
    with closing(http.client.HTTPSConnection("localhost", port, context=context, timeout=DEADLINE_S)) as connection:
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__


def presenting(home: Path, identity: Identity, at: Path) -> Path:
    """Alice's home with another identity."""
    return presenting_as(shutil.copytree(home, at), "alice", identity)


def presenting_as(home: Path, name: str, identity: Identity) -> Path:
    """This home, with another identity from now on."""
    (home / f"{name}.crt").write_text(identity.certificate.pem)
    (home / f"{name}.key").write_bytes(identity.key_pem())
    return home


def test_granian_by_itself_admits_what_a_pinned_certificate_has_signed(launch: Launch, homes: Path, tmp_path: Path) -> None:
    """Why docs/servers.md recommends none of its options: rustls takes even keygen's certificate for an issuer."""
    port = free_port()
    db = Node.load(homes / "db-1").config
    tls = ("--ssl-certificate", db.certificate, "--ssl-keyfile", db.key, "--ssl-ca", homes / "alice/alice.crt")
    granian(launch, homes, socket.socket(), "--host", "127.0.0.1", "--port", str(port), *tls, "--ssl-client-verify")
    leaf = [ExtendedKeyUsageOID.CLIENT_AUTH]
    signed = mint("alice", issuer=Node.load(homes / "alice").identity, extended=leaf)

    assert get(Node.load(homes / "alice").client_context("db-1"), port) == "hello"
    assert get(Node.load(homes / "mallory").client_context("db-1"), port) != "hello"
    assert get(Node.load(presenting(homes / "alice", signed, tmp_path / "signed")).client_context("db-1"), port) == "hello"


def test_granian_behind_serve_is_reached_by_pinned_peers_alone(launch: Launch, homes: Path, tmp_path: Path) -> None:
    """It hears their names; a stranger, and what a CA:TRUE peer has signed, is refused; a removed peer's connection ends."""
    authority = mint("root", ca=True)
    (homes / "db-1/peers/root.crt").write_text(authority.certificate.pem)
    signed = presenting(homes / "alice", mint("alice", issuer=authority), tmp_path / "signed")
    granian(launch, homes, socket.socket(socket.AF_UNIX), "--uds", homes / "granian.sock", "--uds-permissions", "600")
    port = port_of(
        launch(
            *("peerauth", "serve", "--home", homes / "db-1", "--json"),
            *("--listen", "127.0.0.1:0", "--http", f"unix:{homes / 'granian.sock'}"),
            cwd=homes,
        )
    )
    context = Node.load(homes / "alice").client_context("db-1")

    assert get(context, port) == "hello alice"
    for refused in (homes / "mallory", signed):
        assert "hello" not in get(Node.load(refused).client_context("db-1"), port)
    with closing(http.client.HTTPSConnection("localhost", port, context=context, timeout=DEADLINE_S)) as kept:
        kept.request("GET", "/")
        assert kept.getresponse().read() == b"hello alice"
        (homes / "db-1/peers/alice.crt").rename(homes / "alice.crt")
        with suppress(ConnectionResetError):  # nothing was asked: it ends by itself
            assert kept.sock.recv(100) == b""
    assert "hello" not in get(context, port)


def test_grpc_without_tls_of_its_own_goes_through_both_doors(
    launch: Launch, homes: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """And a call that streams ends when its caller is removed."""
    doors = tmp_path_factory.mktemp("d")
    gone = threading.Event()

    def wait(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(gone.set)
        yield b"hello"
        gone.wait(DEADLINE_S)

    server = grpc.server(ThreadPoolExecutor(2))
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Wait": grpc.unary_stream_rpc_method_handler(wait)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Greeter", methods),))
    server.add_insecure_port(f"unix:{doors}/grpc")
    server.start()
    try:
        serve = ("peerauth", "serve", "--home", homes / "db-1", "--json", "--listen", "127.0.0.1:0")
        port = port_of(launch(*serve, "--target", f"unix:{doors}/grpc", cwd=homes))
        connect = ("peerauth", "connect", f"127.0.0.1:{port}", "--peer", "db-1", "--home", homes / "alice", "--json")
        launch(*connect, "--listen", f"unix:{doors}/db-1", cwd=homes).line("listening")
        with grpc.insecure_channel(f"unix:{doors}/db-1") as channel:
            method: Callable[..., Iterator[bytes]] = channel.unary_stream("/Greeter/Wait")
            answers = method(b"", timeout=DEADLINE_S)
            assert next(answers) == b"hello"
            (homes / "db-1/peers/alice.crt").unlink()
            with pytest.raises(grpc.RpcError) as error:
                next(answers)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            assert gone.wait(DEADLINE_S)
    finally:
        gone.set()
        server.stop(0).wait(DEADLINE_S)


def test_psycopg_goes_through_a_door_of_connect_to_a_database_behind_serve(
    launch: Launch, homes: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Without TLS of its own, and with a peer whose certificate libpq would not take for an exact pin."""
    authority = mint("db-1", ca=True)
    db = presenting_as(homes / "db-1", "db-1", authority)
    (homes / "alice/peers/db-1.crt").write_text(authority.certificate.pem)
    door = tmp_path_factory.mktemp("d")
    with postgresql(db / "db-1.crt", db / "db-1.key", authority.certificate.pem.encode()) as database:
        behind = f"unix:{database.directory}/.s.PGSQL.{database.port}"
        serve = ("peerauth", "serve", "--home", db, "--json", "--listen", "127.0.0.1:0", "--target", behind)
        port = port_of(launch(*serve, cwd=homes))
        connect = ("peerauth", "connect", f"127.0.0.1:{port}", "--peer", "db-1", "--home", homes / "alice", "--json")
        launch(*connect, "--listen", f"unix:{door}/.s.PGSQL.5432", cwd=homes).line("listening")

        def asked() -> object:
            where = f"host={door} port=5432 user=admin dbname=postgres connect_timeout=20"
            with psycopg.connect(where) as connection:
                return connection.execute("select 6 * 7").fetchone()

        assert asked() == (42,)
        (homes / "alice/peers/db-1.crt").write_text(mint("db-1", issuer=authority).certificate.pem)
        assert fails(asked)


def fails(ask: Callable[[], object]) -> bool:
    """Whether the database is out of reach as soon as `connect` has seen the change."""
    give_up = time.monotonic() + DEADLINE_S
    while time.monotonic() < give_up:
        try:
            ask()
        except psycopg.OperationalError:
            return True
        time.sleep(0.05)
    return False

"""What docs/drop-in.md, servers.md and clients.md show runs: each server with a client, each client with a server.

PostgreSQL and Redis, which the last of the clients need, are in test_databases.py; granian is in tests/libraries.
"""

from __future__ import annotations

import asyncio
import http.client
import shutil
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from peerauth import Node
from peerauth.grpc import reaching
from tests.docs.programs import PageProgram, by_section, programs
from tests.docs.terminals import DEADLINE_S, Running, Terminals
from tests.support.dropin import mint

SERVERS, CLIENTS = by_section("servers.md"), by_section("clients.md")
DATABASES = {"psycopg", "redis-py"}
PLAIN = "http.server, socketserver"
CLIENT_OF = {"websockets": "websockets as a client", "gRPC": "gRPC as a client"}
SERVER_OF = {client: server for server, client in CLIENT_OF.items()}
KEPT_ALIVE = {"uvicorn", "hypercorn", "gunicorn", "aiohttp", "gRPC"}
TROUBLES = (OSError, http.client.HTTPException, WebSocketException, grpc.RpcError)


def start(terminals: Terminals, nodes: Path, server: str) -> Running:
    port = terminals.ports.number("8443")
    terminals.environment["GUNICORN_CMD_ARGS"] = "--no-control-socket"  # which would be in the home of whoever tests
    running = terminals.start(SERVERS[server].command(nodes, port), nodes)
    running.wait_for_port(port)
    return running


class Caller:
    """A client in this process, which keeps its connection if it can; to each server as it wants to be spoken to."""

    def __init__(self, server: str, home: Path, port: int) -> None:
        node = Node.load(home)
        context = node.client_context("db-1")
        self.close: Callable[[], None] = lambda: None
        if server == "gRPC":
            channel = grpc.secure_channel(f"localhost:{port}", **reaching(node, "db-1"))
            self.close = channel.close
            method: Callable[..., bytes] = channel.unary_unary("/Greeter/Hello")
            self.ask: Callable[[], str] = lambda: method(b"", timeout=DEADLINE_S).decode()
        elif server == "websockets":
            self.ask = lambda: asyncio.run(_over_websocket(port, context))
        else:
            self.http = http.client.HTTPSConnection("localhost", port, context=context, timeout=DEADLINE_S)
            self.close = self.http.close
            self.ask = self._over_http

    def _over_http(self) -> str:
        self.http.request("GET", "/")
        return self.http.getresponse().read().decode().strip()


async def _over_websocket(port: int, context: ssl.SSLContext) -> str:
    async with asyncio.timeout(DEADLINE_S), connect(f"wss://localhost:{port}/", ssl=context, proxy=None) as websocket:
        return str(await websocket.recv())


def call(server: str, home: Path, port: int) -> str:
    """The answer to one call, or the kind of trouble."""
    caller = None
    try:
        caller = Caller(server, home, port)
        return caller.ask()
    except TROUBLES as error:
        return type(error).__name__
    finally:
        if caller:
            caller.close()


def test_every_program_is_run() -> None:
    assert len(programs("servers.md")) == len(SERVERS) == 8
    assert all(not program.shown for program in SERVERS.values())
    assert all(program.shown for program in [*programs("clients.md"), *programs("drop-in.md")])
    assert len(CLIENTS) == 9
    assert set(CLIENTS) >= {*CLIENT_OF.values(), *DATABASES}


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_serves_its_peer_and_neither_a_stranger_nor_what_a_peer_has_signed(
    terminals: Terminals, nodes: Path, server: str
) -> None:
    """And a removed peer no longer: neither on the connection that it has nor on a new one."""
    port = terminals.ports.number("8443")
    authority = mint("root", ca=True)
    (nodes / "db-1/peers/root.crt").write_text(authority.certificate.pem)
    minted = shutil.copytree(nodes / "alice", nodes / "minted")
    signed = mint("alice", issuer=authority)
    (minted / "alice.crt").write_text(signed.certificate.pem)
    (minted / "alice.key").write_bytes(signed.key_pem())
    client = CLIENTS[CLIENT_OF.get(server, "The standard library")]

    running = start(terminals, nodes, server)
    try:
        client.has_run(client.run(nodes, port, terminals.environment), port)
        for refused in ("mallory", "minted"):
            assert "hello" not in call(server, nodes / refused, port)
        caller = Caller(server, nodes / "alice", port)
        try:
            assert caller.ask() == "hello alice"
            (nodes / "db-1/peers/alice.crt").rename(nodes / "alice.crt")
            assert _ends(caller, server)
        finally:
            caller.close()
        assert "hello" not in call(server, nodes / "alice", port)
        (nodes / "alice.crt").rename(nodes / "db-1/peers/alice.crt")
        assert _admitted_again(server, nodes, port)
    finally:
        said = running.end()

    assert ("CERTIFICATE_VERIFY_FAILED" if server == "gRPC" else "refused a stranger: the certificate is not pinned") in said


def _ends(caller: Caller, server: str) -> bool:
    """Whether the connection that was open ends, where the server keeps any; used again and again, as a caller would."""
    kept = caller.http.sock if hasattr(caller, "http") else None
    if server in KEPT_ALIVE and hasattr(caller, "http"):
        assert kept is not None
    give_up = time.monotonic() + DEADLINE_S
    while time.monotonic() < give_up:
        try:
            caller.ask()
            assert not kept or caller.http.sock is kept, "it was another connection that went on"
        except TROUBLES:
            return True
        time.sleep(0.05)  # a caller that asks as fast as it can would be a load, not a test
    return False


def _admitted_again(server: str, nodes: Path, port: int) -> bool:
    """The twin of all refusals, on the same server: the same caller, pinned again."""
    give_up = time.monotonic() + DEADLINE_S
    while time.monotonic() < give_up:
        if call(server, nodes / "alice", port) == "hello alice":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("client", [section for section in CLIENTS if section not in DATABASES])
def test_a_client_prints_what_is_shown(terminals: Terminals, nodes: Path, client: str) -> None:
    port = terminals.ports.number("8443")
    running = start(terminals, nodes, SERVER_OF.get(client, PLAIN))
    try:
        done = CLIENTS[client].run(nodes, port, terminals.environment)
    finally:
        running.end()
    CLIENTS[client].has_run(done, port)


@pytest.mark.parametrize("program", programs("drop-in.md"), ids=lambda program: program.section)
def test_what_the_page_of_the_context_shows_is_what_happens(terminals: Terminals, nodes: Path, program: PageProgram) -> None:
    port = terminals.ports.number("8443")
    running = start(terminals, nodes, PLAIN)
    try:
        done = program.run(nodes, port, terminals.environment)
    finally:
        running.end()
    program.has_run(done, port)

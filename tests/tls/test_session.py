"""What the engine's session owes to those who write before they read, and to those beside a connection that breaks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.bindings.openssl.binding import Binding

from peerauth.address import parse_address
from peerauth.client.dial import Dialer
from peerauth.client.target import Target
from peerauth.errors import TrustRefused
from peerauth.tls.context import client_context, server_context
from peerauth.tls.outgoing import ClientSession
from peerauth.tls.session import Session, Wait
from peerauth.trust.decision import Admitted
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import Peer, PeerSet
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Yard, files_of, identity, on_loops, running

RESET = struct.pack("ii", 1, 0)


def dialer(*pinned: str) -> Dialer:
    """A node named alice that has these pinned."""
    peers = PeerSet.of(Peer(name, (identity(name).certificate.fingerprint,)) for name in pinned)
    return Dialer.of(identity("alice"), "alice", lambda: peers)


def target(name: str, port: int) -> Target:
    """That peer on a port of 127.0.0.1."""
    return Target(Peer(name, (identity(name).certificate.fingerprint,)), parse_address(f"127.0.0.1:{port}"))


@contextlib.contextmanager
def server_that_refuses(*, pinned: str | None, times: int) -> Iterator[int]:
    """A server on Python's ssl that admits one certificate, answers it, and closes on any other, unread data or not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files_of(identity("server")))
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if pinned is not None:
        context.load_verify_locations(cadata=identity(pinned).certificate.der)
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(DEADLINE_S)

    def serve() -> None:
        for _ in range(times):
            plain, _where = listening.accept()
            plain.settimeout(DEADLINE_S)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what Nagle holds back dies with the close
            with contextlib.suppress(OSError), plain, context.wrap_socket(plain, server_side=True) as tls:
                tls.recv(1)
                tls.sendall(b"early answer")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        thread.join(DEADLINE_S)
        listening.close()


def test_a_blocking_client_that_writes_much_at_once_hears_that_it_is_refused() -> None:
    times = 30
    with server_that_refuses(pinned=None, times=times) as port:
        for _ in range(times):
            there = target("server", port)
            connection = dialer("server").connect_blocking(there)
            with pytest.raises(TrustRefused) as refused:
                _send_much_and_read(connection)
            assert refused.value.side == "peer"
            assert "alert 48" in refused.value.message
            connection.close()


def test_the_same_client_hears_an_early_answer_when_it_is_admitted() -> None:
    with server_that_refuses(pinned="alice", times=1) as port:
        connection = dialer("server").connect_blocking(target("server", port))
        assert _send_much_and_read(connection) == b"early answer"
        connection.close()


def _send_much_and_read(connection: object) -> bytes:
    with contextlib.suppress(BrokenPipeError):
        for _ in range(64):
            connection.sendall(b"x" * 65536)  # type: ignore[attr-defined]
    answer: bytes = connection.recv(100)  # type: ignore[attr-defined]
    return answer


class Talker(asyncio.Protocol):
    """Writes as soon as it can; `lost` is the end of the connection."""

    def __init__(self, much: int) -> None:
        self._much = much
        self.heard = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        for _ in range(self._much):
            transport.write(b"x" * 65536)

    def data_received(self, data: bytes) -> None:
        if not self.heard.done():
            self.heard.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@on_loops()
async def test_a_transport_that_writes_much_at_once_hears_that_it_is_refused() -> None:
    times = 20
    with server_that_refuses(pinned=None, times=times) as port:
        for _ in range(times):
            protocol = Talker(64)
            await dialer("server").connect(target("server", port), protocol)
            async with asyncio.timeout(DEADLINE_S):
                assert isinstance(await protocol.lost, TrustRefused)


@on_loops()
async def test_what_the_server_says_first_reaches_a_client_that_writes_first(tmp_path: Path) -> None:
    """The greeting may be found by the look before the write, when the socket announces nothing any more."""
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    async with running(yard) as node:
        for _ in range(20):
            protocol = Talker(1)
            transport = await dialer("node").connect(target("node", node.port), protocol)
            async with asyncio.timeout(DEADLINE_S):
                assert (await protocol.heard).startswith(b"hello alice\n")
            transport.abort()


@contextlib.contextmanager
def established() -> Iterator[tuple[Session, socket.socket]]:
    """A server's session whose client has been admitted, and the client's socket."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        far = socket.create_connection(listening.getsockname())
        near, _ = listening.accept()
    for sock in (far, near):
        sock.setblocking(False)
    server = Session(server_context(identity("node")), near, _yes)
    client = ClientSession(client_context(identity("alice")), far, _yes)
    while {client.handshake(), server.handshake()} != {Wait.NOTHING}:
        pass
    server.confirm()
    with near, far:
        yield server, far


def _yes(der: bytes | None) -> Admitted:
    assert der is not None
    return Admitted(Peer("anyone", ()), Fingerprint.of(der))


def test_a_failed_write_leaves_nothing_in_the_queue_that_all_connections_share() -> None:
    """OpenSSL's queue of errors belongs to the thread: what one connection leaves there, another may trip over."""
    with established() as (server, far):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        far.close()
        with pytest.raises(ConnectionError):
            server.write(b"x")
    assert Binding.lib.ERR_peek_error() == 0


@on_loops()
async def test_a_reset_of_one_connection_does_not_fail_the_next(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    async with running(yard) as node:
        steady = Talker(0)
        transport = await dialer("node").connect(target("node", node.port), steady)
        async with asyncio.timeout(DEADLINE_S):
            await steady.heard
            for _ in range(20):
                broken = Talker(0)
                other = await dialer("node").connect(target("node", node.port), broken)
                await broken.heard
                sock = other.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                other.abort()
                await node.until(lambda: len(node.server.live) == 1)
                transport.write(b"x" * 4_000_000)  # until it must wait for the socket, which asks the queue
            assert not steady.lost.done()
        transport.abort()

"""Threat: OpenSSL shakes hands by the way, inside a read or a write, and nobody has decided.

The peer in these tests was removed, so it is still in OpenSSL's pool: only the decision can refuse it. The twin was not.
"""

from __future__ import annotations

import io
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from peerauth.tls import gate, judged
from peerauth.tls.stdlib import PeerRefused
from tests.support.dropin import Bio, Node, Nodes, ask, hear_and_name, meet, tcp_pair


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "FRESH_S", 0.0)


@pytest.fixture(params=["removed", "pinned"])
def contexts(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext, bool]:
    """(server's context, client's context, whether the server admits the client)."""
    node = Nodes(tmp_path)
    a, b = node("a"), node("b")
    server = a.knows(b).server()
    if request.param == "removed":
        a.forgets(b)
    return server, b.knows(a).client("a"), request.param == "pinned"


Contexts = tuple[ssl.SSLContext, ssl.SSLContext, bool]


def into_buffer(tls: ssl.SSLSocket) -> bytes:
    buffer = bytearray(100)
    return bytes(buffer[: tls.recv_into(buffer)])


def through_file(tls: ssl.SSLSocket) -> bytes:
    with tls.makefile("rb", buffering=0) as file:
        return file.read(100) or b""


def to_file(tls: ssl.SSLSocket) -> None:
    with tls.makefile("wb", buffering=0) as file:
        file.write(b"secret")


READS: dict[str, Callable[[ssl.SSLSocket], bytes]] = {
    "recv": lambda tls: tls.recv(100),
    "read": lambda tls: tls.read(100),
    "recv_into": into_buffer,
    "read into": lambda tls: bytes(tls.read(100, bytearray(100)) or 0),
    "makefile": through_file,
}
WRITES: dict[str, Callable[[ssl.SSLSocket], object]] = {
    "send": lambda tls: tls.send(b"secret"),
    "write": lambda tls: tls.write(b"secret"),
    "sendall": lambda tls: tls.sendall(b"secret"),
    "sendfile": lambda tls: tls.sendfile(io.BytesIO(b"secret")),
    "makefile": to_file,
}


@pytest.mark.parametrize("way", READS)
def test_reading_first_decides_first(contexts: Contexts, way: str) -> None:
    server, client, pinned = contexts

    def say(tls: ssl.SSLSocket) -> None:
        tls.sendall(b"hello")
        tls.recv(1)

    heard, _ = meet(server, client, READS[way], say, on_connect=False)

    if pinned:
        assert len(heard) == 5
    else:
        assert isinstance(heard, PeerRefused)


@pytest.mark.parametrize("way", WRITES)
def test_writing_first_decides_first(contexts: Contexts, way: str) -> None:
    """A server that speaks first tells a refused client nothing."""
    server, client, pinned = contexts

    wrote, heard = meet(server, client, WRITES[way], lambda tls: tls.recv(100), on_connect=False)

    if pinned:
        assert heard == b"secret"
    else:
        assert isinstance(wrote, PeerRefused)
        assert isinstance(heard, OSError) or heard == b""


@pytest.mark.parametrize("call", ["read", "write", "read into"])
def test_memory_bios_decide_first(contexts: Contexts, call: str) -> None:
    """The application drives the handshake by reads or writes alone; asyncio does not, but others may."""
    server, client, pinned = contexts
    bio = Bio(server, client)
    calls: dict[str, Callable[[], Any]] = {
        "read": lambda: bio.server.read(100),
        "write": lambda: bio.server.write(b"secret"),
        "read into": lambda: bio.server.read(100, bytearray(100)),
    }
    outcome: object = None
    for _ in range(6):
        with suppress(ssl.SSLWantReadError):
            bio.client.do_handshake()
            bio.client.write(b"hello")
        try:
            outcome = calls[call]()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError as error:
            outcome = error
        break

    heard: object = b""
    with suppress(ssl.SSLError):
        heard = bio.client.read(100)
    if pinned:
        assert outcome == {"read": b"hello", "write": 6, "read into": 5}[call]
        assert heard == (b"secret" if call == "write" else b"")
    else:
        assert isinstance(outcome, PeerRefused)
        assert heard == b""
        for again in calls.values():
            with pytest.raises(PeerRefused):
                again()


def test_client_that_writes_first_decides_first(tmp_path: Path) -> None:
    """It means a; b answers, whose certificate somebody has loaded into the pool. b hears nothing; a hears all."""
    node = Nodes(tmp_path)
    a, b, me = node("a"), node("b"), node("me")
    me.knows(a, b)

    def visit(other: Node) -> tuple[object, object]:
        context = me.client("a")
        context.load_verify_locations(cadata=b.identity.certificate.der)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            return meet_unconnected(other.knows(me).server(), context, listener)

    heard, outcome = visit(a)
    assert (heard, outcome) == (b"hello", b"me")
    heard, outcome = visit(b)
    assert isinstance(outcome, PeerRefused)
    assert isinstance(heard, OSError) or heard == b""


def meet_unconnected(server: ssl.SSLContext, client: ssl.SSLContext, listener: socket.socket) -> tuple[object, object]:
    """As `meet`, with a client that wraps its socket, then connects, and shakes hands by writing."""
    heard: list[object] = []

    def accept() -> None:
        plain, _ = listener.accept()
        try:
            with server.wrap_socket(plain, server_side=True) as tls:
                heard.append(hear_and_name(tls))
        except OSError as error:
            heard.append(error)

    thread = threading.Thread(target=accept)
    thread.start()
    outcome: object
    try:
        with client.wrap_socket(socket.socket(), do_handshake_on_connect=False) as tls:
            tls.connect(listener.getsockname())
            outcome = ask(tls)
    except OSError as error:
        outcome = error
    thread.join()
    return heard[0], outcome


def test_no_plain_byte_is_taken_for_one_that_came_through_tls(tmp_path: Path) -> None:
    """`shutdown` takes the TLS off an `ssl.SSLSocket`: a plain one then reads what a stranger sent in the clear."""
    a = Nodes(tmp_path)("a")
    ordinary = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ordinary.load_cert_chain(a.cert, a.key)

    def read_after_shutdown(context: ssl.SSLContext) -> bytes:
        far, near = tcp_pair()
        with near, context.wrap_socket(far, server_side=True, do_handshake_on_connect=False) as tls:
            near.sendall(b"in the clear")
            tls.shutdown(socket.SHUT_WR)
            return tls.recv(100)

    assert read_after_shutdown(ordinary) == b"in the clear"
    with pytest.raises(ssl.SSLError, match="no TLS handshake"):
        read_after_shutdown(a.server())


def test_no_plain_byte_follows_a_handshake_that_failed(tmp_path: Path) -> None:
    """A client's `connect` that fails leaves an `ssl.SSLSocket` without TLS, and connected."""
    node = Nodes(tmp_path)
    a, me = node("a"), node("me")
    me.knows(a)

    def write_after_failure(context: ssl.SSLContext) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, context.wrap_socket(socket.socket()) as tls:
            tls.settimeout(0.01)  # nobody answers the ClientHello
            with pytest.raises(OSError, match="timed out"):
                tls.connect(listener.getsockname())
            tls.sendall(b"secret")

    ordinary = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ordinary.check_hostname = False
    write_after_failure(ordinary)
    with pytest.raises(ssl.SSLError, match="no TLS handshake"):
        write_after_failure(me.client("a"))


def test_socket_that_is_not_connected_says_so(tmp_path: Path) -> None:
    """The guard does not stand in the way of what `ssl` itself does with unconnected and listening sockets."""
    with Nodes(tmp_path)("a").server().wrap_socket(socket.socket(), server_side=True) as tls:
        with pytest.raises(OSError, match="not connected"):
            tls.recv(1)
        with pytest.raises(NotImplementedError):
            tls.dup()


def test_every_way_to_move_a_byte_is_guarded_or_barred(tmp_path: Path) -> None:
    """A method that a future Python adds to sockets must be put into the table, or this fails."""
    elsewhere = {"sendmsg_afalg"}  # for AF_ALG sockets alone, says socket.socket
    moving = {n for n in dir(ssl.SSLSocket) if n.startswith(("recv", "send", "read", "write"))} - elsewhere
    guarded = set(judged.BYTES_OF_A_SOCKET)
    far, near = tcp_pair()
    with near, Nodes(tmp_path)("a").server().wrap_socket(far, True, False) as tls:
        for name in moving - guarded:
            with pytest.raises(NotImplementedError):
                getattr(tls, name)([b"x"])
    assert guarded <= moving
    assert {n for n in dir(ssl.SSLObject) if n.startswith(("recv", "send", "read", "write"))} == set(
        judged.BYTES_OF_AN_OBJECT
    )
    for name in guarded:
        assert getattr(judged.JudgedSocket, name) is not getattr(ssl.SSLSocket, name)

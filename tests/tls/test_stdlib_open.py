"""Open connections of the drop-in context: a removed peer's end when they are used, and nobody else's.

Every test has a peer that stays, for whom the same steps go on as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from peerauth.tls import gate, judged
from peerauth.tls.stdlib import PeerRefused, peer_of
from peerauth.trust.decision import Code
from tests.support.dropin import DEADLINE_S, Bio, Node, Nodes, refusal, tcp_pair


@pytest.fixture(autouse=True)
def _at_every_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open connection is decided about whenever it is used; the test of the throttle sets its own time."""
    for module in (gate, judged):
        monkeypatch.setattr(module, "AGAIN_S", 0.0)


@contextmanager
def connected(server: ssl.SSLContext, client: ssl.SSLContext) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """Both ends of an open connection: the accepted one and the connecting one."""
    far, near = tcp_pair()
    made: list[ssl.SSLSocket] = []
    thread = threading.Thread(target=lambda: made.append(server.wrap_socket(far, server_side=True)))
    thread.start()
    with client.wrap_socket(near) as ours:
        thread.join(DEADLINE_S)
        with made[0] as theirs:
            yield theirs, ours


def test_what_a_removed_peer_sends_is_not_read(three: tuple[Node, Node, Node]) -> None:
    a, gone, stays = three
    server = a.server()
    with connected(server, gone.client("a")) as (theirs, ours), connected(server, stays.client("a")) as (kept, other):
        for near, far in ((ours, theirs), (other, kept)):
            near.sendall(b"before")
            assert far.recv(100) == b"before"
        a.forgets(gone)
        for near in (ours, other):
            near.sendall(b"after")

        with pytest.raises(PeerRefused) as refused:
            theirs.recv(100)
        assert gone.pin in refusal(refused.value, Code.UNKNOWN)
        assert (theirs.fileno(), peer_of(theirs)) == (-1, None)
        with pytest.raises(PeerRefused):
            theirs.recv(100)
        assert kept.recv(100) == b"after"


def test_nothing_is_written_to_a_removed_peer(three: tuple[Node, Node, Node]) -> None:
    a, gone, stays = three
    server = a.server()
    with connected(server, gone.client("a")) as (theirs, ours), connected(server, stays.client("a")) as (kept, other):
        a.forgets(gone)
        with pytest.raises(PeerRefused):
            theirs.sendall(b"secret")
        kept.sendall(b"secret")

        assert other.recv(100) == b"secret"
        with contextlib.suppress(OSError):
            assert ours.recv(100) == b""


def test_a_client_says_nothing_more_to_a_peer_that_it_has_removed(three: tuple[Node, Node, Node]) -> None:
    a, gone, stays = three
    server = a.server()
    with connected(server, gone.client("a")) as (_, ours), connected(server, stays.client("a")) as (kept, other):
        gone.forgets(a)
        with pytest.raises(PeerRefused, match="there is no peer a"):
            ours.sendall(b"secret")
        other.sendall(b"secret")

        assert kept.recv(100) == b"secret"


def test_the_same_on_memory_bios(three: tuple[Node, Node, Node]) -> None:
    a, gone, stays = three
    server = a.server()
    leaving, staying = Bio(server, gone.client("a")), Bio(server, stays.client("a"))
    for pair in (leaving, staying):
        assert pair.shake() == (None, None)
    a.forgets(gone)
    for pair in (leaving, staying):
        pair.client.write(b"after")

    with pytest.raises(PeerRefused):
        leaving.server.read(100)
    with pytest.raises(PeerRefused):
        leaving.server.write(b"secret")
    assert staying.server.read(100) == b"after"


def test_asyncio_closes_the_connection_of_a_removed_peer_at_its_next_words(three: tuple[Node, Node, Node]) -> None:
    a, gone, stays = three
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                heard.append(line)
                writer.write(line)
        writer.close()

    async def echo(ends: tuple[asyncio.StreamReader, asyncio.StreamWriter], line: bytes) -> bytes:
        ends[1].write(line)
        with contextlib.suppress(ConnectionError):
            return await ends[0].readline()
        return b""

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=a.server())
        async with asyncio.timeout(DEADLINE_S), server:
            port = server.sockets[0].getsockname()[1]
            leaving, staying = [
                await asyncio.open_connection("127.0.0.1", port, ssl=who.client("a")) for who in (gone, stays)
            ]
            assert [await echo(leaving, b"one\n"), await echo(staying, b"two\n")] == [b"one\n", b"two\n"]
            a.forgets(gone)
            assert [await echo(leaving, b"three\n"), await echo(staying, b"four\n")] == [b"", b"four\n"]
            for _, writer in (leaving, staying):
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    asyncio.run(main())
    assert heard == [b"one\n", b"two\n", b"four\n"]


def test_an_open_connection_is_decided_about_once_in_a_while(
    three: tuple[Node, Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at the peers costs; in between a connection is used as it is."""
    a, gone, _ = three
    with connected(a.server(), gone.client("a")) as (theirs, ours):
        for module in (gate, judged):
            monkeypatch.setattr(module, "AGAIN_S", 3600.0)
        a.forgets(gone)
        ours.sendall(b"soon")
        assert theirs.recv(100) == b"soon"
        for module in (gate, judged):
            monkeypatch.setattr(module, "AGAIN_S", 0.0)
        ours.sendall(b"later")
        with pytest.raises(PeerRefused):
            theirs.recv(100)


def test_what_was_unwrapped_is_plain_and_nobodys_business(three: tuple[Node, Node, Node]) -> None:
    """As with every `ssl.SSLSocket`: some protocols leave TLS again, and who does so means it."""
    a, gone, _ = three
    with connected(a.server(), gone.client("a")) as (theirs, ours):
        thread = threading.Thread(target=theirs.unwrap)
        thread.start()
        ours.unwrap()
        thread.join(DEADLINE_S)
        ours.send(b"plain")
        assert theirs.recv(100) == b"plain"


def test_a_silent_caller_cannot_hold_a_thread_that_waits_for_ever(node: Nodes) -> None:
    """gunicorn, for one, gives its sockets no timeout. Who shakes hands in time has as long as he likes afterwards."""
    a, me = node("a"), node("me")
    a.knows(me)
    server = a.server(handshake_timeout=0.2)
    far, near = tcp_pair()
    far.settimeout(None)
    with near, pytest.raises(TimeoutError):
        server.wrap_socket(far, server_side=True)
    far, near = tcp_pair()
    far.settimeout(None)
    ends: list[socket.socket] = []
    thread = threading.Thread(target=lambda: ends.append(server.wrap_socket(far, server_side=True)))
    thread.start()
    with me.knows(a).client("a").wrap_socket(near):
        thread.join(DEADLINE_S)
        with ends[0] as accepted:
            assert accepted.gettimeout() is None


def test_where_a_peer_came_from_is_remembered_when_it_is_gone(node: Nodes) -> None:
    """A reset connection has no address any more: a peer with `from` is then gone, and not refused."""
    a, b = node("a"), node("b")
    b.knows(a)
    server = a.knows(b, settings='from = ["127.0.0.0/8"]\n').server()
    with connected(server, b.client("a")) as (theirs, ours):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ours.close()
        with contextlib.suppress(ConnectionResetError):
            assert theirs.recv(100) == b""
        with pytest.raises(OSError, match=r"EOF|pipe|reset"):
            theirs.sendall(b"anybody?")
        assert theirs.refused is None  # type: ignore[attr-defined]

"""`get` against servers that answer early, break off, or refuse late."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from peerauth.address import Address
from peerauth.client.dial import Dialer
from peerauth.client.request import Url, request
from peerauth.client.target import Target
from peerauth.errors import ConnectFailed, PeerAuthError, TrustRefused
from tests.support.dropin import DEADLINE_S, mint
from tests.support.engine import Yard, files_of, identity, on_loops, running

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n"


@contextmanager
def server(behave: Callable[[ssl.SSLSocket], object]) -> Iterator[int]:
    """db-1, which does this with one connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files_of(identity("db-1")))
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def one() -> None:
            plain, _ = listening.accept()
            plain.settimeout(DEADLINE_S)
            with suppress(OSError), context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False) as tls:
                behave(tls)
            plain.close()

        thread = threading.Thread(target=one)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(DEADLINE_S)


def ask(
    dialer: Dialer, port: int, body: bytes | None = None, *, name: str = "db-1", timeout: float = 10
) -> tuple[int, bytes]:
    target = Target(dialer.peers().peers[name], Address("127.0.0.1", port))
    url = Url(target, name, port, "/")
    with request(dialer, url, "POST" if body else "GET", body=body, timeout=timeout) as (response, _):
        return response.status, b"".join(response.stream(65536, decode_content=False))


def head(tls: ssl.SSLSocket) -> None:
    heard = b""
    while b"\r\n\r\n" not in heard:
        heard += tls.recv(65536)


def test_whole_answer_is_given(dialer: Dialer) -> None:
    def behave(tls: ssl.SSLSocket) -> None:
        head(tls)
        tls.sendall(HEAD + b"\r\n0123456789")

    with server(behave) as port:
        assert ask(dialer, port) == (200, b"0123456789")


def test_answer_before_the_body_was_read_is_heard(dialer: Dialer) -> None:
    """The server says no to a large body and goes; what it said is what counts."""

    def behave(tls: ssl.SSLSocket) -> None:
        head(tls)
        tls.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n")
        with socket.socket(fileno=tls.detach()) as plain:
            plain.shutdown(socket.SHUT_WR)
            plain.settimeout(DEADLINE_S)
            while plain.recv(1 << 16):
                pass

    with server(behave) as port:
        assert ask(dialer, port, b"x" * 8_000_000) == (413, b"no\n")


def close_notify_early(tls: ssl.SSLSocket) -> None:
    head(tls)
    tls.sendall(HEAD + b"\r\n01234")
    with suppress(OSError):
        tls.unwrap()


def cut(tls: ssl.SSLSocket) -> None:
    head(tls)
    tls.sendall(HEAD + b"\r\n01234")
    socket.socket(fileno=tls.detach()).close()


def cut_without_length(tls: ssl.SSLSocket) -> None:
    head(tls)
    tls.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n01234")
    socket.socket(fileno=tls.detach()).close()


def cut_chunk(tls: ssl.SSLSocket) -> None:
    head(tls)
    tls.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n01234")
    with suppress(OSError):
        tls.unwrap()


def nothing(tls: ssl.SSLSocket) -> None:
    head(tls)
    with suppress(OSError):
        tls.unwrap()


def babble(tls: ssl.SSLSocket) -> None:
    head(tls)
    tls.sendall(b"220 mail.example ESMTP\r\n\r\n")
    with suppress(OSError):
        tls.unwrap()


@pytest.mark.parametrize("behave", [close_notify_early, cut, cut_without_length, cut_chunk, nothing, babble])
def test_answer_that_breaks_off_is_no_answer(dialer: Dialer, behave: Callable[[ssl.SSLSocket], None]) -> None:
    with server(behave) as port, pytest.raises(PeerAuthError) as failed:
        ask(dialer, port)
    assert failed.value.exit_code in {1, 4}
    assert failed.value.code != "unexpected"
    assert "127.0.0.1" in failed.value.message


def test_answer_without_length_that_ends_with_a_goodbye_is_whole(dialer: Dialer) -> None:
    """The twin of the one that is cut."""

    def behave(tls: ssl.SSLSocket) -> None:
        head(tls)
        tls.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n01234")
        with suppress(OSError):
            tls.unwrap()

    with server(behave) as port:
        assert ask(dialer, port) == (200, b"01234")


def test_silence_has_an_end(dialer: Dialer) -> None:
    done = threading.Event()

    def behave(tls: ssl.SSLSocket) -> None:
        head(tls)
        done.wait(DEADLINE_S)

    with server(behave) as port:
        with pytest.raises(ConnectFailed) as failed:
            ask(dialer, port, timeout=0.3)
        done.set()
    assert failed.value.code == "timeout"


@pytest.mark.parametrize("size", [0, 5_000_000])
@on_loops("uvloop")
async def test_refusal_is_told_whenever_it_comes(yard: Yard, dialer: Dialer, size: int) -> None:
    stranger = Dialer.of(mint("stranger"), "stranger", dialer.peers)
    yard.pin("alice")
    async with running(yard, hello=True) as node:
        for _ in range(5):
            with pytest.raises(TrustRefused) as refused:
                await asyncio.to_thread(ask, stranger, node.port, b"x" * size, name="node")
            assert refused.value.side == "peer"
            assert "not pinned there" in refused.value.message
        status, _ = await asyncio.to_thread(ask, dialer, node.port, b"x" * size, name="node")
        assert status == (405 if size else 200)


@on_loops("asyncio")
async def test_refusal_in_http_is_a_refusal(yard: Yard, dialer: Dialer) -> None:
    """A service that explains answers 403: `get` says that we are refused, and why, as if TLS had said it."""
    async with running(yard, hello=True, on_unknown="explain") as node:
        with pytest.raises(TrustRefused, match=r"node at .* refused us: it answers 403 Forbidden \(unknown\)") as caught:
            await asyncio.to_thread(ask, dialer, node.port, name="node")
        own = identity("alice").certificate.fingerprint
        assert caught.value.side == "peer"
        assert caught.value.hint == f"there, with our certificate: peerauth peer add alice.crt --expect {own}"
        yard.pin("alice", settings="until = 2020-01-01")
        await node.hears("peer-added")
        with pytest.raises(TrustRefused, match=r"\(until-passed\)") as caught:
            await asyncio.to_thread(ask, dialer, node.port, bytes(300_000), name="node")
        assert caught.value.hint == "there: change 'until' in our peers/NAME.toml"
        (yard.path / "alice.toml").unlink()
        await node.hears("peer-changed")
        assert (await asyncio.to_thread(ask, dialer, node.port, name="node")) == (200, b"Hello, alice!\n")


@pytest.mark.parametrize("mark", [None, "00" * 32, ""])
def test_what_is_behind_a_server_cannot_pass_for_its_tls(dialer: Dialer, mark: str | None) -> None:
    """An application may answer with our header: it does not know the mark of the connection, and this is its own 403."""
    lines = b"" if mark is None else f"Peerauth-Mark: {mark}\r\n".encode()

    def behave(tls: ssl.SSLSocket) -> None:
        head(tls)
        tls.sendall(b"HTTP/1.1 403 No\r\nPeerauth-Refused: unknown\r\n" + lines + b"Content-Length: 3\r\n\r\nno\n")

    with server(behave) as port:
        assert ask(dialer, port) == (403, b"no\n")

"""Promise 9: names are earned: a client that means db-1 accepts db-1's pin alone, and sends nobody else anything."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.client.dial import Dialer
from peerauth.client.target import Target
from peerauth.errors import ConnectFailed, PeerAuthError, TrustRefused
from peerauth.store.peerdir import PeerDirectory
from peerauth.trust.identity import Identity
from tests.cli.running import process
from tests.support.dropin import DAY, DEADLINE_S, NOW, mint
from tests.support.engine import Yard, files_of, identity, on_loops


class Impostor:
    """A TLS server with any certificate, which admits everyone and notes what it is told."""

    def __init__(self, own: Identity, *, tls12: bool = False) -> None:
        self.heard: list[bytes] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files_of(own))
        if tls12:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            plain.settimeout(DEADLINE_S)
            with contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as tls:
                while data := tls.recv(65536):
                    self.heard.append(data)
                    if data.endswith(b"\r\n\r\n"):
                        tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n")
            plain.close()
            self.heard.append(b"")

    def hears(self, what: bytes) -> None:
        """Wait until this was said to it."""
        give_up = time.monotonic() + DEADLINE_S
        while what not in self.heard:
            assert time.monotonic() < give_up
            time.sleep(0.005)

    def stop(self) -> None:
        """Listen no more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(DEADLINE_S)


@pytest.fixture
def db2() -> Iterator[Impostor]:
    """The machine db-2, where db-1 was expected."""
    impostor = Impostor(identity("db-2"))
    yield impostor
    impostor.stop()


@pytest.fixture
def dialer(yard: Yard) -> Dialer:
    """A node that has pinned db-1 and db-2."""
    yard.pin("db-1")
    yard.pin("db-2")
    directory = PeerDirectory(yard.path)
    directory.refresh()
    return Dialer.of(identity("node"), "node", lambda: directory.current)


def target(dialer: Dialer, name: str, port: int) -> Target:
    return Target(dialer.peers().peers[name], Address("127.0.0.1", port))


class Collector(asyncio.Protocol):
    def __init__(self) -> None:
        self.made = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made = True
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"secret\r\n\r\n")


@on_loops()
async def test_another_pinned_peer_in_the_place_of_the_one_that_is_meant_is_refused(dialer: Dialer, db2: Impostor) -> None:
    protocol = Collector()
    with pytest.raises(TrustRefused) as refused:
        await dialer.connect(target(dialer, "db-1", db2.port), protocol)
    assert refused.value.exit_code == 3
    assert "that is db-2, not db-1" in refused.value.message
    assert str(identity("db-2").certificate.fingerprint) in refused.value.message
    assert "--peer db-2" in (refused.value.hint or "")
    assert not protocol.made

    transport = await dialer.connect(target(dialer, "db-2", db2.port), Collector())
    transport.close()
    await asyncio.to_thread(db2.hears, b"secret\r\n\r\n")
    assert db2.heard.index(b"") == 0  # the first connection ended without a word


def test_blocking_connection_refuses_it_too(dialer: Dialer, db2: Impostor) -> None:
    with pytest.raises(TrustRefused, match="that is db-2, not db-1"):
        dialer.connect_blocking(target(dialer, "db-1", db2.port))
    connection = dialer.connect_blocking(target(dialer, "db-2", db2.port))
    connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    connection.close()
    assert db2.heard[0] == b""


@pytest.mark.parametrize("tls12", [False, True])
def test_stranger_is_refused_by_what_it_presents(dialer: Dialer, tls12: bool) -> None:
    dialer = Dialer.of(identity("node"), "node", dialer.peers, min_tls="1.2")
    stranger, real = Impostor(mint("db-1"), tls12=tls12), Impostor(identity("db-1"), tls12=tls12)
    with pytest.raises(TrustRefused, match="db-1 is pinned as") as refused:
        dialer.connect_blocking(target(dialer, "db-1", stranger.port))
    assert "peer scan" in (refused.value.hint or "")
    connection = dialer.connect_blocking(target(dialer, "db-1", real.port))
    assert connection.session.version == ("TLSv1.2" if tls12 else "TLSv1.3")
    connection.close()
    stranger.stop()
    real.stop()
    assert b"".join(stranger.heard) == b""


def test_dates_of_a_server_count(dialer: Dialer, yard: Yard) -> None:
    late, valid = mint("late", since=NOW - 2 * DAY, until=NOW - DAY), mint("late")
    yard.pin("late", late, valid)
    directory = PeerDirectory(yard.path)
    directory.refresh()
    dialer = Dialer.of(identity("node"), "node", lambda: directory.current)
    expired, fresh = Impostor(late), Impostor(valid)
    with pytest.raises(TrustRefused, match="expired on"):
        dialer.connect_blocking(target(dialer, "late", expired.port))
    dialer.connect_blocking(target(dialer, "late", fresh.port)).close()
    expired.stop()
    fresh.stop()


def test_removed_server_is_refused_by_the_next_connection(dialer: Dialer, yard: Yard, db2: Impostor) -> None:
    meant = target(dialer, "db-2", db2.port)
    directory = PeerDirectory(yard.path)
    directory.refresh()
    fresh = Dialer.of(identity("node"), "node", directory.refresh)
    fresh.connect_blocking(meant).close()
    yard.unpin("db-2")
    with pytest.raises(TrustRefused):
        fresh.connect_blocking(meant)


def test_server_that_is_no_tls_or_not_there_is_no_refusal(dialer: Dialer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def babble() -> None:
            plain, _ = listening.accept()
            plain.sendall(b"220 mail.example ESMTP\r\n")
            plain.recv(1000)
            plain.close()

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(ConnectFailed) as failed:
            dialer.connect_blocking(target(dialer, "db-1", port))
        thread.join(DEADLINE_S)
    assert failed.value.code == "not-tls"
    with pytest.raises(PeerAuthError) as nobody:
        dialer.connect_blocking(target(dialer, "db-1", port))
    assert nobody.value.code == "connection-refused"


def test_commands_refuse_with_3_and_send_nothing(tmp_path: Path, db2: Impostor) -> None:
    home = tmp_path / "home"
    assert process("keygen", "node", "--type", "p256", "--home", home).code == 0
    for name in ("db-1", "db-2"):
        (home / "peers" / f"{name}.crt").write_text(identity(name).certificate.pem)
    where = f"127.0.0.1:{db2.port}"
    got = process("--home", home, "get", f"https://{where}/", "--peer", "db-1", "-d", "secret")
    piped = process("--home", home, "connect", where, "--peer", "db-1", stdin=b"secret")
    assert (got.code, piped.code) == (3, 3), (got, piped)
    for result in (got, piped):
        assert "that is db-2, not db-1" in result.err
        assert result.out == ""
    assert b"".join(db2.heard) == b""
    twin = process("--home", home, "get", f"https://{where}/", "--peer", "db-2")
    assert (twin.code, twin.out) == (0, "hi\n")

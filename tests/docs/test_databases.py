"""The programs of docs/clients.md for psycopg and redis-py, at a real PostgreSQL and a real Redis with TLS of their own.

And what the page says of the servers' side: who enters, who does not, and what a removal changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import redis.asyncio

from peerauth import BadInput, Node
from peerauth.trust.identity import Identity
from tests.cli.running import environment
from tests.docs.programs import programs
from tests.docs.terminals import DEADLINE_S
from tests.support.databases import Database, postgresql, redis_server
from tests.support.dropin import mint

PSYCOPG, CLIENTS_FILE, REDIS = (one for one in programs("clients.md") if one.section in {"psycopg", "redis-py"})


def roots_of(node: Node) -> bytes:
    return b"".join(node.peers.roots(peer.name) for peer in node.peers)


@pytest.fixture(scope="module")
def homes(made_nodes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """db-1 and alice, who know each other, and mallory, who knows db-1, for all tests of this file."""
    place = tmp_path_factory.mktemp("databases") / "nodes"
    shutil.copytree(made_nodes, place)
    return place


@pytest.fixture(scope="module")
def postgres(homes: Path) -> Iterator[Database]:
    db = Node.load(homes / "db-1")
    with postgresql(db.config.certificate, db.config.key, roots_of(db)) as database:
        with psycopg.connect(host=str(database.directory), port=database.port, user="admin", dbname="postgres") as admin:
            admin.execute("create user alice")
        yield database


@pytest.fixture(scope="module")
def redis_(homes: Path) -> Iterator[Database]:
    db = Node.load(homes / "db-1")
    with redis_server(db.config.certificate, db.config.key, roots_of(db)) as database:
        yield database


class PeerConnection(redis.Connection):
    """As on the page."""

    def __init__(self, *, context: ssl.SSLContext, **options: Any) -> None:  # noqa: ANN401 - the library's
        self.context = context
        super().__init__(**options)  # type: ignore[no-untyped-call]

    def _connect(self) -> ssl.SSLSocket:
        return self.context.wrap_socket(super()._connect(), server_hostname=self.host)  # type: ignore[no-untyped-call]


@contextmanager
def by_psycopg(home: Path, port: int, tmp_path: Path) -> Iterator[Callable[[], object]]:
    node = Node.load(home)
    roots = tmp_path / "roots.crt"
    roots.write_bytes(node.peers.roots("db-1"))
    with psycopg.connect(
        host="localhost",
        port=port,
        user="alice",
        dbname="postgres",
        sslmode="verify-ca",
        sslrootcert=str(roots),
        sslcert=str(node.config.certificate),
        sslkey=str(node.config.key),
        connect_timeout=20,
        autocommit=True,
    ) as connection:
        yield lambda: (connection.execute("select 6 * 7").fetchone() or [None])[0]


@contextmanager
def by_redis(home: Path, port: int, _: Path) -> Iterator[Callable[[], object]]:
    pool = redis.ConnectionPool(
        connection_class=PeerConnection,
        context=Node.load(home).client_context("db-1"),
        host="localhost",
        port=port,
        retry=None,
        socket_timeout=DEADLINE_S,
    )
    with redis.Redis(connection_pool=pool) as client, contextlib.closing(pool):
        yield lambda: 42 if client.ping() else None


TROUBLES = (psycopg.Error, redis.RedisError, OSError)
By = Callable[[Path, int, Path], Any]


def works(by: By, home: Path, port: int, tmp_path: Path) -> bool:
    try:
        with by(home, port, tmp_path) as ask:
            return bool(ask() == 42)
    except TROUBLES:
        return False


def minted(homes: Path, at: Path, issuer: Identity) -> Path:
    """Alice's home with a certificate that is called alice, and that this one has signed."""
    made = mint("alice", issuer=issuer)
    home = shutil.copytree(homes / "alice", at)
    (home / "alice.crt").write_text(made.certificate.pem)
    (home / "alice.key").write_bytes(made.key_pem())
    return home


def test_the_program_for_psycopg_prints_what_is_shown(homes: Path, postgres: Database) -> None:
    PSYCOPG.has_run(PSYCOPG.run(homes, postgres.port, environment({})), postgres.port)


def test_the_program_for_redis_prints_what_is_shown(homes: Path, redis_: Database) -> None:
    REDIS.has_run(REDIS.run(homes, redis_.port, environment({})), redis_.port)


def test_the_file_of_clients_is_written_and_who_may_sign_others_is_not_in_it(nodes: Path) -> None:
    CLIENTS_FILE.has_run(CLIENTS_FILE.run(nodes, 1, environment({})), 1)
    assert (nodes / "clients.crt").read_text() == Node.load(nodes / "alice").identity.certificate.pem

    (nodes / "db-1/peers/root.crt").write_text(mint("root", ca=True).certificate.pem)
    refused = CLIENTS_FILE.run(nodes, 1, environment({}))
    assert refused.returncode == 1
    assert "root has no certificate that would admit it alone" in refused.stdout


@pytest.mark.parametrize(("by", "server"), [(by_psycopg, "postgres"), (by_redis, "redis_")])
def test_the_server_admits_its_peer_and_neither_a_stranger_nor_what_a_peer_has_signed(
    homes: Path, tmp_path: Path, by: By, server: str, request: pytest.FixtureRequest
) -> None:
    """The stranger calls itself alice, too: PostgreSQL goes by that name."""
    database: Database = request.getfixturevalue(server)
    signed = minted(homes, tmp_path / "signed", Node.load(homes / "alice").identity)
    strange = minted(homes, tmp_path / "strange", mint("root", ca=True))

    assert works(by, homes / "alice", database.port, tmp_path)
    assert not works(by, signed, database.port, tmp_path)
    assert not works(by, strange, database.port, tmp_path)


@pytest.mark.parametrize(("by", "server"), [(by_psycopg, "postgres"), (by_redis, "redis_")])
def test_a_removal_counts_when_the_file_is_written_and_read_again_and_leaves_what_is_open(
    homes: Path, tmp_path: Path, by: By, server: str, request: pytest.FixtureRequest
) -> None:
    database: Database = request.getfixturevalue(server)
    everyone = database.clients.read_bytes()
    nobody = mint("nobody").certificate.pem.encode()  # neither takes an empty file

    def called() -> bool:
        return works(by, homes / "alice", database.port, tmp_path)

    with by(homes / "alice", database.port, tmp_path) as still_asks:
        assert still_asks() == 42
        try:
            database.clients.write_bytes(nobody)
            assert called()
            read_again(database, server)
            assert comes_true(lambda: not called())
            assert still_asks() == 42
        finally:
            database.clients.write_bytes(everyone)
            read_again(database, server)
        assert comes_true(called)


def read_again(database: Database, server: str) -> None:
    if server == "postgres":
        with psycopg.connect(host=str(database.directory), port=database.port, user="admin", dbname="postgres") as admin:
            admin.execute("select pg_reload_conf()")
    else:
        with redis.Redis(unix_socket_path=str(database.directory / "redis.sock")) as admin:
            admin.config_set("tls-ca-cert-file", str(database.clients))


def comes_true(what: Callable[[], bool]) -> bool:
    """PostgreSQL does not say when it has read its files."""
    give_up = time.monotonic() + DEADLINE_S
    while not what():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def impostor(identity: Identity, place: Path, *, starts_tls: bool) -> Iterator[tuple[int, list[bytes]]]:
    """A server that presents this to whoever comes, and what it was told inside TLS, which libpq asks for first."""
    place.mkdir()
    (place / "crt").write_text(identity.certificate.pem)
    (place / "key").write_bytes(identity.key_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "crt", place / "key")
    heard: list[bytes] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.settimeout(DEADLINE_S)
                with contextlib.suppress(OSError), connection:
                    if starts_tls:
                        connection.recv(8)
                        connection.sendall(b"S")
                    with context.wrap_socket(connection, server_side=True) as secure:
                        heard.append(secure.recv(100))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], heard
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE_S)


@pytest.mark.parametrize("by", [by_psycopg, by_redis])
def test_the_client_says_nothing_to_a_stranger_or_to_what_its_peer_has_signed(homes: Path, tmp_path: Path, by: By) -> None:
    """The twin presents the pinned certificate, and is told something."""
    ours = Node.load(homes / "db-1").identity
    signed, strange = mint("db-1", issuer=ours), mint("db-1")
    for number, (identity, told) in enumerate([(signed, False), (strange, False), (ours, True)]):
        with impostor(identity, tmp_path / str(number), starts_tls=by is by_psycopg) as (port, heard):
            assert not works(by, homes / "alice", port, tmp_path)
        assert any(heard) is told


def test_of_a_peer_that_may_sign_others_psycopg_is_given_no_roots_and_redis_goes_by_the_pin(
    homes: Path, tmp_path: Path
) -> None:
    authority = mint("db-1", ca=True)
    home = shutil.copytree(homes / "alice", tmp_path / "alice")
    (home / "peers/db-1.crt").write_text(authority.certificate.pem)
    with pytest.raises(BadInput, match="may sign others"):
        works(by_psycopg, home, 1, tmp_path)
    for number, (identity, told) in enumerate([(mint("db-1", issuer=authority), False), (authority, True)]):
        with impostor(identity, tmp_path / str(number), starts_tls=False) as (port, heard):
            assert not works(by_redis, home, port, tmp_path)
        assert any(heard) is told


def test_a_peer_that_was_removed_here_hears_nothing_more_from_redis_py(
    homes: Path, redis_: Database, tmp_path: Path
) -> None:
    """Nor on the connection that is open; psycopg asks for its roots when it connects, and there are none."""
    home = shutil.copytree(homes / "alice", tmp_path / "alice")
    with by_redis(home, redis_.port, tmp_path) as ask:
        assert ask() == 42
        (home / "peers/db-1.crt").rename(home / "db-1.crt")

        def refused() -> bool:
            try:
                ask()
            except redis.RedisError as error:
                return "there is no peer db-1" in str(error)
            return False

        assert comes_true(refused)
    with pytest.raises(BadInput, match="no peer"):
        works(by_psycopg, home, 1, tmp_path)
    (home / "db-1.crt").rename(home / "peers/db-1.crt")
    assert works(by_redis, home, redis_.port, tmp_path)


def test_redis_asyncio_takes_the_context_as_the_page_says(homes: Path, redis_: Database) -> None:
    context = Node.load(homes / "alice").client_context("db-1")

    class AsyncPeerConnection(redis.asyncio.Connection):
        def _connection_arguments(self) -> dict[str, Any]:
            return {**super()._connection_arguments(), "ssl": context}

    async def main() -> bool:
        pool = redis.asyncio.ConnectionPool(connection_class=AsyncPeerConnection, host="localhost", port=redis_.port)
        async with asyncio.timeout(DEADLINE_S), redis.asyncio.Redis(connection_pool=pool) as client:
            answered = bool(await client.ping())
        await pool.disconnect()
        return answered

    assert asyncio.run(main())

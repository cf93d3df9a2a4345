"""PostgreSQL and Redis of a test's own, each with TLS of its own that asks clients for certificates."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.programs import needs

DEADLINE_S = 30.0


class Database:
    """A running server: its port, and the file of the certificates that it takes from clients."""

    def __init__(self, directory: Path, port: int, clients: Path) -> None:
        self.directory, self.port, self.clients = directory, port, clients


@contextmanager
def postgresql(certificate: Path, key: Path, clients: bytes) -> Iterator[Database]:
    """PostgreSQL that goes by the name in the certificate where it is reached by TCP; its Unix socket trusts all."""
    initdb, postgres = needs("initdb"), needs("postgres")
    with _place("pg-") as (place, user):
        subprocess.run(
            [initdb, "-D", place / "data", "-U", "admin", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8"],
            cwd=place,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            capture_output=True,
            timeout=DEADLINE_S,
            check=True,
        )
        database = Database(place, free_port(), _files(place, user, certificate, key, clients))
        (place / "data/pg_hba.conf").write_text("local all all trust\nhostssl all all 127.0.0.1/32 cert\n")
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(database.port),
            "unix_socket_directories": str(place),
            "ssl": "on",
            "ssl_cert_file": str(place / "server.crt"),
            "ssl_key_file": str(place / "server.key"),
            "ssl_ca_file": str(database.clients),
            "fsync": "off",
        }
        with (place / "data/postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        with _running([postgres, "-D", str(place / "data")], place, user):
            yield database


@contextmanager
def redis_server(certificate: Path, key: Path, clients: bytes) -> Iterator[Database]:
    """Redis that speaks TLS alone, and only with clients that present a certificate."""
    program = needs("redis-server")
    with _place("redis-") as (place, user):
        database = Database(place, free_port(), _files(place, user, certificate, key, clients))
        options = {
            "port": "0",
            "bind": "127.0.0.1",
            "unixsocket": str(place / "redis.sock"),
            "tls-port": str(database.port),
            "tls-cert-file": str(place / "server.crt"),
            "tls-key-file": str(place / "server.key"),
            "tls-ca-cert-file": str(database.clients),
            "tls-auth-clients": "yes",
            "save": "",
            "dir": str(place),
        }
        command = [program, *(word for name, value in options.items() for word in (f"--{name}", value))]
        with _running(command, place, user):
            yield database


@contextmanager
def _place(prefix: str) -> Iterator[tuple[Path, int | None]]:
    """A directory with a short name, and whose it is: PostgreSQL does not run as root."""
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        if user is not None:
            os.chown(directory, user, user)
        yield directory, user
    finally:
        shutil.rmtree(directory)


def _files(place: Path, user: int | None, certificate: Path, key: Path, clients: bytes) -> Path:
    shutil.copy(certificate, place / "server.crt")
    shutil.copy(key, place / "server.key")
    (place / "server.key").chmod(0o600)
    (place / "clients.crt").write_bytes(clients)
    if user is not None:
        for name in ("server.crt", "server.key", "clients.crt"):
            os.chown(place / name, user, user)
    return place / "clients.crt"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(command: list[str], place: Path, user: int | None) -> Iterator[None]:
    """Until it has said that it is ready: it listens before that, and turns whoever comes away."""
    log = place / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=place,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
        try:
            give_up = time.monotonic() + DEADLINE_S
            while "eady to accept connections" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < give_up, log.read_text()
                time.sleep(0.02)
            yield
        finally:
            process.send_signal(signal.SIGINT)  # PostgreSQL waits for nobody then
            process.wait(DEADLINE_S)

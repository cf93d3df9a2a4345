"""PostgreSQL that listens on a Unix socket alone, reached by psql through `connect --listen` and `serve --target unix:`."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real.conftest import Launch, Tunnel
from tests.seeds.actors import DEADLINE_S, ENVIRONMENT, Home, Result, run
from tests.seeds.conftest import Serve
from tests.support import needs

ROWS = 100_000


@pytest.fixture
def place() -> Iterator[tuple[Path, int | None]]:
    """A directory for the database, and whose it is: PostgreSQL does not run as root."""
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix="pg-"))  # short enough for a socket, and open to that user
    try:
        if user is not None:
            os.chown(directory, user, user)
        yield directory, user
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def database(place: tuple[Path, int | None], launch: Launch) -> str:
    """A server of this test's own; the path of its socket."""
    initdb, postgres = needs("initdb"), needs("postgres")
    directory, user = place
    subprocess.run(
        [initdb, "-D", directory / "data", "-U", "admin", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8"],
        cwd=directory,
        env=ENVIRONMENT,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        capture_output=True,
        timeout=DEADLINE_S,
        check=True,
    )
    options = ("-h", "", "-k", directory, "-p", "5432", "-F")
    server = launch(postgres, "-D", directory / "data", *options, cwd=directory, user=user)
    server.line("ready to accept connections")
    return str(directory / ".s.PGSQL.5432")


Sql = Callable[..., Result]


@pytest.fixture
def psql(tmp_path: Path) -> Sql:
    """Run SQL at a local port."""
    program = needs("psql")

    def ask(port: int, *commands: str, stdin: str = "") -> Result:
        given = [word for command in commands for word in ("-c", command)]
        options = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1")
        where = f"host=127.0.0.1 port={port} user=admin dbname=postgres sslmode=disable connect_timeout=20"
        return run(program, where, *options, *given, cwd=tmp_path, stdin=stdin)

    return ask


def test_psql_asks_and_copies_through_the_tunnel(
    database: str, psql: Sql, node: Home, caller: Home, serve: Serve, tunnel: Tunnel
) -> None:
    port = tunnel(caller, serve(node, "--target", f"unix:{database}"))

    assert psql(port, "select 6 * 7") == Result(0, "42\n", "")
    rows = "".join(f"{number}\trow {number}\n" for number in range(ROWS))
    sent = psql(port, "create table t (n int, s text)", "copy t from stdin", "select count(*), sum(n) from t", stdin=rows)
    assert sent == Result(0, f"{ROWS}|{ROWS * (ROWS - 1) // 2}\n", "")
    assert psql(port, "copy (select n, s from t order by n) to stdout") == Result(0, rows, "")


def test_psql_of_a_stranger_never_reaches_the_database(
    database: str, psql: Sql, node: Home, stranger: Home, serve: Serve, tunnel: Tunnel
) -> None:
    stranger.pin("node", node.pair.cert)
    server = serve(node, "--target", f"unix:{database}")
    refused = psql(tunnel(stranger, server), "select 1")

    assert (refused.code, refused.out) == (2, "")
    server.program.line('"event": "refused".*"code": "unknown"')

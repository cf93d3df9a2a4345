"""Two nodes that know each other and a stranger, beside programs that people really have."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.seeds.actors import Home, Program, Server
from tests.seeds.conftest import caller, listening_port, node, once, serve, stranger

__all__ = ["caller", "node", "once", "serve", "stranger"]


class Launch(Protocol):
    """Runs a program until the end of the test."""

    def __call__(self, *argv: str | Path, cwd: Path, user: int | None = None) -> Program:
        """Return it at once; what it says on standard error is among its lines."""


class Tunnel(Protocol):
    """Runs `peerauth connect --listen` until the end of the test."""

    def __call__(self, home: Home, server: Server) -> int:
        """Return the port that leads to the server of `node`."""


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Start programs, and end them with the test, the last one first."""
    with ExitStack() as running:

        def start(*argv: str | Path, cwd: Path, user: int | None = None) -> Program:
            program = Program("/bin/sh", "-c", 'exec "$0" "$@" 2>&1', *argv, cwd=cwd, user=user)
            running.callback(program.stop)
            return program

        yield start


@pytest.fixture
def tunnel(launch: Launch) -> Tunnel:
    """Open a local port that leads to a server."""

    def start(home: Home, server: Server) -> int:
        words = (
            "connect",
            f"127.0.0.1:{server.port}",
            "--peer",
            "node",
            "--home",
            home.path,
            "--listen",
            "127.0.0.1:0",
            "--json",
        )
        return listening_port(launch(sys.executable, "-m", "peerauth", *words, cwd=home.path))

    return start


@pytest.fixture(autouse=True)
def pinned(node: Home, caller: Home) -> None:
    """Node and caller know each other."""
    node.pin("caller", caller.pair.cert)
    caller.pin("node", node.pair.cert)

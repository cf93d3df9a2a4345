"""Fixtures of the walk-throughs.

What is slow to make (RSA keys, compiled programs) is made once in a whole run, also when several pytest workers share it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.seeds import documents
from tests.seeds.actors import PROGRAMS, Home, Pair, Program, Server, must
from tests.seeds.documents import Leaves
from tests.support import needs


class Once(Protocol):
    """Makes a directory once in a run."""

    def __call__(self, name: str, fill: Callable[[Path], object]) -> Path:
        """Return the directory; `fill` has been called on it, by us or by another worker."""


class Start(Protocol):
    """Starts a program that is ended with the test."""

    def __call__(self, *argv: str | Path) -> Server:
        """Return it once it has said on which port it listens."""


Go = Callable[[str], Path]
"""From the name of a Go program to its compiled file."""

Seed001 = Callable[[str], Pair]
"""From `server`, `client`, `bad` to what document 001 calls by that name."""


Door = Callable[[str, Home], Server]
"""From a kind of server (`serve`, `listener`, `connection`) and a home to the running server."""


class Serve(Protocol):
    """Runs `peerauth serve` until the end of the test."""

    def __call__(self, home: Home, *options: str) -> Server:
        """Return it once it listens."""


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Make a directory once in a run: whoever comes first fills it, the other workers wait for it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        place, finished = root / name, root / f"{name}.finished"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not finished.exists():
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                fill(place)
                finished.touch()
        return place

    return make


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start programs, and end them with the test."""
    with ExitStack() as running:

        def launch(*argv: str | Path) -> Server:
            program = Program(*argv, cwd=tmp_path)
            running.callback(program.stop)
            return Server(program, program.port())

        yield launch


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Run `peerauth serve`, and end it with the test."""
    with ExitStack() as running:

        def launch(home: Home, *options: str) -> Server:
            command = ("-m", "peerauth", "serve", "--home", home.path, "--listen", "127.0.0.1:0", "--json")
            program = Program(sys.executable, *command, *options, cwd=home.path)
            running.callback(program.stop)
            return Server(program, listening_port(program))

        yield launch


def listening_port(program: Program) -> int:
    """Wait for `{"event": "listening", "address": "127.0.0.1:PORT"}`."""
    event = json.loads(program.line(r'^\{.*"listening".*\}$')[0])
    assert event["event"] == "listening"
    return int(event["address"].rpartition(":")[2])


@pytest.fixture
def node(once: Once, tmp_path: Path) -> Home:
    """A node as `peerauth keygen` makes it, RSA-4096: the one whose service is called."""
    made = once("node", lambda place: documents.keygen(place, "node"))
    return Home(made / "node", "node").copy(tmp_path / "node")


@pytest.fixture
def caller(once: Once, tmp_path: Path) -> Home:
    """Another node: the one that calls."""
    made = once("caller", lambda place: documents.keygen(place, "caller", "--type", "p256"))
    return Home(made / "caller", "caller").copy(tmp_path / "caller")


@pytest.fixture
def stranger(once: Once, tmp_path: Path) -> Home:
    """A node like `caller`, made the same way, whom nobody pins."""
    made = once("stranger", lambda place: documents.keygen(place, "stranger", "--type", "p256"))
    return Home(made / "stranger", "stranger").copy(tmp_path / "stranger")


@pytest.fixture(scope="session")
def curl() -> str:
    """The path of curl."""
    return needs("curl")


@pytest.fixture(scope="session")
def node_js() -> str:
    """The path of Node.js."""
    return needs("node")


@pytest.fixture(scope="session")
def seed_000(once: Once) -> Leaves:
    """The certificates of document 000."""
    needs("openssl")
    return Leaves(once("seed-000", documents.seed_000))


@pytest.fixture(scope="session")
def seed_001(once: Once) -> Seed001:
    """The certificates of document 001: `server`, `client` and `bad`."""
    needs("openssl")
    place = once("seed-001", documents.seed_001)
    return lambda who: Pair(place / f"{who}Crt.pem", place / f"{who}Key.pem")


@pytest.fixture(scope="session")
def seed_002(once: Once) -> Leaves:
    """The certificates of document 002."""
    needs("openssl")
    return Leaves(once("seed-002", documents.seed_002))


@pytest.fixture(scope="session")
def seed_003(once: Once) -> Path:
    """The directory with the key stores of document 003."""
    needs("keytool")
    return once("seed-003", documents.seed_003)


@pytest.fixture(scope="session")
def seed_004(once: Once) -> Leaves:
    """The certificates of document 004."""
    needs("openssl")
    return Leaves(once("seed-004", documents.seed_004))


@pytest.fixture(scope="session")
def go(once: Once) -> Go:
    """The Go programs, compiled."""

    def build(place: Path) -> None:
        for name in ("go_server", "go_client"):
            must(compiler, "build", "-o", place / name, PROGRAMS / f"{name}.go", cwd=place)

    compiler = needs("go")
    place = once("go", build)
    return lambda name: place / name


@pytest.fixture(scope="session")
def java(once: Once) -> tuple[str, ...]:
    """The command line of `java` with our classes, compiled; the flags make a short run short."""
    compiler = needs("javac")
    place = once("java", lambda to: must(compiler, "-d", to, *sorted((PROGRAMS / "java").glob("*.java")), cwd=to))
    return (needs("java"), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-cp", str(place))


@pytest.fixture
def door(serve: Serve, start: Start) -> Door:
    """The ways into a node: `serve` is the engine, the other two are http.server in the drop-in context."""

    def open_door(kind: str, home: Home) -> Server:
        if kind == "serve":
            return serve(home)
        return start(sys.executable, PROGRAMS / "python_server.py", kind, home.path)

    return open_door

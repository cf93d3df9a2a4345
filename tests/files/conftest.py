"""A node that serves a directory, as a process of its own, and a peer of it; once for all the tests of a module."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.engine import Caller, Yard, files_of, identity
from tests.support.web import Answer, ask
from tests.support.workers import Home, Serving, serving

BIG = 3 << 20
CONTENT = os.urandom(BIG)
LONG_AGO = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT


@dataclass
class Site:
    """A directory that is served, and how to get there."""

    root: Path
    home: Home
    node: Serving
    caller: Caller
    _tls: ssl.SSLSocket | None = None

    def ask(self, path: str | bytes, method: str = "GET", **fields: str) -> Answer:
        """One request over a connection that is kept, where the server keeps it."""
        tls, self._tls = self._tls or self.caller.open(self.node.port), None
        answer = ask(tls, path, method, **fields)
        if answer.fields["connection"] == "close":
            tls.close()
        else:
            self._tls = tls
        return answer

    def close(self) -> None:
        """Close what is kept."""
        if self._tls is not None:
            self._tls.close()

    @property
    def curl(self) -> list[str]:
        """The words for curl to be alice."""
        certificate, key = files_of(identity("alice"))
        return ["curl", "--silent", "--show-error", "--insecure", "--cert", certificate, "--key", key]

    def url(self, path: str) -> str:
        """Where this is."""
        return f"https://127.0.0.1:{self.node.port}{path}"


def old(path: Path, content: bytes) -> Path:
    """A file that was written long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Some files; all of them old, but for their ctime."""
    place = tmp_path_factory.mktemp("site")
    home = Home(place)
    alice = Caller(home.pin("alice"))
    root = place / "root"
    old(root / "big.bin", CONTENT)
    old(root / "small.txt", b"small\n")
    old(root / "empty", b"")
    old(root / "docs" / "a b&c.html", b"<p>hi")
    old(root / "site" / "index.html", b"<h1>index</h1>")
    with serving(home, "--root", str(root), workers=1, relay=False) as node:
        one = Site(root, home, node, alice)
        yield one
        one.close()


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """An empty peers directory."""
    return Yard(tmp_path / "peers")

"""Those who take part in a walk-through: commands, programs that keep running, and nodes with a home.

Commands get a small environment of their own, so that nobody's proxy, CA bundle or `$PEERAUTH_HOME` decides a test.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAMS = CHECKOUT / "tests" / "programs"
DEADLINE_S = 30.0
"""Longer than any answer takes, even on a busy machine: a test that hits it has failed."""
BUILD_S = 180.0
"""The same for a command; the longest is the first `go build` on a machine."""

_KEPT = ("PATH", "HOME", "TMPDIR", "JAVA_HOME", "GOROOT", "GOPATH", "GOCACHE", "SYSTEMROOT", "VIRTUAL_ENV")
ENVIRONMENT = {name: os.environ[name] for name in _KEPT if name in os.environ} | {
    "LC_ALL": "C.UTF-8",
    "PYTHONPATH": str(CHECKOUT),
}


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


def run(*argv: str | Path, cwd: Path, stdin: str = "") -> Result:
    """Run one command to its end."""
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env=ENVIRONMENT,
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=BUILD_S,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def must(*argv: str | Path, cwd: Path, stdin: str = "") -> str:
    """Run one command that has to succeed, and return what it printed."""
    result = run(*argv, cwd=cwd, stdin=stdin)
    assert result.code == 0, f"{argv} exited {result.code}:\n{result.err}"
    return result.out


class Program:
    """A program that keeps running; its lines are waited for, and it is ended by its own process id."""

    def __init__(self, *argv: str | Path, cwd: Path, user: int | None = None) -> None:
        """Start it, as another user where one is given."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the program
        self._process = subprocess.Popen(
            [str(word) for word in argv],
            cwd=cwd,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            text=True,
            errors="replace",
        )
        self._lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def line(self, pattern: str) -> re.Match[str]:
        """Wait for the first line of standard output in which `pattern` is found."""
        give_up = time.monotonic() + DEADLINE_S
        seen = 0
        with self._news:
            while True:
                for text in self._lines[seen:]:
                    if found := re.search(pattern, text):
                        return found
                seen = len(self._lines)
                if self._ended or not self._news.wait(max(0.0, give_up - time.monotonic())):
                    break
        raise AssertionError(f"{self._process.args!r} never printed {pattern!r}:\n{self._lines}\n{self.errors()}")

    def port(self, pattern: str = r":(\d+)/?$") -> int:
        """Wait for the line that says where it listens."""
        return int(self.line(pattern)[1])

    def errors(self) -> str:
        """What it has written to standard error so far."""
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode(errors="replace")

    def stop(self) -> None:
        """Ask it to end, and see to it that it does."""
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=5)
        self._reader.join(timeout=5)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()


@dataclass(frozen=True)
class Server:
    """A program and the port of 127.0.0.1 on which it answers."""

    program: Program
    port: int

    def url(self, path: str = "/hello") -> str:
        """Return its address as the documents write it."""
        return f"https://localhost:{self.port}{path}"


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, in two PEM files."""

    cert: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        """The pin, as `openssl x509 -fingerprint -sha256` prints it."""
        return x509.load_pem_x509_certificate(self.cert.read_bytes()).fingerprint(hashes.SHA256()).hex(":").upper()


@dataclass(frozen=True)
class Home:
    """A node's home directory."""

    path: Path
    name: str

    @property
    def pair(self) -> Pair:
        """The node's identity."""
        return Pair(self.path / f"{self.name}.crt", self.path / f"{self.name}.key")

    def peerauth(self, *argv: str | Path, stdin: str = "") -> Result:
        """Run `peerauth` in this home."""
        return run(sys.executable, "-m", "peerauth", *argv, cwd=self.path, stdin=stdin)

    def pin(self, name: str, cert: Path) -> Path:
        """Copy a certificate into `peers/`: all that pinning is."""
        return shutil.copyfile(cert, self.path / "peers" / f"{name}.crt")

    def add(self, cert: Path, *options: str) -> str:
        """`peer add` a file, and return what was printed about it."""
        result = self.peerauth("peer", "add", cert, *options)
        assert result.code == 0, result.err
        return result.out

    def get(self, url: str, *, peer: str) -> Result:
        """`get` a URL from a named peer."""
        return self.peerauth("get", url, "--peer", peer)

    def copy(self, to: Path) -> Self:
        """Return another home with the same identity."""
        return type(self)(shutil.copytree(self.path, to), self.name)

    def become(self, pair: Pair) -> None:
        """Put another pair in the place of this node's own."""
        shutil.copyfile(pair.cert, self.pair.cert)
        shutil.copyfile(pair.key, self.pair.key)

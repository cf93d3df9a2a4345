"""The load generator: compiled once, started beside the contender, its one line of JSON read."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.identities import Identity
from benchmarks.results import Sample
from benchmarks.running import LOAD_CORE, Failed, pinned

SOURCE = Path(__file__).with_name("load.c")
GRACE_S = 90.0  # beyond the time that it was told to run
HELD_S = 400.0  # nothing is held longer


def build(directory: Path) -> Path:
    """Compile load.c with the system's C compiler and OpenSSL.

    Raises:
        Failed: the compiler says no (libssl-dev is missing).

    """
    program = directory / "load"
    if not program.exists() or program.stat().st_mtime < SOURCE.stat().st_mtime:
        command = ["cc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(SOURCE), "-lssl", "-lcrypto"]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            raise Failed(f"load.c does not compile (apt-get install gcc libssl-dev): {done.stderr.decode()[-500:]}")
    return program


@dataclass(frozen=True)
class Load:
    """How to load one contender: the program, where the contender listens, and as whom.

    `backend` is the port on which the generator itself listens as the backend, 0 where another process does.
    """

    program: Path
    port: int
    client: Identity
    backend: int = 0
    http: bool = False

    def command(self, mode: str, options: Sequence[str], *, nice: int = 0) -> list[str]:
        """The whole command line, pinned to its core."""
        words = pinned(LOAD_CORE, ["nice", "-n", str(nice), str(self.program), mode])
        if mode != "backend":
            words += ["--connect", f"127.0.0.1:{self.port}"]
            words += ["--cert", str(self.client.certificate), "--key", str(self.client.key)]
        if self.backend:
            words += ["--backend", f"127.0.0.1:{self.backend}"]
        if self.http:
            words += ["--http", "/"]
        return [*words, *options]

    def run(self, mode: str, seconds: float, *options: str, nice: int = 0) -> dict[str, float | str]:
        """Run it to its end and return what it measured.

        Raises:
            Failed: it measured nothing; the reason is its own.

        """
        command = self.command(mode, [*options, "--seconds", f"{seconds:g}"], nice=nice)
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=seconds + GRACE_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"gave up after {seconds + GRACE_S:g} s: {mode}") from None
        return _measured(done.stdout.decode(), done.returncode, done.stderr.decode("utf-8", "replace"))

    @contextlib.contextmanager
    def holding(self, mode: str, *options: str) -> Iterator[Held]:
        """Run `idle` or `backend` until the end of the block; both are ready when this returns.

        Raises:
            Failed: it did not come up.

        """
        with subprocess.Popen(
            self.command(mode, options), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            watchdog = threading.Timer(HELD_S, process.kill)
            watchdog.start()
            try:
                if self.backend:
                    process.stderr.readline()  # "backend ready"
                ready: dict[str, float | str] = {}
                if mode == "idle":
                    line = process.stdout.readline()
                    ready = _measured(line, 0 if '"ready":true' in line else 1, "")
                yield Held(process.pid, ready, process.stdin, process.stdout)
            finally:
                watchdog.cancel()
                process.stdin.close()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()


@dataclass
class Held:
    """Idle connections that are held, or a backend that serves; `ready` is what the generator said when it was up."""

    process: int
    ready: dict[str, float | str]
    _input: IO[str]
    _output: IO[str]

    def lost(self) -> float:
        """Let go of everything, and return how many connections had broken meanwhile."""
        self._input.close()
        return float(json.loads(self._output.readline())["lost"])


def _measured(text: str, code: int, words: str) -> dict[str, float | str]:
    try:
        measured: dict[str, float | str] = json.loads(text)
    except ValueError:
        raise Failed(f"the load generator broke off: {words.strip()[-200:] or text[-200:] or code}") from None
    if code:
        raise Failed(str(measured.get("error", f"exit code {code}")))
    return measured


def sample(measured: dict[str, float | str], figures: dict[str, float]) -> Sample:
    """Return a sample of these figures, with the generator's share and what was negotiated."""
    facts = {key: str(measured[key]) for key in ("tls", "cipher", "group") if measured.get(key)}
    if measured.get("failures"):
        facts["failures"] = f"{measured['failures']:.0f} connections failed: {measured.get('error', '')}"
    return Sample({**figures, "generator": float(measured["cpu_share"])}, facts)

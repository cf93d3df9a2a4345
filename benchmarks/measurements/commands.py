"""Commands that people wait for: keygen against openssl, and how soon the short ones answer."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.bench import Bench, Measurement
from benchmarks.contenders import Contender
from benchmarks.contenders.ourselves import CHECKOUT
from benchmarks.identities import pool
from benchmarks.results import Column, Sample, Sheet
from benchmarks.running import CONTENDER_CORE, Failed, pinned

PEERS = 100
_KEYS = (Column("seconds", "takes", "s", "less"),)
_START = (Column("ms", "takes", "ms", "less"),)


def plan(bench: Bench, contenders: Sequence[Contender]) -> list[Measurement]:
    """Plan the sheets of `keygen` and of the start-up, if peerauth takes part."""
    if not any(contender.name == "peerauth" for contender in contenders):
        return []
    keys = Sheet("keygen", "keygen", "Making an RSA-4096 key (the time is random)", _KEYS, baseline="peerauth keygen")
    start = Sheet("startup", "startup", "Start-up of commands", _START, baseline="peerauth --version")
    many = 3 if bench.quick else 9
    return [
        Measurement(keys, {"peerauth keygen": _keygen(many), "openssl genrsa 4096": _genrsa(many)}),
        Measurement(start, {
            "peerauth --version": _command(bench, "--version"),
            "peerauth --help": _command(bench, "--help"),
            f"peerauth peer list ({PEERS} peers)": _command(bench, "peer", "list"),
            "python -c pass": _python(),
        }),
    ]  # fmt: skip


def _keygen(many: int) -> Callable[[], Sample]:
    def once() -> float:
        with tempfile.TemporaryDirectory() as home:
            return _seconds(sys.executable, "-m", "peerauth", "keygen", "node", "--home", home)

    return lambda: Sample({"seconds": median(once() for _ in range(many))})


def _genrsa(many: int) -> Callable[[], Sample]:
    return lambda: Sample({"seconds": median(_seconds("openssl", "genrsa", "4096") for _ in range(many))})


def _command(bench: Bench, *words: str) -> Callable[[], Sample]:
    def measure() -> Sample:
        home = bench.directory / "home-of-commands"
        if not home.exists():
            _seconds(sys.executable, "-m", "peerauth", "keygen", "node", "--type", "p256", "--home", str(home))
            for peer in pool(bench.cache / f"pool-{PEERS}", PEERS):
                (home / "peers" / peer.name).write_bytes(peer.read_bytes())
        command = [sys.executable, "-m", "peerauth", *words]
        if "list" in words:
            command += ["--home", str(home)]
        _seconds(*command)  # reads its modules from the disk
        return Sample({"ms": 1e3 * median(_seconds(*command) for _ in range(5))})

    return measure


def _python() -> Callable[[], Sample]:
    return lambda: Sample({"ms": 1e3 * median(_seconds(sys.executable, "-c", "pass") for _ in range(5))})


def _seconds(*command: str) -> float:
    start = time.perf_counter()
    done = subprocess.run(
        pinned(CONTENDER_CORE, command),
        env={"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(Path.home())},
        capture_output=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        raise Failed(f"{' '.join(command[1:4])}: {done.stderr.decode('utf-8', 'replace').strip()[-200:]}")
    return time.perf_counter() - start

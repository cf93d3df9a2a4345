"""`peerauth serve --workers N` as a real process, with what it says, and connections in a worker of one's choice."""

from __future__ import annotations

import contextlib
import json
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.cli.running import CHECKOUT, environment
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, Yard, hear_line, identity
from tests.support.targets import echo, target

TRIES = 60  # connections until one is in a given worker of two: it fails to be once in 10^18
Facts = dict[str, Any]


class Home(Yard):
    """A node's home, its peers directory with it."""

    def __init__(self, place: Path, name: str = "node") -> None:
        self.name = name
        self.home = place / ("home" if name == "node" else name)
        self.home.mkdir(parents=True)
        super().__init__(self.home / "peers")
        self.own = identity(name)
        (self.home / f"{name}.crt").write_text(self.own.certificate.pem)
        (self.home / f"{name}.key").write_bytes(self.own.key_pem())
        (self.home / f"{name}.key").chmod(0o600)
        self.configure("")

    def configure(self, text: str) -> None:
        """Write config.toml: what stands behind the node's name."""
        (self.home / "config.toml").write_text(f'[node]\nname = "{self.name}"\n{text}')


class Serving:
    """A server that runs as processes of its own, echoing what peers say. `events` is what it has said so far."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self.process = process
        self._errors = errors
        self.events: list[Facts] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def begin(self) -> None:
        """Hear what it says, from now on."""
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.events.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self.events.append({"event": "closed"})
            self._news.notify_all()

    @property
    def errors(self) -> str:
        """What it said to people."""
        return self._errors.read_text()

    def told(self, event: str, **facts: object) -> list[Facts]:
        """What was said so far about this."""
        return [said for said in list(self.events) if said.get("event") == event and facts.items() <= said.items()]

    def hears(self, event: str, *, times: int = 1, **facts: object) -> Facts:
        """Wait until this was said so often; the last of it."""
        self.until(lambda: len(self.told(event, **facts)) >= times)
        return self.told(event, **facts)[times - 1]

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until this is true; looked at whenever something is said, and now and then."""
        give_up = time.monotonic() + DEADLINE_S
        with self._news:
            while not true():
                assert time.monotonic() < give_up, f"it never came:\n{self.events[-20:]}\n{self.errors}"
                self._news.wait(0.05)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.hears("listening")["address"].rpartition(":")[2])

    def pid(self, worker: int, times: int = 1) -> int:
        """The process that is this worker, or was at that time."""
        return int(self.hears("worker-started", worker=worker, times=times)["pid"])

    def send(self, number: signal.Signals) -> None:
        """Send the parent a signal."""
        self.process.send_signal(number)

    def counts(self, right: Callable[[Facts], bool]) -> Facts:
        """Ask for the status until it is right: a client hears of an end before it is counted."""
        give_up = time.monotonic() + DEADLINE_S
        while True:
            times = len(self.told("status")) + 1
            self.send(signal.SIGUSR1)
            status = self.hears("status", times=times)
            if right(status):
                return status
            assert time.monotonic() < give_up, status

    def wait(self) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code

    def worker_of(self, tls: ssl.SSLSocket) -> int:
        """Which worker has this connection."""
        host, port = tls.getsockname()[:2]
        return int(self.hears("admitted", address=f"{host}:{port}")["worker"])

    def in_worker(self, worker: int, caller: Caller, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        """A connection that this worker has."""
        for _ in range(TRIES):
            tls = caller.open(self.port, session=session)
            ping(tls)
            if self.worker_of(tls) == worker:
                return tls
            tls.close()
        raise AssertionError(f"worker {worker} never got a connection")


def ping(tls: ssl.SSLSocket) -> None:
    """Have something echoed."""
    tls.sendall(b"ping\n")
    heard = hear_line(tls)
    assert heard == "ping", heard


@contextlib.contextmanager
def serving(
    home: Home,
    *words: str,
    workers: int = 2,
    listen: str | None = "127.0.0.1:0",
    limits: str = "drain = 5",
    settings: str = "",
    relay: bool = True,
    behave: Callable[[Any], object] = echo,
    program: Sequence[str] = ("-m", "peerauth"),
    read: bool = True,
) -> Iterator[Serving]:
    """Serve a relay to something that echoes, or hello; ended with the block, by force if it must be.

    With `listen` None it serves what is in `settings`.
    """
    home.configure(f"{settings}\n[limits]\n{limits}\nworkers = {workers}\n")
    at = [] if listen is None else ["--listen", listen]
    with target(behave) as where:
        leads = ("--target", str(where)) if relay and listen else ()
        with started(home, "serve", *at, *leads, *words, program=program, read=read) as node:
            yield node


@contextlib.contextmanager
def started(home: Home, *words: str, program: Sequence[str] = ("-m", "peerauth"), read: bool = True) -> Iterator[Serving]:
    """Run a command that serves, by the config.toml that is there; ended with the block, by force if it must be."""
    errors = home.home.parent / f"errors-{time.monotonic_ns()}"
    with (
        errors.open("wb") as err,
        subprocess.Popen(
            [sys.executable, *program, words[0], "--home", str(home.home), "--json", *words[1:]],
            cwd=CHECKOUT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
        ) as process,
    ):
        node = Serving(process, errors)
        if read:
            node.begin()
        try:
            yield node
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def with_patch(code: str) -> tuple[str, str]:
    """The program with something changed in it before it begins."""
    return "-c", f"import sys\n{code}\nfrom peerauth.cli.main import main\nsys.exit(main())"

"""`demo`: the main job on real input, step by step, with every command that a person would type.

It runs this very program in a temporary directory, on this machine's loopback alone, and cleans up behind itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from peerauth.cli.command import command
from peerauth.cli.ui import Ui
from peerauth.errors import PeerAuthError

_PATIENCE = 30.0  # seconds, for one step on a slow machine
_REQUEST = b"GET /hello HTTP/1.1\r\nHost: db-1\r\n\r\n"


@command
def demo(ui: Ui) -> None:
    """Watch it work: two nodes pin each other, a stranger is refused, a removed peer's connection ends."""
    with tempfile.TemporaryDirectory(prefix="peerauth-demo-") as directory:
        steps = _play(_Stage(ui, Path(directory)))
    if ui.json:
        ui.emit({"demo": "done", "steps": steps})
    else:
        ui.data("\nThat was all of it. On your own machines, begin with: peerauth keygen")


def _play(stage: _Stage) -> int:
    stage.tell("Each node makes its own key and certificate; here are four: db-1, alice, bob and mallory.")
    for name in ("db-1", "alice"):
        stage.run(f"peerauth keygen {name} --home {name}")
    for name in ("bob", "mallory"):
        stage.run(f"peerauth keygen {name} --home {name} --type p256")

    stage.tell("db-1 pins alice and bob: their certificates are copied into db-1/peers/. Nobody else will be admitted.")
    stage.run("peerauth peer add alice/alice.crt bob/bob.crt --home db-1")

    stage.tell("db-1 serves; with no target of its own, the hello service.")
    with stage.background("peerauth serve --home db-1 --listen 127.0.0.1:0") as server:
        address = server.event("listening")["address"]
        stage.show(f"db-1 says hello on {address}")

        stage.tell("The others pin db-1, and note where it is.")
        for name in ("alice", "bob", "mallory"):
            stage.run(f"peerauth peer add db-1/db-1.crt --home {name} --address {address}")

        stage.tell("alice is admitted, by name.")
        stage.run("peerauth get https://db-1/hello --home alice", expect="Hello, alice!")

        stage.tell("mallory is not pinned at db-1, and is told so. So is the person at db-1.")
        stage.run("peerauth get https://db-1/hello --home mallory", exit_code=3)
        stage.show(f"db-1 reports: {server.event('refused')['message']}")

        stage.tell("alice and bob each hold a connection open.")
        with (
            stage.background("peerauth connect db-1 --home alice") as alice,
            stage.background("peerauth connect db-1 --home bob") as bob,
        ):
            alice.ask(_REQUEST, "Hello, alice!")
            bob.ask(_REQUEST, "Hello, bob!")

            stage.tell("alice is removed while both are connected: no restart, no signal.")
            stage.run("peerauth peer remove alice --home db-1")
            stage.show(f"db-1 reports: {server.event('ended')['message']}")
            stage.show(f"alice's connection ended with exit code {alice.ended()}")

            stage.tell("bob's connection goes on as if nothing had happened.")
            bob.ask(_REQUEST, "Hello, bob!")
            stage.show("Hello, bob!")

        stage.tell("And alice does not come back in.")
        stage.run("peerauth get https://db-1/hello --home alice", exit_code=3)
    return stage.steps


class _Stage:
    """Runs commands in the demo's directory and shows them as they would be typed."""

    def __init__(self, ui: Ui, directory: Path) -> None:
        self._ui = ui
        self._directory = directory
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PEERAUTH_")}
        self._environment = kept | {"NO_COLOR": "1", "PYTHONPATH": path}
        self.steps = 0

    def tell(self, text: str) -> None:
        if not self._ui.json:
            self._ui.data(f"\n# {text}")

    def show(self, text: str) -> None:
        if not self._ui.json:
            self._ui.data(text)

    def run(self, line: str, *, expect: str | None = None, exit_code: int = 0) -> None:
        """Type a command and hold it to what the demo promises."""
        self.show(f"$ {line}")
        self.steps += 1
        done = subprocess.run(
            _argv(line),
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        for text in (done.stdout, done.stderr):
            if text.strip() and not (line.startswith(("peerauth keygen", "peerauth peer")) and text is done.stderr):
                self.show(text.rstrip())
        if done.returncode != exit_code or (expect is not None and expect not in done.stdout):
            raise _failed(f"'{line}' ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")

    @contextlib.contextmanager
    def background(self, line: str) -> Iterator[_Running]:
        """A command that goes on while others run; ended with the block."""
        self.show(f"$ {line} &")
        self.steps += 1
        extra = ["--json"] if " serve " in line else []
        process = subprocess.Popen(
            [*_argv(line), *extra],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        running = _Running(line, process)
        try:
            yield running
        finally:
            running.end()


class _Running:
    """A program under way, whose output is read line by line by a thread."""

    def __init__(self, line: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._line = line
        self._process = process
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._lines.put(line.decode(errors="backslashreplace"))
        self._lines.put(None)

    def _next(self) -> str:
        try:
            line = self._lines.get(timeout=_PATIENCE)
        except queue.Empty:
            line = None
        if line is None:
            raise _failed(f"'{self._line}' fell silent")
        return line

    def event(self, name: str) -> dict[str, str]:
        """Wait for a server's event of this name."""
        while True:
            event: dict[str, str] = json.loads(self._next())
            if event["event"] == name:
                return event

    def ask(self, request: bytes, answer: str) -> None:
        """Send to the program's standard input and wait for a line with the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(request)
        self._process.stdin.flush()
        while answer not in self._next():
            pass

    def ended(self) -> int:
        """Wait for the program to end by itself."""
        return self._process.wait(_PATIENCE)

    def end(self) -> None:
        """End the program."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join(_PATIENCE)
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()


def _argv(line: str) -> Sequence[str]:
    return [sys.executable, "-m", *shlex.split(line)]


def _failed(text: str) -> PeerAuthError:
    return PeerAuthError("demo-failed", f"the demo did not go as it should: {text}")

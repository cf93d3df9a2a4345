"""Terminals in which a page's commands are typed, as a person who follows the page would type them.

Each terminal is one bash that goes on from block to block. What a page shows beneath a command is held against what came:
`…` stands for anything, a fingerprint for any fingerprint. All of standard output has to be shown; of standard error, what
is shown has to have come. A command that goes on until it is told to stop runs beside the others, until the page is done.
"""

from __future__ import annotations

import os
import queue
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.cli.running import environment
from tests.docs.pages import Block

DEADLINE_S = 30.0
PROMPT = "$ "
READY = re.compile(
    r" (says hello|relays to \S+|passes HTTP on to \S+|serves the files in \S+|runs \S+) on | leads to |^Serving HTTP on ",
    re.MULTILINE,
)
_PORTS = re.compile(r"\b(844[3-8]|5432|9080)\b")
_GOES_ON = re.compile(r"peerauth (serve\b|up\b(?!.* --check)|connect .*--listen\b)|python3 -m http.server ")
_FINGERPRINT = re.compile(r"\b(?:[0-9A-F]{2}:){31}[0-9A-F]{2}\b|\b(?:[0-9A-F]{2}:){3,31}…")
_ANY = "…"


@dataclass(frozen=True)
class Step:
    """One command and the lines that the page shows beneath it."""

    command: str
    shown: list[str]


def steps(block: Block) -> list[Step]:
    """The commands of a console block."""
    found: list[Step] = []
    for line in block.text.splitlines():
        if line.startswith(PROMPT):
            found.append(Step(line.removeprefix(PROMPT), []))
        elif found and not found[-1].shown and found[-1].command.endswith("\\"):
            found[-1] = Step(f"{found[-1].command}\n{line}", [])
        else:
            assert found, f"a console block begins with {line!r}, which is no command"
            found[-1].shown.append(line)
    return found


class Ports:
    """The ports of a page, each replaced by one that is free."""

    def __init__(self) -> None:
        self._free: dict[str, str] = {}

    def replaced(self, text: str) -> str:
        """`text` with the page's ports replaced."""
        return _PORTS.sub(lambda found: str(self.number(found[0])), text)

    def number(self, shown: str) -> int:
        """The port that stands for the one in the page."""
        if shown not in self._free:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self._free[shown] = str(probe.getsockname()[1])
        return int(self._free[shown])


def pattern(shown: Sequence[str]) -> re.Pattern[str]:
    """What these lines of a page stand for: `…` for anything in a line, and for any lines where it is one."""
    return re.compile("".join("(?:.*\n)*" if line == _ANY else _line(line) + "\n" for line in shown))


def _line(shown: str) -> str:
    return ".*".join(re.escape(part) for part in _FINGERPRINT.sub("<fingerprint>", shown).split(_ANY))


def plain(text: str) -> str:
    """What came, with any fingerprint in place of each."""
    return _FINGERPRINT.sub("<fingerprint>", text)


class Terminals:
    """Every terminal of a page, in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = Ports()
        self._own = directory / ".terminals"
        self._own.mkdir()
        shim = self._own / "peerauth"
        shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m peerauth "$@"\n')
        shim.chmod(0o755)
        path = os.pathsep.join([str(self._own), os.environ["PATH"]])
        self.environment = environment({"PATH": path, "PYTHONUNBUFFERED": "1"})
        self._shells: dict[str, _Shell] = {}
        self._going_on: list[tuple[Step, Running]] = []

    def type(self, block: Block) -> None:
        """Type a block's commands, one after the other, and compare what comes with what is shown."""
        assert block.terminal is not None
        if block.terminal not in self._shells:
            self._shells[block.terminal] = _Shell(self.directory, self._own, self.environment)
        shell = self._shells[block.terminal]
        for written in steps(block):
            step = Step(self.ports.replaced(written.command), [self.ports.replaced(line) for line in written.shown])
            if _GOES_ON.match(step.command):
                going_on = self.start(["bash", "-c", f"exec {step.command}"], Path(shell.do("pwd")[1].rstrip("\n")))
                self._going_on.append((step, going_on))
                going_on.wait_for(READY)
            else:
                _compare(step, *shell.do(step.command))

    def start(self, command: Sequence[str], directory: Path) -> Running:
        """Start something that goes on until the page is done."""
        return Running(command, directory, self.environment)

    def close(self) -> None:
        """Wait for all that the page shows of what went on, and end it."""
        try:
            for step, going_on in self._going_on:
                going_on.wait_for(*(re.compile(_line(line)) for line in step.shown))
        finally:
            for _, going_on in self._going_on:
                going_on.end()
            for shell in self._shells.values():
                shell.end()


def _compare(step: Step, code: int, out: str, err: str) -> None:
    told = f"$ {step.command}\n--- shown:\n" + "\n".join(step.shown) + f"\n--- came, with exit code {code}:\n{out}{err}"
    came_on_err = plain(err).splitlines()
    of_err = [line for line in step.shown if line != _ANY and any(re.fullmatch(_line(line), came) for came in came_on_err)]
    of_out = [line for line in step.shown if line not in of_err]
    assert pattern(of_out).fullmatch(plain(out)), told
    assert (code != 0) is any(line.startswith("error:") for line in step.shown), told


class Running:
    """A program that goes on, whose output (both streams) is read line by line."""

    def __init__(self, command: Sequence[str], directory: Path, environment: dict[str, str]) -> None:
        self._command = command
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        self._lines = _lines_of(self._process.stdout)
        self.seen = ""

    def wait_for(self, *patterns: re.Pattern[str]) -> None:
        """Wait until all of these have come, in any order, now or earlier."""
        give_up = time.monotonic() + DEADLINE_S
        while not all(one.search(plain(self.seen)) for one in patterns):
            line = _next(self._lines, give_up)
            assert line is not None, f"{self._command}: {[one.pattern for one in patterns]} never came:\n{self.seen}"
            self.seen += line

    def wait_for_port(self, port: int) -> None:
        """Wait until it listens there."""
        give_up = time.monotonic() + DEADLINE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S).close()
            except ConnectionRefusedError:
                assert time.monotonic() < give_up, f"{self._command} does not listen:\n{self.seen}"
                line = _next(self._lines, time.monotonic() + 0.05)  # what it says meanwhile; None also when it has ended
                self.seen += line or ""
                assert self._process.poll() is None, f"{self._command} has ended:\n{self.seen}"
            else:
                return

    def end(self) -> str:
        """End it; all that it said."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        while (line := _next(self._lines, time.monotonic() + DEADLINE_S)) is not None:
            self.seen += line
        return self.seen


class _Shell:
    """One bash, told by its standard input; what is typed in it reads nothing from there."""

    def __init__(self, directory: Path, own: Path, environment: dict[str, str]) -> None:
        self._own = own
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        self._lines = _lines_of(self._process.stdout)

    def do(self, command: str) -> tuple[int, str, str]:
        """(exit code, standard output, standard error) of a command. `$?` is kept for the next."""
        out, err = self._own / "out", self._own / "err"
        redirected = f"</dev/null >{shlex.quote(str(out))} 2>{shlex.quote(str(err))}"
        assert self._process.stdin is not None
        self._process.stdin.write(f'(exit ${{code:-0}})\n{{ {command}\n}} {redirected}\ncode=$?; echo "$code"\n')
        self._process.stdin.flush()
        line = _next(self._lines, time.monotonic() + DEADLINE_S)
        assert line is not None, f"nothing came of: {command}"
        return int(line), out.read_text(), err.read_text()

    def end(self) -> None:
        """Close the terminal."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(DEADLINE_S)


def _lines_of(stream: IO[str]) -> queue.Queue[str | None]:
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        with stream:
            for line in stream:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _next(lines: queue.Queue[str | None], give_up: float) -> str | None:
    """The next line; None when there is none any more, or none in time."""
    try:
        return lines.get(timeout=max(0.0, give_up - time.monotonic()))
    except queue.Empty:
        return None

"""Running `peerauth`: inside this process (fast), as a process of its own, or on a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import select
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peerauth.cli.main import main

CHECKOUT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever the command printed
        """Standard output as the one JSON value that it has to be."""
        return json.loads(self.out)


def short(text: str) -> str:
    """What was said, with the commands in it as they are where no home need be named (tests/cli/test_typed.py)."""
    return re.sub(r"\bpeerauth --home (?:'[^']*'|\S+) ", "peerauth ", text)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a command: nobody's $PEERAUTH_HOME or passphrase decides a test."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PEERAUTH_", "COV_"))}
    return {**plain, "PYTHONPATH": str(CHECKOUT), "LC_ALL": "C.UTF-8", **(extra or {})}


def peerauth(*words: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Result:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    before, streams = dict(os.environ), sys.stdin
    os.environ.clear()
    os.environ.update(environment(env))
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(word) for word in words])
    finally:
        sys.stdin = streams
        os.environ.clear()
        os.environ.update(before)
    return Result(code, out.getvalue(), err.getvalue())


def process(
    *words: str | Path,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    prefix: Sequence[str] = (),
) -> Result:
    """Run a command as a process of its own, in a session without a terminal."""
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "peerauth", *map(str, words)],
        input=stdin,
        capture_output=True,
        env=environment(env),
        cwd=cwd,
        timeout=DEADLINE_S,
        start_new_session=True,
        check=False,
    )
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


class Terminal:
    """A command on a terminal of its own, which a test reads and types into."""

    def __init__(
        self,
        *words: str | Path,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-m", "peerauth"),
    ) -> None:
        """Start it."""
        own, theirs = pty.openpty()
        self._own = own
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.on_terminal", *program, *map(str, words)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment({"TERM": "xterm", **(env or {})}),
            cwd=CHECKOUT,
            start_new_session=True,
        )
        os.close(theirs)

    def wait_for(self, pattern: str) -> None:
        """Read until `pattern` appears in what has not been waited for yet."""
        give_up = time.monotonic() + DEADLINE_S
        while (found := re.search(pattern, self.seen)) is None:
            assert self._read(give_up), f"{pattern!r} never came:\n{self.seen}"
        self.seen = self.seen[found.end() :]

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._own, text.encode() + b"\n")

    def end(self) -> tuple[int, str]:
        """Wait until it has ended; its exit code, and what it printed since the last `wait_for`."""
        give_up = time.monotonic() + DEADLINE_S
        while self._read(give_up):
            pass
        os.close(self._own)
        return self.process.wait(timeout=DEADLINE_S), self.seen

    def _read(self, give_up: float) -> bool:
        if not select.select([self._own], [], [], max(0.0, give_up - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._own, 65536)
        except OSError:  # EIO: the other side has closed the terminal
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything below `root`: kinds, modes, contents, where links lead."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = path.readlink()
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        found[str(path.relative_to(root))] = (stat.filemode(status.st_mode), content)
    return found

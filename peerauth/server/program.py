"""One command: a process of its own, which serves at a Unix socket in a directory of its own."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from peerauth.errors import PeerAuthError, printable
from peerauth.server.watched import how_it_ended
from peerauth.store import files
from peerauth.store.kinds import Command
from peerauth.store.state import DIRECTORY

VARIABLE: Final = "PEERAUTH_BACKEND"
PLACE: Final = "{backend}"  # in a word of a command: the path of its socket
_LONGEST_PATH: Final = 107  # bytes, sockaddr_un, unix(7)
_SOCKET: Final = "backend.sock"
_OURS: Final = "PEERAUTH_"
_GIVEN: Final = {"PEERAUTH_HOME"}


class Program:
    """A command that was started in this directory. Raises PeerAuthError("cannot-run")."""

    def __init__(self, command: Command, directory: Path) -> None:
        self.name = command.name
        self.directory = directory
        self.socket = directory / _SOCKET
        self.process = _popen(command, self.socket)

    def __str__(self) -> str:
        return f"{self.name} (process {self.process.pid})"

    @property
    def end(self) -> str | None:
        """How it has ended; None while it runs."""
        code = self.process.poll()
        return None if code is None else how_it_ended(code)

    @property
    def listens(self) -> bool:
        """Whether its socket is there."""
        try:
            return stat.S_ISSOCK(self.socket.stat().st_mode)
        except OSError:
            return False


def private_directory(home: Path) -> Path:
    """A fresh directory for one socket. Raises PeerAuthError("cannot-run")."""
    name = f"{os.getpid()}-{os.urandom(4).hex()}.command"
    last: PeerAuthError | None = None
    with contextlib.suppress(PeerAuthError):
        files.make_directory(home / DIRECTORY, 0o700)
    elsewhere = [os.environ.get(variable, "") for variable in ("XDG_RUNTIME_DIR", "TMPDIR")]
    for place in (home / DIRECTORY, *map(Path, filter(os.path.isabs, [*elsewhere, "/tmp"]))):  # noqa: S108 - nobody else gets in
        directory = place / name
        if len(os.fsencode(directory / _SOCKET)) > _LONGEST_PATH:
            continue
        try:
            files.make_private_directory(directory)
        except PeerAuthError as error:
            last = error
        else:
            return directory
    raise PeerAuthError("cannot-run", "there is no place for the socket of a command") from last


def _popen(command: Command, path: Path) -> subprocess.Popen[bytes]:
    words = [word.replace(PLACE, str(path)) for word in command.words]
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=_errors(),
            env=_environment(os.environ, path),
            cwd=command.directory,
            process_group=0,
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        hint = "it is looked for in $PATH; a shell's own words need a shell: sh -c '...'"
        if isinstance(error, PermissionError):
            hint = f"it is to be a file that may be executed: chmod +x {printable(words[0], 200)}"
        elif ":" in words[0]:
            hint = "an address stands after --listen or --target"
        raise PeerAuthError("cannot-run", f"cannot run {printable(words[0], 200)}: {reason}", hint) from error


def _errors() -> int:
    """Where a command's output goes: standard output is for data of ours."""
    try:
        return sys.stderr.fileno()
    except (OSError, AttributeError, ValueError):
        return subprocess.DEVNULL


def _environment(ours: Mapping[str, str], path: Path) -> dict[str, str]:
    theirs = {name: value for name, value in ours.items() if not name.startswith(_OURS) or name in _GIVEN}
    return {**theirs, VARIABLE: str(path)}

"""The commands that `serve` starts: each serves at a private Unix socket, and ends when we do.

The rules:
1. A command is started once, before there is a loop, a thread or a worker, and nobody is let in before its socket is there.
2. It has a process group of its own. Ctrl-C is for us: connections end first, and then what they lead to.
3. Beside the commands is a keeper (keeper.py), a process that waits for our end. Whatever that is, kill -9 included, it ends
   the commands, and takes the sockets away.
4. A command that ends by itself ends us. Whoever starts us knows best what to do about it.
5. It gets nothing of ours but standard error, and of our variables $PEERAUTH_HOME alone, and what it is told here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from peerauth.address import Address
from peerauth.audit import Event
from peerauth.errors import PeerAuthError, printable
from peerauth.server.keeper import GRACE_S, start_keeper, tell_group
from peerauth.server.watched import how_it_ended
from peerauth.store import files
from peerauth.store.config import Service
from peerauth.store.kinds import Command
from peerauth.store.state import DIRECTORY

VARIABLE: Final = "PEERAUTH_BACKEND"
PLACE: Final = "{backend}"  # in a word of a command: the path of its socket
START_S: Final = 60.0
_LOOK_AGAIN_S: Final = 0.02
_LONGEST_PATH: Final = 107  # bytes, sockaddr_un, unix(7)
_SOCKET: Final = "backend.sock"
_OURS: Final = "PEERAUTH_"
_GIVEN: Final = {"PEERAUTH_HOME"}


@dataclass(frozen=True)
class _Running:
    service: Service
    command: Command
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def path(self) -> Path:
        return self.directory / _SOCKET

    @property
    def end(self) -> str | None:
        """How it has ended; None while it runs."""
        code = self.process.poll()
        return None if code is None else how_it_ended(code)


class Commands:
    """The commands of these services, while the block of `running` lasts. `services`: the same ones, with their backends."""

    def __init__(self, services: tuple[Service, ...], home: Path, report: Callable[[Event], None]) -> None:
        self.services = services
        self.exit_code = 0  # of the first command that has ended by itself, as a shell has it
        self._home = home
        self._report = report
        self._directories: list[Path] = []
        self._running: list[_Running] = []
        self._keeper: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start them, and return when each has its socket; end them with the block.

        Raises PeerAuthError: `cannot-run`, `command-ended` or `command-silent`.
        """
        if not hasattr(os, "killpg"):
            raise PeerAuthError("cannot-run", "this system cannot run commands for a service: it has no process groups")
        try:
            self._start()
            yield
        finally:
            self._end()

    def ended(self) -> Event | None:
        """What to say about a command that has ended by itself, if one has."""
        for one in self._running:
            if (how := one.end) is not None:
                code = one.process.returncode
                self.exit_code = 128 - code if code < 0 else code
                text = f"{one.command.name} (process {one.process.pid}) {how}, and serve ends with it"
                return Event("command-ended", text, None, one.service.name, code="command-ended", pid=one.process.pid)
        return None

    def _start(self) -> None:
        kinds = {
            id(one.kind): one for one in self.services if isinstance(one.kind, Command)
        }  # several doors can lead to one
        for _ in kinds:
            self._directories.append(_private_directory(self._home))
        self._keeper = keeper = start_keeper(self._directories)
        assert keeper.stdin is not None
        for directory, service in zip(self._directories, kinds.values(), strict=True):
            assert isinstance(service.kind, Command)
            one = _Running(service, service.kind, directory, _popen(service.kind, directory / _SOCKET))
            self._running.append(one)
            os.write(keeper.stdin.fileno(), f"{one.process.pid}\n".encode())
            text = f"{one.command.name} is process {one.process.pid}"
            self._report(Event("command-started", text, service=service.name, pid=one.process.pid))
        self.services = tuple(map(self._with_backend, self.services))
        give_up = time.monotonic() + START_S
        for one in self._running:
            self._wait_for(one, give_up)

    def _with_backend(self, service: Service) -> Service:
        for one in self._running:
            if one.command is service.kind:
                return replace(service, kind=replace(one.command, backend=Address(path=str(one.path))))
        return service

    def _wait_for(self, one: _Running, give_up: float) -> None:
        hint = f"it is to listen at the Unix socket ${VARIABLE}, {PLACE} in its words: gunicorn --bind unix:{PLACE} app:app"
        while not _is_socket(one.path):
            for each in self._running:
                if (how := each.end) is not None:
                    raise PeerAuthError("command-ended", f"{each.command.name} {how} before it served", hint)
            if time.monotonic() > give_up:
                raise PeerAuthError("command-silent", f"{one.command.name} has made no socket within {START_S:g} s", hint)
            time.sleep(_LOOK_AGAIN_S)

    def _end(self) -> None:
        """Let go of the keeper, who does the rest, and wait."""
        keeper = self._keeper
        if keeper is not None and keeper.stdin is not None:
            keeper.stdin.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # uvloop leaves one of its own, which does nothing
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C once more, and for good
            for one in self._running:
                if keeper is None or keeper.poll():  # it was killed
                    tell_group(one.process.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    one.process.wait(GRACE_S + 1)
        for one in self._running:
            if one.process.poll() is None:
                tell_group(one.process.pid, signal.SIGKILL)
                one.process.wait()
        if keeper is not None:
            keeper.wait()
        for directory in self._directories:
            files.remove_tree(directory)


def _private_directory(home: Path) -> Path:
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


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False

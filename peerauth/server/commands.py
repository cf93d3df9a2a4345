"""The commands that `serve` starts: each serves at a private Unix socket, and ends when we do.

The rules:
1. A command is started once, by the process that has no workers above it, and nobody is let in before its socket is there.
2. It has a process group of its own. Ctrl-C is for us: connections end first, and then what they lead to.
3. Beside the commands is a keeper (keeper.py), a process that waits for our end. Whatever that is, kill -9 included, it ends
   the commands, and takes the sockets away. It is told of a command before there is one.
4. A command that ends by itself ends us. Whoever starts us knows best what to do about it.
5. One that no service has any more ends in the same way as with us, when the last who was connected to it has gone.
6. It gets nothing of ours but standard error, and of our variables $PEERAUTH_HOME alone, and what it is told here.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from peerauth.address import Address
from peerauth.audit import Event
from peerauth.errors import PeerAuthError
from peerauth.server.keeper import GRACE_S, Keeper, tell_group
from peerauth.server.program import PLACE, VARIABLE, Program, private_directory
from peerauth.store import files
from peerauth.store.config import Service
from peerauth.store.kinds import Command

START_S: Final = 60.0
_LOOK_AGAIN_S: Final = 0.02  # at whether a socket is there


class _State(enum.Enum):
    STARTING = enum.auto()
    SERVING = enum.auto()
    LEAVING = enum.auto()  # nobody comes any more; who is connected has time to end
    ENDING = enum.auto()


@dataclass(eq=False)
class _Running:
    program: Program
    service: str
    state: _State = _State.STARTING
    waiting: set[int] = field(default_factory=set)  # the workers in which somebody may be connected
    due: float = 0.0  # when what it is doing is made to end


class Commands:
    """The commands of a node, while the block of `running` lasts. `report` is told when one starts, and when it is gone."""

    def __init__(self, home: Path, report: Callable[[Event], None]) -> None:
        self.exit_code = 0  # of the first command that has ended by itself, as a shell has it
        self.report = report
        self._home = home
        self._running: list[_Running] = []
        self._keeper: Keeper | None = None

    @contextlib.contextmanager
    def running(self, services: tuple[Service, ...]) -> Iterator[tuple[Service, ...]]:
        """Start those of these services, and go on when each has its socket: the same services, led to their backends.

        All commands end with the block. Raises PeerAuthError: `cannot-run`, `command-ended` or `command-silent`.
        """
        try:
            services = self.start(services)
            while not self.are_ready():
                time.sleep(_LOOK_AGAIN_S)
            self.go_over(services, (), 0)
            yield services
        finally:
            self._end()

    def start(self, services: tuple[Service, ...]) -> tuple[Service, ...]:
        """Start those of these services that do not run: the same services, led to where their backends will be.

        Raises PeerAuthError("cannot-run"), and none of them runs.
        """
        kinds = {id(one.kind): one for one in services if isinstance(one.kind, Command) and one.kind.backend is None}
        led: dict[int, Command] = {}  # several doors can lead to one
        if kinds and not hasattr(os, "killpg"):
            raise PeerAuthError("cannot-run", "this system cannot run commands for a service: it has no process groups")
        try:
            for service in kinds.values():
                assert isinstance(service.kind, Command)
                program = self._started(service.kind, service.name)
                led[id(service.kind)] = replace(service.kind, backend=Address(path=str(program.socket)))
        except PeerAuthError:
            self.abandon()
            raise
        return tuple(replace(one, kind=led[id(one.kind)]) if id(one.kind) in led else one for one in services)

    def are_ready(self) -> bool:
        """Whether those that were started have their sockets. Raises PeerAuthError: `command-ended` or `command-silent`."""
        hint = f"it is to listen at the Unix socket ${VARIABLE}, {PLACE} in its words: gunicorn --bind unix:{PLACE} app:app"
        starting = [one for one in self._running if one.state is _State.STARTING]
        for one in starting:
            if (how := one.program.end) is not None:
                raise PeerAuthError("command-ended", f"{one.program.name} {how} before it served", hint)
        silent = [one for one in starting if not one.program.listens]
        if silent and time.monotonic() > silent[0].due:
            name = silent[0].program.name
            raise PeerAuthError("command-silent", f"{name} has made no socket within {START_S:g} s", hint)
        return not silent

    async def until_ready(self) -> None:
        """Go on when they have. Raises PeerAuthError, as `are_ready` does."""
        while not self.are_ready():  # noqa: ASYNC110 - of a socket that is made, no loop tells
            await asyncio.sleep(_LOOK_AGAIN_S)

    def abandon(self) -> None:
        """Nothing comes of those that were started."""
        for one in self._running:
            if one.state is _State.STARTING:
                self._send_away(one)

    def go_over(self, services: Iterable[Service], workers: Iterable[int], drain: float) -> None:
        """These services are what runs now. In these workers, connections to others get so many seconds to end."""
        served = {service.backend for service in services}
        for one in self._running:
            if one.state is _State.STARTING:
                one.state = _State.SERVING
            elif one.state is _State.SERVING and str(one.program.socket) not in served:
                one.state, one.waiting, one.due = _State.LEAVING, set(workers), time.monotonic() + drain + GRACE_S

    def left(self, backend: str | None, worker: int) -> None:
        """In this worker, nobody is connected any more to what no service leads to."""
        for one in self._running:
            if str(one.program.socket) == backend:
                one.waiting.discard(worker)

    def gone(self, worker: int) -> None:
        """This worker is dead."""
        for one in self._running:
            one.waiting.discard(worker)

    @property
    def due(self) -> float | None:
        """When to look again, if nothing happens before: that a command is ready, nobody tells."""
        if any(one.state is _State.STARTING for one in self._running):
            return time.monotonic() + _LOOK_AGAIN_S
        return min((one.due for one in self._running if one.state is not _State.SERVING), default=None)

    def tend(self) -> Event | None:
        """Do what it is time for; what to say about a command that has ended by itself, if one has."""
        now = time.monotonic()
        for one in list(self._running):
            how = one.program.end
            if one.state is _State.SERVING and how is not None:
                code = one.program.process.returncode
                self.exit_code = 128 - code if code < 0 else code
                return _said(Event("command-ended", f"{how}, and serve ends with it", code="command-ended"), one)
            if one.state is _State.LEAVING and (how is not None or not one.waiting or now >= one.due):
                self._send_away(one)
            elif one.state is _State.ENDING and how is not None:
                self._running.remove(one)
                files.remove_tree(one.program.directory)
                self.report(_said(Event("command-stopped", f"is not needed any more, and {how}"), one))
            elif one.state is _State.ENDING and now >= one.due:
                tell_group(one.program.process.pid, signal.SIGKILL)
                one.due = now + GRACE_S
        return None

    def _started(self, command: Command, service: str) -> Program:
        keeper = self._living_keeper()
        directory = private_directory(self._home)
        keeper.keep(directory)
        try:
            program = Program(command, directory)
        except PeerAuthError:
            files.remove_tree(directory)
            raise
        keeper.keep(directory, program.process.pid)
        one = _Running(program, service, due=time.monotonic() + START_S)
        self._running.append(one)
        text = f"{program.name} is process {program.process.pid}"
        self.report(Event("command-started", text, service=service, pid=program.process.pid))
        return program

    def _living_keeper(self) -> Keeper:
        if self._keeper is None or not self._keeper.is_there:
            try:
                self._keeper = Keeper()
            except OSError as error:
                raise PeerAuthError("cannot-run", f"cannot start what looks after commands: {error.strerror}") from error
            for one in self._running:
                self._keeper.keep(one.program.directory, one.program.process.pid)
        return self._keeper

    def _send_away(self, one: _Running) -> None:
        one.state, one.due = _State.ENDING, time.monotonic() + GRACE_S + 1
        if self._keeper is not None and self._keeper.is_there:
            self._keeper.end(one.program.directory)
        else:  # it was killed
            tell_group(one.program.process.pid, signal.SIGTERM)

    def _end(self) -> None:
        """Let go of the keeper, who does the rest, and wait."""
        keeper = self._keeper
        if keeper is None:
            return
        keeper.let_go()
        processes = [one.program.process for one in self._running]
        signal.signal(signal.SIGINT, signal.default_int_handler)  # uvloop leaves one of its own, which does nothing
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C once more, and for good
            for process in processes:
                if not keeper.is_there:
                    tell_group(process.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE_S + 1)
        for process in processes:
            if process.poll() is None:
                tell_group(process.pid, signal.SIGKILL)
                process.wait()
        keeper.wait()
        for one in self._running:
            files.remove_tree(one.program.directory)


def _said(event: Event, one: _Running) -> Event:
    text = f"{one.program} {event.message}"
    return replace(event, message=text, service=one.service, pid=one.program.process.pid)

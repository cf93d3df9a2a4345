"""The parent of several workers has them go over to another config.toml: all of them, or none.

It starts the commands that are new, opens what is to listen, hands it to every worker, and waits until each has said that it
is ready to go over. One that cannot, or does not answer, keeps all as they are. One that dies meanwhile is not waited for:
its successor begins anew. Told to go over, each says when it has, and one that does not is ended, as it would serve on by
what is not so any more; then it is said that the change was made.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from peerauth.address import Address
from peerauth.audit import Event
from peerauth.errors import BadInput, PeerAuthError
from peerauth.net.sockets import close_listener, open_for_workers, open_listeners
from peerauth.server.change import Rows, Sockets, send_config, send_number, send_rows, send_way
from peerauth.server.commands import Commands
from peerauth.server.contexts import EVERY_SPEECH
from peerauth.server.job import Job
from peerauth.server.plan import Plan, taken_over, unchanged
from peerauth.server.site import PATIENCE, open_new
from peerauth.server.watched import Watched
from peerauth.server.worker import ABANDON, GO_OVER, STEP_BACK, Estate
from peerauth.store.config import read_config
from peerauth.store.socketfile import SocketFile


@dataclass(frozen=True)
class _Asked:
    """A configuration whose commands are starting."""

    data: bytes
    after: Job
    restart: list[str]


@dataclass
class _UnderWay:
    plan: Plan
    restart: list[str]
    doors: list[Rows | None]
    ways: list[Sockets | None]
    new: list[Sockets]  # all of these
    waiting: set[Watched]
    due: float
    is_made: bool = False  # they are told to go over, and waited for until they have


class Reloading:
    """What the workers do, and how that becomes something else. `say` says what came of it."""

    def __init__(self, job: Job, estate: Estate, say: Callable[[Event], None]) -> None:
        self.job = job
        self.estate = estate
        self._say = say
        if job.commands is not None:
            job.commands.report = say
        self._wanted = False
        self._number = 0  # of the latest change
        self._asked: _Asked | None = None
        self._under_way: _UnderWay | None = None

    def want(self) -> None:
        """Look at config.toml as soon as every worker that there is can go along."""
        self._wanted = self.job.choose is not None

    @property
    def is_under_way(self) -> bool:
        """Whether workers are getting ready: none is started meanwhile, for it would know neither the old nor the new."""
        return self._under_way is not None and not self._under_way.is_made

    @property
    def due(self) -> float | None:
        """When the patience with them ends, or it is time for a command."""
        times = [self.job.commands.due if self.job.commands else None, self._under_way.due if self._under_way else None]
        return min((moment for moment in times if moment is not None), default=None)

    def go_on(self, workers: list[Watched], *, deaf: bool) -> bool:
        """Begin, end, or give up, if it is time to. True when they have gone over. `deaf`: nobody hears them now."""
        change = self._under_way
        if change is None:
            there = [worker for worker in workers if worker.pid is not None]
            if there and all(worker.ready for worker in there):
                self._begin_if_asked(there)
        elif not change.waiting:
            if change.is_made:
                self._made(change)
                return True
            self._go_over(change, workers)
        elif time.monotonic() >= change.due and change.is_made:
            for worker in () if deaf else change.waiting:
                worker.kill()
            change.due = time.monotonic() + PATIENCE
        elif time.monotonic() >= change.due:
            names = ", ".join(sorted(worker.shown for worker in change.waiting))
            self._give_up(BadInput("not-prepared", f"{names} did not get ready in {PATIENCE:g} s"), workers)
        return False

    def heard(self, worker: Watched, kind: str, value: Any, workers: list[Watched]) -> bool:  # noqa: ANN401 - as it was said
        """A worker says something; whether that is for us."""
        if kind == "prepared":
            self._prepared(worker, value, workers)
        elif kind == "gone-over":
            self._arrived(worker, value)
        elif kind == "left" and self.job.commands is not None:
            self.job.commands.left(value, worker.number)
        else:
            return False
        return True

    def _prepared(self, worker: Watched, answer: object, workers: list[Watched]) -> None:
        """It is ready to go over, or cannot."""
        if not self.is_under_way or not isinstance(answer, dict) or answer.get("change") != self._number:
            return
        assert self._under_way is not None
        self._under_way.waiting.discard(worker)
        if error := answer.get("error"):
            self._give_up(BadInput(str(error.get("code")), str(error.get("message")), error.get("hint")), workers)

    def _arrived(self, worker: Watched, number: object) -> None:
        """It has gone over."""
        if self._under_way is not None and self._under_way.is_made and number == self._number:
            self._under_way.waiting.discard(worker)

    def gone(self, worker: Watched) -> None:
        """A worker is dead."""
        if self._under_way is not None:
            self._under_way.waiting.discard(worker)
        if self.job.commands is not None:
            self.job.commands.gone(worker.number)

    def end(self) -> None:
        """The node stops: close what was opened for a change that nothing comes of."""
        change, self._under_way, self._asked, self._wanted = self._under_way, None, None, False
        if change is not None and not change.is_made:
            _close(change.new)

    def open(self) -> None:
        """Open what everything listens at, before there are workers. Raises PeerAuthError("cannot-listen")."""
        estate, job = self.estate, self.job
        for speech in EVERY_SPEECH:  # so the tickets of all workers are good for all
            estate.contexts.get(speech)
        for service in job.services:
            rows = open_for_workers(service.listen, estate.tally.workers, service.file)
            self.estate = replace(self.estate, doors=(*self.estate.doors, rows))
        for tunnel in job.tunnels:
            self.estate = replace(self.estate, ways=(*self.estate.ways, open_listeners(tunnel.listen, tunnel.file)))

    def _begin_if_asked(self, workers: list[Watched]) -> None:
        new: list[Sockets] = []
        try:
            if self._wanted and self._asked is None:
                self._wanted = False
                self._ask()
            asked = self._asked
            if asked is None or not self._commands.are_ready():
                return
            plan = Plan.of(self.job, asked.after)
            doors, ways = self._open(plan, new)
        except PeerAuthError as error:
            self._refuse(error, new)
            return
        self._under_way = _UnderWay(plan, asked.restart, doors, ways, new, set(workers), time.monotonic() + PATIENCE)
        self._begin(self._under_way, asked.data, workers)

    @property
    def _commands(self) -> Commands:
        assert self.job.commands is not None, "who follows config.toml can run what it asks for"
        return self.job.commands

    def _ask(self) -> None:
        """Read config.toml, and start the commands that are new. Raises PeerAuthError."""
        data = read_config(self.job.config.path.parent)
        after, restart = self.job.after(data, self.estate.tally.most)
        after = replace(after, services=self._commands.start(after.services))
        self._asked = _Asked(data, after, restart)

    def _refuse(self, error: PeerAuthError, new: list[Sockets]) -> None:
        self._asked = self._under_way = None
        self._commands.abandon()
        _close(new)
        for event in unchanged(error):
            self._say(event)

    def _begin(self, change: _UnderWay, data: bytes, workers: list[Watched]) -> None:
        self._number += 1
        self._asked = None
        for worker in workers:
            assert worker.channel is not None
            try:
                send_number(worker.channel, self._number)
                for rows in change.doors:
                    if rows is not None:
                        send_rows(worker.channel, rows)
                for way in change.ways:
                    if way is not None:
                        send_way(worker.channel, way)
                send_config(worker.channel, data, change.plan.after.backends)
            except OSError:  # it has not listened for long, or is dead already
                worker.kill()

    def _open(self, plan: Plan, new: list[Sockets]) -> tuple[list[Rows | None], list[Sockets | None]]:
        estate = self.estate

        def door_at(address: Address, file: SocketFile, *, joining: bool) -> Rows:
            rows = open_for_workers(address, estate.tally.workers, file, joining=joining)
            new.extend(rows)
            return rows

        def way_at(address: Address, file: SocketFile, *, joining: bool) -> Sockets:
            new.append(open_listeners(address, file, joining=joining))
            return new[-1]

        doors = zip(self.job.services, estate.doors, strict=True)
        held = [(service.listen, [sock for row in rows for sock in row]) for service, rows in doors]
        held += [(tunnel.listen, way) for tunnel, way in zip(self.job.tunnels, estate.ways, strict=True)]
        return open_new(plan, held, door_at, way_at)

    def _go_over(self, change: _UnderWay, workers: list[Watched]) -> None:
        try:
            self._commands.are_ready()
        except PeerAuthError as error:  # one has ended meanwhile
            self._give_up(error, workers)
            return
        for worker in workers:
            if worker.stand_in is not None:
                worker.stand_in.tell(STEP_BACK, worker.number)
                worker.stand_in = None
        before = self.estate.all()
        self.job, self.estate = change.plan.after, self.estate.after(change.plan, change.doors, change.ways)
        for worker in workers:
            worker.tell(GO_OVER)
        for sock in before - self.estate.all():
            close_listener(sock)
        change.waiting = {worker for worker in workers if worker.pid is not None}
        change.due, change.is_made = time.monotonic() + PATIENCE, True
        numbers = [worker.number for worker in change.waiting]
        self._commands.go_over(self.job.services, numbers, self.job.config.limits.drain)

    def _made(self, change: _UnderWay) -> None:
        self._under_way = None
        for event in taken_over(change.plan, change.restart):
            self._say(event)

    def _give_up(self, error: PeerAuthError, workers: list[Watched]) -> None:
        assert self._under_way is not None
        for worker in workers:
            worker.tell(ABANDON)
        self._refuse(error, self._under_way.new)


def _close(rows: list[Sockets]) -> None:
    for sock in {sock for row in rows for sock in row}:
        close_listener(sock)

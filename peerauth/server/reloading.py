"""The parent of several workers has them go over to another config.toml: all of them, or none.

It opens what is new, hands it to every worker, and waits until each has said that it is ready to go over. One that cannot,
or does not answer, keeps all as they are. One that dies meanwhile is not waited for: its successor begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from peerauth.address import Address
from peerauth.errors import BadInput, PeerAuthError
from peerauth.net.sockets import close_listener, open_for_workers, open_listeners
from peerauth.server.audit import Event
from peerauth.server.change import Rows, Sockets, send_config, send_number, send_rows, send_way
from peerauth.server.job import Job
from peerauth.server.offers import EVERY_SPEECH
from peerauth.server.plan import Plan, taken_over, unchanged
from peerauth.server.site import PATIENCE, open_new
from peerauth.server.watched import Watched
from peerauth.server.worker import ABANDON, GO_OVER, STEP_BACK, Estate
from peerauth.store.config import read_config
from peerauth.store.socketfile import SocketFile


@dataclass
class _UnderWay:
    plan: Plan
    restart: list[str]
    doors: list[Rows | None]
    ways: list[Sockets | None]
    new: list[Sockets]  # all of these
    waiting: set[Watched]
    due: float


class Reloading:
    """What the workers do, and how that becomes something else. `say` says what came of it."""

    def __init__(self, job: Job, estate: Estate, say: Callable[[Event], None]) -> None:
        self.job = job
        self.estate = estate
        self._say = say
        self._wanted = False
        self._number = 0  # of the latest change
        self._under_way: _UnderWay | None = None

    def want(self) -> None:
        """Look at config.toml as soon as every worker that there is can go along."""
        self._wanted = self.job.choose is not None

    @property
    def is_under_way(self) -> bool:
        """Whether workers are getting ready: none is started meanwhile, for it would know neither the old nor the new."""
        return self._under_way is not None

    @property
    def due(self) -> float | None:
        """When the patience with them ends."""
        return self._under_way.due if self._under_way else None

    def go_on(self, workers: list[Watched]) -> bool:
        """Begin, end, or give up, if it is time to. True when they have gone over."""
        change = self._under_way
        if change is None:
            there = [worker for worker in workers if worker.pid is not None]
            if self._wanted and there and all(worker.ready for worker in there):
                self._wanted = False
                self._begin(there)
        elif not change.waiting:
            self._go_over(change, workers)
            return True
        elif time.monotonic() >= change.due:
            names = ", ".join(sorted(worker.shown for worker in change.waiting))
            self._give_up(BadInput("not-prepared", f"{names} did not get ready in {PATIENCE:g} s"), workers)
        return False

    def heard(self, worker: Watched, answer: Any, workers: list[Watched]) -> None:  # noqa: ANN401 - as the worker said it
        """A worker is ready to go over, or cannot."""
        if self._under_way is None or not isinstance(answer, dict) or answer.get("change") != self._number:
            return
        self._under_way.waiting.discard(worker)
        if error := answer.get("error"):
            self._give_up(BadInput(str(error.get("code")), str(error.get("message")), error.get("hint")), workers)

    def gone(self, worker: Watched) -> None:
        """A worker is dead."""
        if self._under_way is not None:
            self._under_way.waiting.discard(worker)

    def end(self) -> None:
        """The node stops: close what was opened for a change that nothing comes of."""
        change, self._under_way, self._wanted = self._under_way, None, False
        if change is not None:
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

    def _begin(self, workers: list[Watched]) -> None:
        new: list[Sockets] = []
        try:
            data = read_config(self.job.config.path.parent)
            after, restart = self.job.after(data, self.estate.tally.most)
            plan = Plan.of(self.job, after)
            doors, ways = self._open(plan, new)
        except PeerAuthError as error:
            _close(new)
            self._say(unchanged(error))
            return
        self._number += 1
        self._under_way = _UnderWay(plan, restart, doors, ways, new, set(workers), time.monotonic() + PATIENCE)
        for worker in workers:
            assert worker.channel is not None
            try:
                send_number(worker.channel, self._number)
                for rows in doors:
                    if rows is not None:
                        send_rows(worker.channel, rows)
                for way in ways:
                    if way is not None:
                        send_way(worker.channel, way)
                send_config(worker.channel, data)
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
        self._under_way = None
        for event in taken_over(change.plan, change.restart):
            self._say(event)

    def _give_up(self, error: PeerAuthError, workers: list[Watched]) -> None:
        change, self._under_way = self._under_way, None
        assert change is not None
        for worker in workers:
            worker.tell(ABANDON)
        _close(change.new)
        self._say(unchanged(error))


def _close(rows: list[Sockets]) -> None:
    for sock in {sock for row in rows for sock in row}:
        close_listener(sock)

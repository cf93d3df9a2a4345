"""A worker: one of several processes that serve the same node, forked from a parent that is neither loop nor thread.

It obeys its parent alone, by words on its channel; signals from elsewhere are for the parent. When the channel ends, the
parent is dead, and so is the worker: nobody would tell it of anything any more, and a door that nobody watches is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from peerauth.errors import PeerAuthError
from peerauth.net.sockets import bound_address
from peerauth.server.change import Coming, Rows, Words, received_rows
from peerauth.server.channel import LogHandler, Outbox, Reporter
from peerauth.server.contexts import Contexts
from peerauth.server.job import Job
from peerauth.server.plan import Plan, as_said
from peerauth.server.server import Inherited, Server
from peerauth.server.site import Place, Site
from peerauth.server.tally import Tally
from peerauth.server.unless_told import unless_told
from peerauth.services.app_failed import as_data
from peerauth.store.config import Service
from peerauth.store.tunnels import Tunnel

LOOK, DRAIN, NOW, STAND_IN, STEP_BACK = "look", "drain", "now", "stand-in", "step-back"
GO_OVER, ABANDON = "go-over", "abandon"


@dataclass(frozen=True)
class Estate:
    """What the parent has made for its workers.

    `doors`: by service, by worker, the sockets that it listens at; `ways`: by tunnel, those of all workers together.
    """

    doors: tuple[Rows, ...]
    contexts: Contexts
    tally: Tally
    ways: tuple[list[socket.socket], ...] = ()

    def at(self, worker: int) -> list[list[socket.socket]]:
        """The sockets of a worker, service by service."""
        return [rows[worker] for rows in self.doors]

    def places(self, job: Job) -> list[Place]:
        """The services and tunnels of this job, and where they listen."""
        ways: Iterable[tuple[Service | Tunnel, list[socket.socket]]] = zip(job.tunnels, self.ways, strict=True)
        doors = zip(job.services, self.at(0), strict=True)
        return [(thing, bound_address(sock)) for thing, sockets in (*doors, *ways) for sock in sockets]

    def all(self) -> set[socket.socket]:
        """Every socket."""
        return {sock for rows in (*self.doors, self.ways) for row in rows for sock in row}

    def after(self, plan: Plan, doors: Sequence[Rows | None], ways: Sequence[list[socket.socket] | None]) -> Estate:
        """The estate for the job that follows; `doors`, `ways`: what was opened for what is new."""
        kept = [self.doors[n] if n is not None else rows for n, rows in zip(plan.services, doors, strict=True)]
        held = [self.ways[n] if n is not None else way for n, way in zip(plan.tunnels, ways, strict=True)]
        return replace(
            self,
            doors=tuple(rows for rows in kept if rows is not None),
            ways=tuple(way for way in held if way is not None),
        )


def work(number: int, job: Job, estate: Estate, channel: socket.socket) -> None:
    """Be the worker of this number (from 0) until told to end, or until the parent is dead."""
    channel.setblocking(False)
    job.run(_Worker(number, job, estate, channel).main())


class _Worker:
    def __init__(self, number: int, job: Job, estate: Estate, channel: socket.socket) -> None:
        self._number = number
        self._job = job
        self._estate = estate
        self._channel = channel
        self._ending: asyncio.Queue[str] = asyncio.Queue()
        self._words = Words(channel)
        self._coming = Coming()
        self._preparing: asyncio.Task[None] | None = None

    async def main(self) -> None:
        """Serve, and end as told."""
        outbox = self._outbox = Outbox(self._channel)
        # What nobody else takes: an application may make of its logging what it likes, as it does with one worker.
        logging.lastResort = LogHandler(outbox.post)
        try:
            server = self._make(outbox)
            asyncio.get_running_loop().add_reader(self._channel.fileno(), self._listen)
            opening = self._site.open(self._estate.at(self._number), self._estate.ways)
            if await unless_told(opening, self._ending) is not None:
                await server.stop(0)
                return
            outbox.post("ready", True)
            told = await self._ending.get()
            self._close_others(server)
            if told == DRAIN:
                await server.drain(self._ending.get())
            else:
                await server.stop(0)
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
        except PeerAuthError as error:
            await self._site.server.stop(0)
            outbox.post("failed", as_data(error))
            raise
        except Exception:
            logging.getLogger("peerauth").exception("worker %d failed", self._number + 1)  # its parent says so
            raise
        finally:
            outbox.close()

    def _make(self, outbox: Outbox) -> Server:
        estate = self._estate
        inherited = Inherited(Reporter(outbox.post, time.monotonic), estate.contexts, estate.tally.share(self._number))
        self._site = Site(self._job, self._job.server(lambda _: None, inherited))
        self._site.server.doors.left = lambda backend: outbox.post("left", backend)
        return self._site.server

    def _listen(self) -> None:
        words = self._words.read()
        if words is None:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._ending.put_nowait(NOW)
            return
        for word in words:
            self._obey(*word)

    def _obey(self, word: str, *about: str) -> None:
        server, numbers = self._site.server, [int(number) for number in about]
        match word:
            case "look":
                server.look_again()
            case "stand-in":
                server.doors.stand_in(self._lent(*numbers))
            case "step-back":
                server.doors.step_back(self._lent(*numbers))
            case "change":
                self._forget()
                (self._coming.number,) = numbers
            case "door":
                self._coming.doors.append(received_rows(self._words, *numbers))
            case "way":
                self._coming.ways.append(self._words.sockets(*numbers))
            case "prepare":
                work = self._prepare(self._coming, *self._words.config(), self._preparing)
                self._preparing = asyncio.get_running_loop().create_task(work)
            case "go-over":
                self._go_over()
            case "abandon":
                self._forget()
                self._preparing = asyncio.get_running_loop().create_task(self._abandon(self._preparing))
            case _:
                self._ending.put_nowait(word)

    async def _prepare(
        self, coming: Coming, config: bytes, backends: list[str | None], before: asyncio.Task[None] | None
    ) -> None:
        """Do what may fail of going over to another configuration, and tell the parent what came of it."""
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)
        answer: dict[str, object] = {"change": coming.number}
        try:
            after, _ = self._job.after(config, self._estate.tally.most)
            coming.plan = Plan.of(self._job, after.led_to(backends))
            await self._site.prepare(coming.plan)
        except Exception as error:  # noqa: BLE001 - of somebody's application, perhaps: all goes on as before
            said = as_said(error)
            answer["error"] = {"code": said.code, "message": said.message, "hint": said.hint}
        self._outbox.post("prepared", answer)

    async def _abandon(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)
        await self._site.abandon()

    def _forget(self) -> None:
        """Nothing comes of what was sent."""
        self._coming.close()
        self._coming = Coming()
        if self._preparing is not None:
            self._preparing.cancel()

    def _go_over(self) -> None:
        coming, before = self._coming, self._estate.all()
        plan = coming.plan
        assert plan is not None
        doors, ways = coming.placed()
        self._site.go_over(plan, [None if rows is None else rows[self._number] for rows in doors], ways)
        self._job, self._estate = plan.after, self._estate.after(plan, doors, ways)
        self._close(before - self._estate.all())
        self._coming = Coming()
        self._outbox.post("gone-over", coming.number)

    def _lent(self, worker: int) -> list[list[socket.socket]]:
        """The sockets of another worker that are not ours as well."""
        mine = {sock for sockets in self._estate.at(self._number) for sock in sockets}
        return [[sock for sock in sockets if sock not in mine] for sockets in self._estate.at(worker)]

    def _close_others(self, server: Server) -> None:
        """Nobody may wait at a door behind which nobody is any more: every process closes every socket."""
        for worker in range(self._estate.tally.workers):
            server.doors.step_back(self._lent(worker))
        mine = {sock for sockets in self._estate.at(self._number) for sock in sockets}
        self._close(self._estate.all() - mine - {sock for way in self._estate.ways for sock in way})

    def _close(self, sockets: Iterable[socket.socket]) -> None:
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.close()

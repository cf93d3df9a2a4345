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
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from peerauth.address import Address
from peerauth.errors import PeerAuthError
from peerauth.net.sockets import bound_address
from peerauth.server.app_failed import as_data
from peerauth.server.audit import Event
from peerauth.server.channel import LogHandler, Outbox, Reporter
from peerauth.server.contexts import Contexts
from peerauth.server.server import Inherited, Server
from peerauth.server.tally import Tally
from peerauth.server.unless_told import unless_told
from peerauth.store.config import Config, Service
from peerauth.store.own import Own
from peerauth.store.peerdir import PeerDirectory
from peerauth.trust.identity import Identity

LOOK, DRAIN, NOW, STAND_IN, STEP_BACK = "look", "drain", "now", "stand-in", "step-back"
_LONGEST_WORDS = 4096


@dataclass(frozen=True)
class Job:
    """What all workers do. `run` runs the main coroutine of a process on the event loop of its choice.

    `own`: where the identity is followed; `also`: what goes on beside the services, in each of them; `ended`: what to say
    about something without which there is nothing to serve any more.
    """

    identity: Identity
    peers: PeerDirectory
    services: tuple[Service, ...]
    config: Config
    run: Callable[[Coroutine[Any, Any, None]], None]
    own: Own | None = None
    also: Callable[[Callable[[Event], None]], Coroutine[Any, Any, None]] | None = None
    ended: Callable[[], Event | None] | None = None

    def server(self, sink: Callable[[Event], None], inherited: Inherited | None = None) -> Server:
        """A server for this process, which has no services yet."""
        config = self.config
        server = Server(
            self.own.identity if self.own else self.identity,
            self.peers,
            sink,
            limits=config.limits,
            min_tls=config.min_tls,
            inherited=inherited,
            config=config,
            own=self.own,
        )
        if self.also is not None:
            server.do_also(self.also(server.report))
        return server


@dataclass(frozen=True)
class Estate:
    """What the parent has made for its workers. `doors`: by service, by worker, the sockets that it listens at."""

    doors: tuple[list[list[socket.socket]], ...]
    contexts: Contexts
    tally: Tally

    def at(self, worker: int) -> list[list[socket.socket]]:
        """The sockets of a worker, service by service."""
        return [rows[worker] for rows in self.doors]

    def places(self, services: tuple[Service, ...]) -> list[tuple[Service, Address]]:
        """The services, and where they listen."""
        rows = zip(services, self.doors, strict=True)
        return [(service, bound_address(sock)) for service, doors in rows for sock in doors[0]]

    def all(self) -> set[socket.socket]:
        """Every socket."""
        return {sock for rows in self.doors for row in rows for sock in row}


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
        self._heard = b""
        self._ending: asyncio.Queue[str] = asyncio.Queue()
        self._server: Server | None = None

    async def main(self) -> None:
        """Serve, and end as told."""
        outbox = Outbox(self._channel)
        # What nobody else takes: an application may make of its logging what it likes, as it does with one worker.
        logging.lastResort = LogHandler(outbox.post)
        try:
            server = self._server = self._make(outbox)
            asyncio.get_running_loop().add_reader(self._channel.fileno(), self._listen)
            if await unless_told(self._open(server), self._ending) is not None:
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
            if self._server is not None:
                await self._server.stop(0)
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
        return self._job.server(lambda _: None, inherited)

    async def _open(self, server: Server) -> None:
        for service, sockets in zip(self._job.services, self._estate.at(self._number), strict=True):
            await server.add_service(service, sockets)

    def _listen(self) -> None:
        try:
            data = self._channel.recv(_LONGEST_WORDS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._ending.put_nowait(NOW)
            return
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            self._obey(*line.decode().split())

    def _obey(self, word: str, worker: str = "0") -> None:
        assert self._server is not None
        match word:
            case "look":
                self._server.look_again()
            case "stand-in":
                self._server.stand_in(self._lent(int(worker)))
            case "step-back":
                self._server.step_back(self._lent(int(worker)))
            case _:
                self._ending.put_nowait(word)

    def _lent(self, worker: int) -> list[list[socket.socket]]:
        """The sockets of another worker that are not ours as well."""
        mine = {sock for sockets in self._estate.at(self._number) for sock in sockets}
        return [[sock for sock in sockets if sock not in mine] for sockets in self._estate.at(worker)]

    def _close_others(self, server: Server) -> None:
        """Nobody may wait at a door behind which nobody is any more: every process closes every socket."""
        for worker in range(self._estate.tally.workers):
            server.step_back(self._lent(worker))
        mine = {sock for sockets in self._estate.at(self._number) for sock in sockets}
        for sock in self._estate.all() - mine:
            with contextlib.suppress(OSError):
                sock.close()

"""What one process of a node runs, alone or as one of several workers, and how it goes over to another configuration.

That has two steps. First everything that may fail is done, and nothing has changed if it does. Then, in one go, doors are
closed, given to others and opened, and nothing can fail.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

from peerauth.address import Address
from peerauth.errors import BadInput
from peerauth.net.sockets import bound_address, let_join, open_listeners
from peerauth.server.doors import discard
from peerauth.server.job import Job
from peerauth.server.plan import Plan, as_said, taken_over, unchanged
from peerauth.server.server import Server
from peerauth.services.offers import Offer
from peerauth.store.config import Service, read_config
from peerauth.store.kinds import App
from peerauth.store.socketfile import SocketFile
from peerauth.store.tunnels import Tunnel

Sockets = list[socket.socket]
Place = tuple[Service | Tunnel, Address]
T = TypeVar("T")
U = TypeVar("U")
R_co = TypeVar("R_co", covariant=True)
_ALONE: Final = 0  # the number of the only worker
PATIENCE: Final = 30.0  # seconds to make ready whatever a configuration asks for
Held = Sequence[tuple[Address, Sequence[socket.socket]]]


class OpenAt(Protocol[R_co]):
    """Opens an address; `joining`: beside sockets of ours that are about to be closed."""

    def __call__(self, address: Address, file: SocketFile, *, joining: bool) -> R_co:
        """`file`: what becomes of a Unix socket's. Raises PeerAuthError("cannot-listen")."""


class Site:
    """The services and the tunnels of a job, in the running loop."""

    def __init__(self, job: Job, server: Server) -> None:
        self.job = job
        self.server = server
        self._ways: list[Sockets] = []  # of the tunnels, in their order
        self._ready: list[Offer | None] = []
        self.imports = _has_applications(job)  # code of others is, or was, loaded here

    @property
    def held(self) -> list[tuple[Service | Tunnel, Sockets]]:
        """Everything, with the sockets that it listens at."""
        doors = [listener.sockets for listener in self.server.doors.listeners]
        return [*zip(self.job.services, doors, strict=True), *zip(self.job.tunnels, self._ways, strict=True)]

    @property
    def places(self) -> list[Place]:
        """Everything, and where it listens."""
        return [(one, bound_address(sock)) for one, sockets in self.held for sock in sockets]

    async def open(self, doors: Sequence[Sockets] | None = None, ways: Sequence[Sockets] | None = None) -> None:
        """Open everything, at these sockets where they are there already. Raises PeerAuthError."""
        for number, service in enumerate(self.job.services):
            await self.server.add_service(service, None if doors is None else doors[number])
        for number, tunnel in enumerate(self.job.tunnels):
            self._open_tunnel(tunnel, open_listeners(tunnel.listen, tunnel.file) if ways is None else ways[number])

    def _open_tunnel(self, tunnel: Tunnel, sockets: Sockets) -> None:
        assert self.server.tunnels is not None
        self.server.tunnels.open(tunnel, sockets)
        self._ways.append(sockets)

    async def prepare(self, plan: Plan) -> None:
        """Do what may fail. Raises PeerAuthError, and nothing has changed."""
        await self.abandon()
        self.imports |= _has_applications(plan.after)
        self._ready = await self.server.doors.prepare(plan.after.services, plan.services)

    async def abandon(self) -> None:
        """Do not go over, after all."""
        ready, self._ready = self._ready, []
        await discard(ready)

    def go_over(self, plan: Plan, doors: Sequence[Sockets | None], ways: Sequence[Sockets | None]) -> None:
        """Go over to what was prepared; `doors`, `ways`: the sockets of what is new."""
        ready, self._ready = self._ready, []
        config = plan.after.config
        self.server.take_over(config, plan.after.services, plan.services, ready, doors)
        tunnels, before, self._ways = self.server.tunnels, self._ways, []
        for tunnel, number, new in zip(plan.after.tunnels, plan.tunnels, ways, strict=True):
            old = None if number is None else plan.before.tunnels[number]
            if old == tunnel and number is not None:
                self._ways.append(before[number])
            elif old is not None and tunnels is not None:
                self._open_tunnel(tunnel, tunnels.close(old, config.limits.drain))
            else:
                self._open_tunnel(tunnel, new or [])
        for number, old in enumerate(plan.before.tunnels):
            if number not in plan.tunnels and tunnels is not None:
                self.server.close_listening(tunnels.close(old, config.limits.drain))
        self.job = plan.after


def _has_applications(job: Job) -> bool:
    return any(isinstance(service.kind, App) for service in job.services)


def open_new(
    plan: Plan, held: Held, door_at: OpenAt[T], way_at: OpenAt[Sockets]
) -> tuple[list[T | None], list[Sockets | None]]:
    """What the new services and tunnels of a plan listen at, opened. `held`: by address, the sockets that are open now.

    An address may overlap with one that is about to be left, as 0.0.0.0:8443 does with 127.0.0.1:8443: then both listen for
    a moment. Raises PeerAuthError; whoever opened something has to close it then.
    """
    going = [(address, sockets) for address, sockets in held if address not in plan.addresses]

    def opened(listen: Address, file: SocketFile, open_at: OpenAt[U]) -> U:
        beside = [sock for address, sockets in going if listen.overlaps(address) for sock in sockets]
        let_join(beside)
        return open_at(listen, file, joining=bool(beside))

    doors = [
        opened(one.listen, one.file, door_at) if n is None else None
        for one, n in zip(plan.after.services, plan.services, strict=True)
    ]
    ways = [
        opened(one.listen, one.file, way_at) if n is None else None
        for one, n in zip(plan.after.tunnels, plan.tunnels, strict=True)
    ]
    return doors, ways


class Reload:
    """How a process that is alone follows config.toml. `told`: it has gone over, and other things may listen now."""

    def __init__(self, site: Site, told: Callable[[], None]) -> None:
        self._site = site
        self._told = told
        self._wanted = asyncio.Event()

    def want(self) -> None:
        """Look at config.toml soon."""
        if self._site.job.choose is not None:
            self._wanted.set()

    async def follow(self) -> None:
        """Look at config.toml whenever that is wanted."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._go_over()
            except Exception as error:  # noqa: BLE001 - of somebody's application, perhaps: all goes on as before
                for event in unchanged(as_said(error)):
                    self._site.server.report(event)

    async def _go_over(self) -> None:
        site, server = self._site, self._site.server
        data = read_config(site.job.config.path.parent)
        after, restart = site.job.after(data, server.live.share.tally.most)
        commands = site.job.commands
        assert commands is not None, "who follows config.toml can run what it asks for"
        plan = Plan.of(site.job, replace(after, services=commands.start(after.services)))
        held, new = [(thing.listen, sockets) for thing, sockets in site.held], []

        def open_at(address: Address, file: SocketFile, *, joining: bool) -> Sockets:
            new.extend(sockets := open_listeners(address, file, joining=joining))
            return sockets

        try:
            await commands.until_ready()
            doors, ways = open_new(plan, held, open_at, open_at)
            await _in_time(site.prepare(plan))
            commands.are_ready()  # none has ended meanwhile
        except BaseException:
            commands.abandon()
            await site.abandon()
            server.close_listening(new)
            let_join((sock for _, sockets in held for sock in sockets), may=False)
            raise
        commands.go_over(plan.after.services, [_ALONE], plan.after.config.limits.drain)
        server.doors.left = lambda backend: commands.left(backend, _ALONE)
        site.go_over(plan, doors, ways)
        for event in taken_over(plan, restart):
            server.report(event)
        self._told()


async def _in_time(preparing: Coroutine[Any, Any, None]) -> None:
    clock = asyncio.timeout(PATIENCE)
    try:
        async with clock:
            await preparing
    except TimeoutError:
        if not clock.expired():
            raise
        raise BadInput("not-prepared", f"a service did not get ready in {PATIENCE:g} s") from None

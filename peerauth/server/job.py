"""What a running node does, and how that follows another config.toml."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from peerauth.address import Address
from peerauth.audit import Event
from peerauth.server.beside import Tunnels
from peerauth.server.server import Inherited, Server
from peerauth.store.config import Config, Service, parse_config
from peerauth.store.kinds import Command
from peerauth.store.own import Own
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.tunnels import Tunnel
from peerauth.trust.identity import Identity

if TYPE_CHECKING:
    from peerauth.server.commands import Commands

Report = Callable[[Event], None]
Choose = Callable[[Config], tuple[tuple[Service, ...], tuple[Tunnel, ...]]]
# What of a Config is as it is until a restart, and where config.toml has it.
_FIXED = {
    **dict.fromkeys(("name", "key", "certificate", "peers", "min_tls"), "[node]"),
    "remember": "[refusals]",
    "rotation": "[rotation]",
}


@dataclass(frozen=True)
class Job:
    """What all workers do. `run` runs the main coroutine of a process on the event loop of its choice.

    `own`: where the identity is followed; `also`: what goes on beside the services, in each of them; `commands`: those that
    some services have, or may come to have. `choose`: which services and tunnels another configuration asks for; None where
    the command line said them, and none is looked at.
    """

    identity: Identity
    peers: PeerDirectory
    services: tuple[Service, ...]
    config: Config
    run: Callable[[Coroutine[Any, Any, None]], None]
    own: Own | None = None
    also: Callable[[Report], Coroutine[Any, Any, None]] | None = None
    tunnels: tuple[Tunnel, ...] = ()
    carry: Callable[[Report], Tunnels] | None = None
    choose: Choose | None = None
    commands: Commands | None = None

    def server(self, sink: Report, inherited: Inherited | None = None) -> Server:
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
        if self.carry is not None:
            server.tunnels = self.carry(server.say)
        return server

    def after(self, data: bytes, most: int) -> tuple[Job, list[str]]:
        """The same job by another config.toml, whose bytes these are; and which of its settings count after a restart.

        Those stay as they are. A command that does not run yet has no backend. `most`: how many connections there is room to
        count. Raises BadInput, as parse_config does.
        """
        assert self.choose is not None
        running = self.config
        found = parse_config(data, running.path.parent)
        fixed = {name: value for name in _FIXED if (value := getattr(running, name)) != getattr(found, name)}
        names = list(dict.fromkeys(_FIXED[name] for name in fixed))
        limits = found.limits
        if limits.workers != running.limits.workers:
            names.append("limits.workers")
            limits = replace(limits, workers=running.limits.workers)
        if limits.max_connections > most:
            names.append("limits.max_connections")
            limits = replace(limits, max_connections=running.limits.max_connections)
        services, tunnels = self.choose(found)
        services = self._as_started(services)
        files = {service.listen: service.file for service in self.services}  # of sockets that are there already
        files |= {tunnel.listen: tunnel.file for tunnel in self.tunnels}
        opened = tuple(replace(service, file=files.get(service.listen, service.file)) for service in services)
        ways = tuple(replace(tunnel, file=files.get(tunnel.listen, tunnel.file)) for tunnel in tunnels)
        if (opened, ways) != (services, tunnels):
            names.append("mode or owner")
        settled = replace(found, limits=limits, **fixed)
        return replace(self, config=settled, services=opened, tunnels=ways), names

    def _as_started(self, services: tuple[Service, ...]) -> tuple[Service, ...]:
        """The same, their commands as they run already. Of several with the same words, each keeps that of its name."""
        running = [(one.name, kind) for one in self.services if isinstance(kind := one.kind, Command)]
        by_name = sorted(services, key=lambda service: not any(service.name == name for name, _ in running))
        found: dict[int, Service] = {}
        for service in by_name:
            if not isinstance(kind := service.kind, Command):
                continue
            fitting = [one for one in running if one[1].words == kind.words]
            if not fitting:
                continue
            own = min(fitting, key=lambda one: one[0] != service.name)
            running.remove(own)
            found[id(service)] = replace(service, kind=replace(kind, backend=own[1].backend))
        return tuple(found.get(id(service), service) for service in services)

    @property
    def backends(self) -> list[str | None]:
        """Where the commands serve, by service."""
        return [service.backend for service in self.services]

    def led_to(self, backends: list[str | None]) -> Job:
        """The same job, whose commands serve there."""
        return replace(self, services=tuple(map(_led_to, self.services, backends)))


def _led_to(service: Service, backend: str | None) -> Service:
    if backend is None or not isinstance(service.kind, Command):
        return service
    return replace(service, kind=replace(service.kind, backend=Address(path=backend)))

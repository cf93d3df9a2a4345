"""Running services until told to stop: what `serve` and `up` have in common."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from peerauth.cli.node import load_peers, run
from peerauth.cli.reports import Reports
from peerauth.cli.ui import Ui
from peerauth.errors import UsageError

if TYPE_CHECKING:
    import asyncio

    from peerauth.audit import Event
    from peerauth.server.beside import Tunnels
    from peerauth.server.commands import Commands
    from peerauth.server.job import Choose, Job
    from peerauth.server.server import Server
    from peerauth.server.signals import Kept
    from peerauth.server.site import Reload, Site
    from peerauth.store.config import Config, Service
    from peerauth.store.own import Own
    from peerauth.store.peerdir import PeerDirectory
    from peerauth.store.tunnels import Tunnel

_LOOK_AT_COMMANDS_S = 0.25
_LAST_THREADS = 1.0  # seconds


def offer(
    ui: Ui,
    own: Own,
    services: tuple[Service, ...],
    workers: int | None,
    *,
    tunnels: tuple[Tunnel, ...] | None = None,
    choose: Choose | None = None,
) -> None:
    """Offer these services to the pinned peers until told to stop, in so many processes (None: as configured).

    `tunnels`: what leads to peers meanwhile; None where that is not asked for. `choose`: what of config.toml is run, where
    that is followed.
    """
    from peerauth.server.signals import Kept

    kept = [Kept(number) for number in (signal.SIGHUP, signal.SIGUSR1)] if sys.platform != "win32" else []
    config = own.config
    _check_roots(services, config)
    directory = load_peers(ui, config.peers)
    _warn_of_strangers(ui, services, tunnels or (), directory)

    from peerauth.server.job import Job
    from peerauth.store.kinds import Command

    job = Job(
        own.identity,
        directory,
        services,
        config,
        run,
        own,
        _carrying(own, directory),
        tunnels or (),
        None if tunnels is None else _tunnelling(own, directory),
        choose,
    )
    reports = Reports(ui, config, directory)
    number = config.limits.workers if workers is None else workers
    if choose is None and not any(isinstance(service.kind, Command) for service in services):
        _serve(ui, job, number, reports, kept)
        return
    from peerauth.server.commands import Commands

    commands = Commands(config.path.parent, reports.event)
    with commands.running(services) as led:
        _serve(ui, replace(job, services=led, commands=commands), number, reports, kept)
    if commands.exit_code:
        raise typer.Exit(commands.exit_code)


def _serve(ui: Ui, job: Job, workers: int, reports: Reports, kept: list[Kept]) -> None:
    from peerauth.services.app_failed import AppFailed

    try:
        if workers > 1:
            _with_workers(job, workers, reports)
        else:
            run(_alone(job, reports, kept))
    except AppFailed as error:
        if error.trace:
            ui.notice(error.trace)
        raise


def _end_soon() -> None:
    """Python waits at its end for threads that an application has left hanging: not for long."""
    import threading

    timer = threading.Timer(_LAST_THREADS, os._exit, (0,))
    timer.daemon = True
    timer.start()


def _check_roots(services: tuple[Service, ...], config: Config) -> None:
    """Before anybody is let in: what is served is no secret."""
    from peerauth.store.kinds import Root
    from peerauth.store.roots import check_root

    roots = [service.kind for service in services if isinstance(service.kind, Root)]
    for root in roots:
        check_root(root.directory, config)


def _tunnelling(own: Own, directory: PeerDirectory) -> Callable[[Callable[[Event], None]], Tunnels]:
    """What carries local connections to peers, and says what keeps it from doing so."""
    from peerauth.audit import Event
    from peerauth.client.dial import Dialer
    from peerauth.client.renewal import Renewal
    from peerauth.client.tunnels import Leads

    config = own.config

    def carry(report: Callable[[Event], None]) -> Tunnels:
        def told(tunnel: Tunnel, error: BaseException | None) -> None:
            if error is None:
                report(
                    Event(
                        "tunnel-up",
                        f"the tunnel '{tunnel.name}' reaches {tunnel.peer} again",
                        peer=tunnel.peer,
                        service=tunnel.name,
                    )
                )
                return
            hint, code = getattr(error, "hint", None), getattr(error, "code", "unexpected")
            text = f"the tunnel '{tunnel.name}' does not reach {tunnel.peer}: {getattr(error, 'message', error)}"
            report(Event("tunnel-down", text, hint, peer=tunnel.peer, service=tunnel.name, code=code))

        def tell(text: str, hint: str | None) -> None:
            report(Event("problem", text, hint, code="renewal"))

        renewal = Renewal(config, directory, own.identity, tell)
        dialer = Dialer.of(
            own.identity, config.name, lambda: directory.current, min_tls=config.min_tls, own=own, renewal=renewal
        )
        return Leads(dialer, told)

    return carry


def _carrying(own: Own, directory: PeerDirectory) -> Callable[[Callable[[Event], None]], Coroutine[Any, Any, None]]:
    """What carries a rotation of this node forward in the background, and says so as the server does."""
    from peerauth.audit import Event
    from peerauth.client.carrying import News, carry_on

    def carrying(report: Callable[[Event], None]) -> Coroutine[Any, Any, None]:
        def say(news: News) -> None:
            if news.problem:
                report(Event("problem", news.text, code=news.code))
            else:
                report(Event("rotation", news.text, peer=news.peer, code=news.code))

        return carry_on(own, directory, say, own.config.rotation)

    return carrying


def _warn_of_strangers(ui: Ui, services: tuple[Service, ...], tunnels: tuple[Tunnel, ...], directory: PeerDirectory) -> None:
    """Say who is named and not pinned: it may be a slip of the pen, or somebody who is still to come."""
    pinned = directory.current
    allowed = [(s.name, policy.names or ()) for s in services for policy in s.policies]
    named = [(service, name) for service, names in allowed for name in sorted(names) if name not in pinned]
    for service, name in dict.fromkeys(named):
        ui.warn(f"the service '{service}' is for {name}, who is not pinned", f"peerauth peer add FILE --name {name}")
    from peerauth.store.tunnels import doubts

    for tunnel in tunnels:
        for text, hint in doubts(tunnel, pinned):
            ui.warn(text, hint)


def _with_workers(job: Job, number: int, reports: Reports) -> None:
    if not hasattr(os, "fork"):
        raise UsageError("no-workers", "this system cannot run several workers: it has no fork", "serve with --workers 1")
    from peerauth.server.supervisor import Supervisor

    Supervisor(job, number, reports).run()


async def _alone(job: Job, reports: Reports, kept: list[Kept]) -> None:
    """Serve in this process: SIGTERM lets connections finish for a while, SIGINT or a second signal does not."""
    from peerauth.server.site import Reload, Site
    from peerauth.server.unless_told import unless_told

    server = job.server(reports.event)
    site = Site(job, server)
    reload = Reload(site, lambda: reports.list(site.places))
    told = _listen_to_signals(server, reload, reports)
    for handler in kept:
        handler.give()
    ended: signal.Signals | None = None
    try:
        if site.imports:
            ended = await unless_told(site.open(), told)
        else:  # it takes no time, and what is said first is where they listen
            await site.open()
    except BaseException:
        await server.stop(0)
        raise
    if ended is not None:
        await server.stop(0)
        return
    gc.collect()
    gc.freeze()  # what is here now stays: walking through it again and again would hold the loop up
    server.do_also(reload.follow())
    with _shown(site):
        reports.list(site.places)
        if job.commands is not None:
            server.do_also(_tend(job.commands, server, told))
        if await told.get() is signal.SIGINT:
            await server.stop(0)
        else:
            if len(server.live):
                reports.stopping(len(server.live), server.limits.drain)
            await server.drain(told.get())
    if site.imports:
        _end_soon()


async def _tend(commands: Commands, server: Server, told: asyncio.Queue[signal.Signals]) -> None:
    """Look after the commands; have this process end as by SIGTERM when one has ended, of which no loop tells us."""
    import asyncio

    commands.report = server.report
    while (event := commands.tend()) is None:  # noqa: ASYNC110 - a process has no event that every loop and system knows
        await asyncio.sleep(_LOOK_AT_COMMANDS_S)
    server.report(event)
    told.put_nowait(signal.SIGTERM)


@contextlib.contextmanager
def _shown(site: Site) -> Iterator[None]:
    """Let `status` see how this process stands, while the block runs."""
    import asyncio

    from peerauth.server.window import Standing, Window

    standing = Standing(lambda: site.job, lambda: site.places, site.server.live.share.tally)
    window = Window(site.job.config.path.parent, lambda: standing.facts(1))
    window.open()
    if (descriptor := window.fd) is None:
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, window.show)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        window.close()


def _listen_to_signals(server: Server, reload: Reload, reports: Reports) -> asyncio.Queue[signal.Signals]:
    """How this process is told to end. Before anybody hears that we serve: who hears it may tell us to stop."""
    import asyncio

    loop = asyncio.get_running_loop()
    told: asyncio.Queue[signal.Signals] = asyncio.Queue()

    def hang_up() -> None:
        if reports.hung_up():
            told.put_nowait(signal.SIGTERM)
        else:
            server.look_again()
            reload.want()

    for number in (signal.SIGTERM, signal.SIGINT):
        if sys.platform == "win32":
            signal.signal(number, lambda n, _: loop.call_soon_threadsafe(told.put_nowait, signal.Signals(n)))
        else:
            loop.add_signal_handler(number, told.put_nowait, number)
    if sys.platform != "win32":
        loop.add_signal_handler(signal.SIGHUP, hang_up)
        loop.add_signal_handler(signal.SIGUSR1, lambda: reports.status(server.live.share.tally.totals))
    return told

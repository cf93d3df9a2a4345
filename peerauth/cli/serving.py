"""Running services until told to stop: what `serve` and `up` have in common."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from peerauth.cli.node import load_peers, run
from peerauth.cli.reports import Reports
from peerauth.cli.ui import Ui
from peerauth.errors import UsageError

if TYPE_CHECKING:
    import asyncio

    from peerauth.server.audit import Event
    from peerauth.server.beside import Tunnels
    from peerauth.server.job import Choose, Job
    from peerauth.server.server import Server
    from peerauth.server.site import Reload, Site
    from peerauth.store.config import Service
    from peerauth.store.own import Own
    from peerauth.store.peerdir import PeerDirectory
    from peerauth.store.tunnels import Tunnel


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
    config = own.config
    directory = load_peers(ui, config.peers)
    _warn_of_strangers(ui, services, tunnels or (), directory)

    from peerauth.server.job import Job

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
    if number > 1:
        _with_workers(job, number, reports)
    else:
        run(_alone(job, reports))


def _tunnelling(own: Own, directory: PeerDirectory) -> Callable[[Callable[[Event], None]], Tunnels]:
    """What carries local connections to peers, and says what keeps it from doing so."""
    from peerauth.client.dial import Dialer
    from peerauth.client.renewal import Renewal
    from peerauth.client.tunnels import Leads
    from peerauth.server.audit import Event

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
    from peerauth.client.carrying import News, carry_on
    from peerauth.server.audit import Event

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
    named = [(s.name, name) for s in services for name in sorted(s.policy.names or ()) if name not in pinned]
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


async def _alone(job: Job, reports: Reports) -> None:
    """Serve in this process: SIGTERM lets connections finish for a while, SIGINT or a second signal does not."""
    from peerauth.server.site import Reload, Site

    server = job.server(reports.event)
    site = Site(job, server)
    reload = Reload(site, lambda: reports.list(site.places))
    told = _listen_to_signals(server, reload, reports)
    try:
        await site.open()
    except BaseException:
        await server.stop(0)
        raise
    gc.collect()
    gc.freeze()  # what is here now stays: walking through it again and again would hold the loop up
    server.do_also(reload.follow())
    with _shown(site):
        reports.list(site.places)
        if await told.get() is signal.SIGINT:
            await server.stop(0)
            return
        if len(server.live):
            reports.stopping(len(server.live), server.limits.drain)
        await server.drain(told.get())


@contextlib.contextmanager
def _shown(site: Site) -> Iterator[None]:
    """Let `status` see how this process stands, while the block runs."""
    import asyncio

    from peerauth.server.window import Standing, Window

    standing = Standing(lambda: site.places, site.server.live.share.tally, datetime.now(UTC))
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

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

from peerauth.address import Address
from peerauth.cli.node import load_peers, run
from peerauth.cli.reports import Reports
from peerauth.cli.ui import Ui
from peerauth.errors import UsageError

if TYPE_CHECKING:
    import asyncio

    from peerauth.server.audit import Event
    from peerauth.server.server import Server
    from peerauth.server.worker import Job
    from peerauth.store.config import Service
    from peerauth.store.own import Own
    from peerauth.store.peerdir import PeerDirectory

_LAST_THREADS = 1.0  # seconds


def offer(ui: Ui, own: Own, services: tuple[Service, ...], workers: int | None) -> None:
    """Offer these services to the pinned peers until told to stop, in so many processes (None: as configured)."""
    config = own.config
    directory = load_peers(ui, config.peers)
    _warn_of_strangers(ui, services, directory)

    from peerauth.server.app_failed import AppFailed
    from peerauth.server.worker import Job

    job = Job(own.identity, directory, services, config, run, own, _carrying(own, directory))
    reports = Reports(ui, config, directory)
    number = config.limits.workers if workers is None else workers
    try:
        if number > 1:
            _with_workers(job, number, reports)
        else:
            run(_alone(job, reports))
    except AppFailed as error:
        if error.trace:
            ui.notice(error.trace)
        raise


def _run_applications(services: tuple[Service, ...]) -> bool:
    from peerauth.store.kind_app import App

    return any(isinstance(service.kind, App) for service in services)


def _end_soon() -> None:
    """Python waits at its end for threads that an application has left hanging: not for long."""
    import threading

    timer = threading.Timer(_LAST_THREADS, os._exit, (0,))
    timer.daemon = True
    timer.start()


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


def _warn_of_strangers(ui: Ui, services: tuple[Service, ...], directory: PeerDirectory) -> None:
    """Say who is allowed and not pinned: it may be a slip of the pen, or somebody who is still to come."""
    pinned = directory.current
    named = [(s.name, name) for s in services for name in sorted(s.policy.names or ()) if name not in pinned]
    for service, name in dict.fromkeys(named):
        ui.warn(f"the service '{service}' is for {name}, who is not pinned", f"peerauth peer add FILE --name {name}")


def _with_workers(job: Job, number: int, reports: Reports) -> None:
    if not hasattr(os, "fork"):
        raise UsageError("no-workers", "this system cannot run several workers: it has no fork", "serve with --workers 1")
    from peerauth.server.supervisor import Supervisor

    Supervisor(job, number, reports).run()


async def _alone(job: Job, reports: Reports) -> None:
    """Serve in this process: SIGTERM lets connections finish for a while, SIGINT or a second signal does not."""
    from peerauth.server.unless_told import unless_told

    server = job.server(reports.event)
    told = _listen_to_signals(server, reports)
    places: list[tuple[Service, Address]] = []

    async def open_all() -> None:
        for service in job.services:
            places.extend([(service, address) for address in await server.add_service(service)])

    ended: signal.Signals | None = None
    try:
        if _run_applications(job.services):
            ended = await unless_told(open_all(), told)
        else:  # it takes no time, and what is said first is where they listen
            await open_all()
    except BaseException:
        await server.stop(0)
        raise
    if ended is not None:
        await server.stop(0)
        return
    gc.collect()
    gc.freeze()  # what is here now stays: walking through it again and again would hold the loop up
    with _shown(job, server, [(service.name, address) for service, address in places]):
        for service, address in places:
            reports.listening(service, address)
        if await told.get() is signal.SIGINT:
            await server.stop(0)
        else:
            if len(server.live):
                reports.stopping(len(server.live))
            await server.drain(told.get())
    if _run_applications(job.services):
        _end_soon()


@contextlib.contextmanager
def _shown(job: Job, server: Server, places: list[tuple[str, Address]]) -> Iterator[None]:
    """Let `status` see how this process stands, while the block runs."""
    import asyncio

    from peerauth.server.window import Standing, Window

    standing = Standing(places, server.live.share.tally, datetime.now(UTC))
    window = Window(job.config.path.parent, lambda: standing.facts(1))
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


def _listen_to_signals(server: Server, reports: Reports) -> asyncio.Queue[signal.Signals]:
    """How this process is told to end. Before anybody hears that we serve: who hears it may tell us to stop."""
    import asyncio

    loop = asyncio.get_running_loop()
    told: asyncio.Queue[signal.Signals] = asyncio.Queue()

    def hang_up() -> None:
        if reports.hung_up():
            told.put_nowait(signal.SIGTERM)
        else:
            server.look_again()

    for number in (signal.SIGTERM, signal.SIGINT):
        if sys.platform == "win32":
            signal.signal(number, lambda n, _: loop.call_soon_threadsafe(told.put_nowait, signal.Signals(n)))
        else:
            loop.add_signal_handler(number, told.put_nowait, number)
    if sys.platform != "win32":
        loop.add_signal_handler(signal.SIGHUP, hang_up)
        loop.add_signal_handler(signal.SIGUSR1, lambda: reports.status(server.live.share.tally.totals))
    return told

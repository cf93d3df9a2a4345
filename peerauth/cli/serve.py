"""`serve`: offer services to the pinned peers until told to stop."""

from __future__ import annotations

import signal
import sys
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from peerauth.address import DEFAULT_PORT, Address, parse_address
from peerauth.cli.command import command, option
from peerauth.cli.node import load_peers, run
from peerauth.cli.secret import PassphraseFileOption, load_node
from peerauth.cli.ui import Ui
from peerauth.errors import UsageError

if TYPE_CHECKING:
    import asyncio

    from peerauth.server.audit import Event
    from peerauth.server.server import Server
    from peerauth.store.config import Config, Service
    from peerauth.store.peerdir import PeerDirectory

_NAMED = 5  # peers, when it is said for whom a service is
_LOUD = {"refused", "ended", "problem", "target-down", "left-out"}


@command
def serve(
    ui: Ui,
    listen: Annotated[
        list[str] | None, typer.Option("--listen", metavar="ADDRESS", help="HOST:PORT, :PORT or unix:PATH; repeatable.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="ADDRESS", help="Relay to HOST:PORT or unix:PATH; without it: say hello."),
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", metavar="PEER", help="Only this peer, tag:NAME or @group; repeatable.")
    ] = None,
    passphrase_file: PassphraseFileOption = None,
) -> None:
    """Run the services of config.toml, or the one described by the options, for pinned peers only.

    Peers that are added, changed or removed meanwhile count at once; a removed peer's connections end.
    """
    config, identity = load_node(ui, passphrase_file)
    services = _services(config, listen or [], target, allow)
    directory = load_peers(ui, config.peers)
    _warn_of_strangers(ui, services, directory)

    async def main() -> None:
        import gc

        from peerauth.server.server import Server

        told = _listen_to_signals()
        server = Server(identity, directory, lambda event: _say(ui, event), limits=config.limits, min_tls=config.min_tls)
        try:
            for service in services:
                for address in server.add_service(service):
                    _announce(ui, config, service, address, directory)
        except BaseException:
            await server.stop(0)
            raise
        gc.collect()
        gc.freeze()  # what is here now stays: walking through it again and again would hold the loop up
        await _until_told(ui, server, told)

    run(main())


def _services(config: Config, listen: list[str], target: str | None, allow: list[str] | None) -> tuple[Service, ...]:
    from peerauth.store.config import Service, policy_for

    if not (listen or allow) and target is None:
        if config.services:
            return config.services
        return (Service("hello", Address("0.0.0.0", DEFAULT_PORT)),)  # noqa: S104 - a server serves
    if target is not None and not listen:
        raise UsageError("no-listen", "--target needs --listen", "for instance: --listen 0.0.0.0:8443")
    with option("--target"):
        where = parse_address(target, what="target") if target is not None else None
    with option("--listen"):
        addresses = [parse_address(text, what="address") for text in listen or [f"0.0.0.0:{DEFAULT_PORT}"]]
    name = "relay" if where else "hello"
    with option("--allow"):
        policy = policy_for(config, name, allow)
    return tuple(Service(name, address, where, policy) for address in addresses)


def _warn_of_strangers(ui: Ui, services: tuple[Service, ...], directory: PeerDirectory) -> None:
    """Say who is allowed and not pinned: it may be a slip of the pen, or somebody who is still to come."""
    pinned = directory.current
    named = [(s.name, name) for s in services for name in sorted(s.policy.names or ()) if name not in pinned]
    for service, name in dict.fromkeys(named):
        ui.warn(f"the service '{service}' is for {name}, who is not pinned", f"peerauth peer add FILE --name {name}")


def _announce(ui: Ui, config: Config, service: Service, address: Address, directory: PeerDirectory) -> None:
    peers = (peer.name for peer in directory.current if service.policy.allows(peer))
    first = list(islice(peers, _NAMED))
    count = len(directory.current) if service.policy.names is None else len(first) + sum(1 for _ in peers)
    if ui.json:
        ui.emit({"event": "listening", "service": service.name, "address": str(address), "peers": count})
        return
    what = f"relays to {service.target}" if service.target else "says hello"
    ui.say(f"{config.name} {what} on {address} for {_counted(first, count)}")


def _counted(first: list[str], count: int) -> str:
    if not count:
        return "nobody yet; to admit someone: peerauth peer add FILE"
    more = f" and {count - len(first)} more" if count > len(first) else ""
    return f"{count} {'peer' if count == 1 else 'peers'}: {', '.join(first)}{more}"


def _say(ui: Ui, event: Event) -> None:
    if ui.json:
        ui.emit(event.as_data())
        return
    if ui.quiet and event.event not in _LOUD:
        return
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    verb = "" if event.message.startswith(event.event) else f"{event.event}: "
    hint = f"\n    hint: {event.hint}" if event.hint else ""
    text = f"{stamp} {verb}{event.message}{hint}"
    if event.event in _LOUD:
        ui.notice(text)
    else:
        ui.say(text)


def _listen_to_signals() -> asyncio.Queue[signal.Signals]:
    """What this process is told from now on. Before anybody hears that we serve: who hears it may tell us to stop."""
    import asyncio

    loop = asyncio.get_running_loop()
    told: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        if sys.platform == "win32":
            signal.signal(number, lambda n, _: loop.call_soon_threadsafe(told.put_nowait, signal.Signals(n)))
        else:
            loop.add_signal_handler(number, told.put_nowait, number)
    return told


async def _until_told(ui: Ui, server: Server, told: asyncio.Queue[signal.Signals]) -> None:
    """Serve until a signal: SIGTERM lets connections finish for a while, SIGINT or a second signal does not."""
    import asyncio

    first = await told.get()
    if first is signal.SIGINT:
        await server.stop(0)
        return
    if len(server.live):
        ui.say(f"stopping; open connections have {server.limits.drain:g} s to end")
    stopping = asyncio.create_task(server.stop())
    again = asyncio.create_task(told.get())
    await asyncio.wait({stopping, again}, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        await server.stop(0)
    again.cancel()

"""`connect`: standard input and output, or a local port, through a pinned connection."""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from peerauth.address import parse_address
from peerauth.cli.command import command, option
from peerauth.cli.node import make_dialer, run
from peerauth.cli.secret import PassphraseFileOption
from peerauth.cli.ui import Ui
from peerauth.errors import PeerAuthError

PeerOption = Annotated[
    str | None, typer.Option("--peer", metavar="NAME", help="The peer that is meant, where the address does not say it.")
]


@command
def connect(
    ui: Ui,
    to: Annotated[str, typer.Argument(metavar="PEER|HOST:PORT|unix:PATH", show_default=False)],
    peer: PeerOption = None,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="ADDRESS", help="Take plain connections here and carry each to the peer."),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
) -> None:
    """Reach a peer: standard input goes there, what it answers comes to standard output.

    Usable as an ssh ProxyCommand: ProxyCommand peerauth connect %h:%p --peer NAME
    """
    from peerauth.client.target import resolve

    dialer = make_dialer(ui, passphrase_file)
    with option("PEER", "bad-address"):
        target = resolve(to, dialer.peers(), peer)
    ui.detail(f"{target.peer.name} is expected at {target.address}")
    if listen is None:
        from peerauth.client.pipe import pipe

        run(pipe(dialer, target))
        return
    with option("--listen"):
        local = parse_address(listen, what="address")

    from peerauth.client.tunnel import tunnel
    from peerauth.net.sockets import bound_address, open_listeners

    def failed(error: BaseException) -> None:
        ui.warn(error.message if isinstance(error, PeerAuthError) else str(error), getattr(error, "hint", None))

    async def main() -> None:
        import asyncio

        sockets = open_listeners(local)
        if not local.is_loopback:
            ui.warn(f"whoever can reach {local} now reaches {target.peer.name} as this node", "listen on 127.0.0.1 instead")
        work = asyncio.create_task(tunnel(dialer, target, sockets, failed))
        if sys.platform != "win32":
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        for sock in sockets:
            where = str(bound_address(sock))
            if ui.json:
                ui.emit({"event": "listening", "address": where, "peer": target.peer.name})
            else:
                ui.say(f"{where} leads to {target.peer.name} at {target.address}")
        await asyncio.gather(work, return_exceptions=True)

    run(main())

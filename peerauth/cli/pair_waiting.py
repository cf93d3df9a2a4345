"""The side of `pair` that waits: it shows a code and watches what becomes of the guesses at it.

They are heard by the running `serve`, whichever of its workers has them, or by a server of our own that does nothing else.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from peerauth.address import DEFAULT_PORT, Address, parse_address
from peerauth.cli.command import option
from peerauth.cli.node import run
from peerauth.cli.pair import tell
from peerauth.cli.reachable import named, reachable
from peerauth.cli.ui import Ui
from peerauth.errors import PeerAuthError, TrustRefused
from peerauth.store.pairing import Pairing
from peerauth.store.state import SERVING, State
from peerauth.trust.pairing import GUESSES, SECONDS, Guess, Stage, Window

if TYPE_CHECKING:
    from peerauth.store.config import Config
    from peerauth.store.peerdir import PeerDirectory
    from peerauth.trust.identity import Identity

_POLL = 0.05  # seconds
_GOODBYE = 1.0  # seconds for those who are still being answered


def wait(
    ui: Ui,
    config: Config,
    identity: Identity,
    directory: PeerDirectory,
    listen: str | None,
    name: str | None,
    own: str,
    tags: tuple[str, ...],
) -> None:
    """Open the window and say what came of it. Raises TrustRefused, BadInput or PeerAuthError."""
    with option("--listen"):
        address = parse_address(listen) if listen is not None else None
    pairing = Pairing(config.path.parent)
    with pairing.opened(own, name, tags) as window:
        served = address is None and State(config.path.parent).is_alive(SERVING, many=True)
        try:
            if served:
                run(_watch(ui, pairing, window, reachable(config), "where this node serves, for instance "))
            else:
                run(_listen(ui, pairing, window, config, identity, directory, address or _own_address(config)))
        except KeyboardInterrupt:
            last = pairing.close()
            if last is not None and last.proven is not None:  # it is too late to stop it
                _conclude(ui, directory, last)
            raise
        last = pairing.close()
    _conclude(ui, directory, last)


def _own_address(config: Config) -> Address:
    """Where the first service listens that does so at a port; it does not just now."""
    listens = (service.listen for service in config.services if service.listen.path is None)
    return next(listens, Address("0.0.0.0", DEFAULT_PORT))  # noqa: S104 - as serve does


async def _listen(
    ui: Ui,
    pairing: Pairing,
    window: Window,
    config: Config,
    identity: Identity,
    directory: PeerDirectory,
    address: Address,
) -> None:
    """Watch, with a server of our own: it admits nobody, and hears whoever comes to pair."""
    from peerauth.server.guest import by_protocol
    from peerauth.server.server import Server
    from peerauth.trust.policy import Policy

    server = Server(
        identity,
        directory,
        lambda event: ui.detail(event.message),
        limits=config.limits,
        min_tls=config.min_tls,
        config=config,
    )
    try:
        nobody = Policy("pairing", frozenset())
        bound = server.listen(address, by_protocol(lambda _: asyncio.Protocol()), nobody)
        await _watch(ui, pairing, window, named(bound[0]), "")
    finally:
        await server.stop(0, visits=_GOODBYE)


async def _watch(ui: Ui, pairing: Pairing, window: Window, where: Address, about: str) -> None:
    """Show the code, and then each wrong guess, until the window is settled."""
    if ui.json:
        ui.emit({"code": window.code, "address": str(where)})
    else:
        ui.data(window.code)
    ui.say(f"on the other machine, within {SECONDS / 60:.0f} minutes: peerauth pair {where} {window.code}")
    if about:
        ui.say(f"({about}{where}; its running server hears who comes)")
    shown = 0
    while True:
        now, seen = time.time(), await asyncio.to_thread(pairing.look)
        if seen is None:
            return
        wrong = seen.wrong(now)
        for guess in wrong[shown:]:
            _warn(ui, guess, GUESSES - len(seen.guesses))
        shown = len(wrong)
        if seen.is_settled(now):
            return
        await asyncio.sleep(_POLL)


def _warn(ui: Ui, guess: Guess, left: int) -> None:
    ui.warn(
        f"somebody at {guess.address} did not know the code: it presents {guess.fingerprint}",
        f"a slip of the tongue, or somebody who guesses or stands in between; guesses left: {left}",
    )


def _conclude(ui: Ui, directory: PeerDirectory, window: Window | None) -> None:
    """Say what came of the window, which is closed."""
    if window is None:
        raise PeerAuthError("nobody-came", "the window was closed: state/pairing.json is gone", "peerauth pair")
    guess = window.proven
    if guess is None and len(window.wrong(time.time())) >= GUESSES:
        raise TrustRefused(
            "guessed",
            f"pairing is closed: {GUESSES} guesses at the code were wrong, and nobody was pinned; "
            "somebody may be guessing, or stand in between",
            "if it was no slip of the tongue, do not pair over this network",
        )
    if guess is None:
        raise PeerAuthError("nobody-came", f"pairing is closed: nobody with the code came within {SECONDS:.0f} seconds")
    if guess.stage is Stage.REFUSED:
        text = f"{guess.address} knew the code, and was not pinned: {guess.reason}"
        raise PeerAuthError("not-pinned", text, "to say yourself what it is called here: peerauth pair --name NAME")
    peer = directory.refresh().holder(guess.fingerprint)
    if peer is None:
        text = f"{guess.address} knew the code, and was not pinned: the process that heard it has ended"
        raise PeerAuthError("not-pinned", text, "peerauth pair")
    held = [one for one in directory.certificates(peer.name) if one.fingerprint == guess.fingerprint]
    tell(ui, peer.name, guess.fingerprint, held[0] if held else None, paired=guess.stage is Stage.PAIRED)

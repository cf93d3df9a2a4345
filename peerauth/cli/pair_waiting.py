"""The side of `pair` that waits: it shows a code and watches what becomes of the guesses at it.

They are heard by the running `serve`, whichever of its workers has them, or by a server of our own that does nothing else.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peerauth.address import DEFAULT_PORT, Address, parse_address
from peerauth.cli.command import option
from peerauth.cli.node import run
from peerauth.cli.paired import tell
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
    from peerauth.trust.peers import PeerSet

_POLL = 0.05  # seconds
_GOODBYE = 1.0  # seconds for those who are still being answered


@dataclass(frozen=True)
class Waiter:
    """One `peerauth pair` that waits."""

    ui: Ui
    config: Config
    identity: Identity
    directory: PeerDirectory

    def wait(self, listen: str | None, own: str, name: str | None, tags: tuple[str, ...]) -> None:
        """Open the window and say what came of it. Raises TrustRefused, BadInput or PeerAuthError."""
        with option("--listen"):
            address = parse_address(listen) if listen is not None else None
        before, home = self.directory.current, self.config.path.parent
        pairing = Pairing(home)
        with pairing.opened(own, name, tags) as window:
            served = address is None and State(home).is_alive(SERVING, many=True)
            heard = self._served(pairing, window) if served else self._listen(pairing, window, address)
            try:
                run(heard)
            except KeyboardInterrupt:
                last = pairing.close()
                if last is not None and last.proven is not None:  # it is too late to stop it
                    self._conclude(last, before)
                raise
            last = pairing.close()
        self._conclude(last, before)

    async def _served(self, pairing: Pairing, window: Window) -> None:
        """Watch what the running server hears."""
        where = reachable(self.config)
        self._show(window, where)
        self.ui.say(f"(where this node serves, for instance {where}: its running server hears who comes)")
        await self._watch(pairing)

    async def _listen(self, pairing: Pairing, window: Window, address: Address | None) -> None:
        """Watch, with a server of our own: it admits nobody, and hears whoever comes to pair."""
        from peerauth.server.server import Server
        from peerauth.services.guest import by_protocol
        from peerauth.trust.policy import Policy

        config, ui = self.config, self.ui
        server = Server(
            self.identity,
            self.directory,
            lambda event: ui.detail(event.message),
            limits=config.limits,
            min_tls=config.min_tls,
            config=config,
        )
        try:
            nobody = Policy("pairing", frozenset())
            bound = server.listen(address or _own_address(config), by_protocol(lambda _: asyncio.Protocol()), nobody)
            self._show(window, named(bound[0]))
            await self._watch(pairing)
        finally:
            await server.stop(0, visits=_GOODBYE)

    def _show(self, window: Window, where: Address) -> None:
        if self.ui.json:
            self.ui.emit({"code": window.code, "address": str(where)})
        else:
            self.ui.data(window.code)
        self.ui.say(f"on the other machine, within {SECONDS / 60:.0f} minutes: peerauth pair {where} {window.code}")
        if where.is_loopback:
            self.ui.say(f"({where} leads nowhere from another machine; to wait elsewhere: peerauth pair --listen ADDRESS)")

    async def _watch(self, pairing: Pairing) -> None:
        """Show each wrong guess, until the window is settled."""
        shown: list[Guess] = []
        while (window := await asyncio.to_thread(pairing.look)) is not None:
            now = time.time()
            for guess in window.wrong(now):
                if guess not in shown:
                    shown.append(guess)
                    self._warn(guess, GUESSES - len(window.guesses))
            if window.is_settled(now):
                return
            await asyncio.sleep(_POLL)

    def _warn(self, guess: Guess, left: int) -> None:
        self.ui.warn(
            f"somebody at {guess.address} did not know the code: it presents {guess.fingerprint}",
            f"a slip of the tongue, or somebody who guesses or stands in between; guesses left: {left}",
        )

    def _conclude(self, window: Window | None, before: PeerSet) -> None:
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
        peer = self.directory.refresh().holder(guess.fingerprint)
        if peer is None:
            text = f"{guess.address} knew the code, and was not pinned: the process that heard it has ended"
            raise PeerAuthError("not-pinned", text, "peerauth pair")
        held = [one for one in self.directory.certificates(peer.name) if one.fingerprint == guess.fingerprint]
        paired = guess.stage is Stage.PAIRED
        tell(self.ui, peer.name, guess.fingerprint, held[0] if held else None, before, paired=paired)


def _own_address(config: Config) -> Address:
    """Where the first service listens that does so at a port; it does not just now."""
    listens = (service.listen for service in config.services if service.listen.path is None)
    return next(listens, Address("0.0.0.0", DEFAULT_PORT))  # noqa: S104 - as serve does

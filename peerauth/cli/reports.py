"""What `serve` says while it runs, alone or as the parent of several workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from peerauth.address import Address
from peerauth.cli.ui import Ui
from peerauth.errors import counted
from peerauth.store.tunnels import Tunnel

if TYPE_CHECKING:
    from peerauth.audit import Event
    from peerauth.server.tally import Totals
    from peerauth.store.config import Config, Service
    from peerauth.store.peerdir import PeerDirectory

_NAMED = 5  # peers, when it is said for whom a service is
_LOUD = {
    "refused", "denied", "ended", "problem", "target-down", "tunnel-down", "left-out", "worker-ended", "command-ended",
    "expires",
}  # fmt: skip


class Reports:
    """The voice of one `serve`."""

    def __init__(self, ui: Ui, config: Config, directory: PeerDirectory) -> None:
        self._ui = ui
        self._config = config
        self._directory = directory
        self._on_terminal = _is_terminal()
        self._listening = False
        self._listed: list[tuple[Service | Tunnel, Address]] = []

    @property
    def outlet(self) -> int | None:
        """The descriptor that events go to."""
        try:
            return (sys.stdout if self._ui.json else sys.stderr).fileno()
        except OSError:
            return None

    def event(self, event: Event) -> None:
        """Something happened."""
        ui = self._ui
        if ui.json:
            ui.emit(event.as_data())
            return
        if ui.quiet and event.event not in _LOUD:
            return
        if event.event == "worker-started" and not self._listening and not ui.verbose:
            return  # of the first ones "listening" says enough
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        verb = "" if event.message.startswith(event.event) else f"{event.event}: "
        hint = f"\n    hint: {ui.here(event.hint)}" if event.hint else ""
        text = f"{stamp} {verb}{event.message}{hint}"
        if event.event in _LOUD:
            ui.notice(text)
        else:
            ui.say(text)

    def log(self, text: str) -> None:
        """A library of a worker has something to say."""
        self._ui.notice(text)

    def list(self, places: Sequence[tuple[Service | Tunnel, Address]]) -> None:
        """This is what listens now; what did before is not said again."""
        before, self._listed = self._listed, list(places)
        for what, address in self._listed:
            if (what, address) not in before:
                self.listening(what, address)

    def listening(self, what: Service | Tunnel, address: Address) -> None:
        """A service or a tunnel is ready."""
        self._listening = True
        if isinstance(what, Tunnel):
            self._leading(what, address)
            return
        peers = (peer.name for peer in self._directory.current if what.policy.allows(peer))
        first = list(islice(peers, _NAMED))
        everyone = what.policy.names is None
        count = len(self._directory.current) if everyone else len(first) + sum(1 for _ in peers)
        if self._ui.json:
            self._ui.emit({"event": "listening", "service": what.name, "address": str(address), "peers": count})
            return
        self._ui.say(f"{self._config.name} {what.kind} on {address} for {_named(first, count)}")
        if what.on_unknown == "explain":
            self._ui.say("everybody else is told why not, in HTTP")

    def _leading(self, tunnel: Tunnel, address: Address) -> None:
        if self._ui.json:
            said = {"tunnel": tunnel.name, "address": str(address), "peer": tunnel.peer}
            self._ui.emit({"event": "listening", **said})
            return
        peer = self._directory.current.get(tunnel.peer)
        where = str(tunnel.address) if tunnel.address else peer.address if peer else None
        self._ui.say(f"{address} leads to {tunnel.peer}{f' at {where}' if where else ''}")

    def stopping(self, connections: int, drain: float) -> None:
        """So many connections are open and get so many seconds to end."""
        left = f"{counted(connections, 'open connection')} {'has' if connections == 1 else 'have'}"
        self._ui.say(f"stopping; {left} {drain:g} s to end")

    def status(self, totals: Totals) -> None:
        """What SIGUSR1 asks for: the counts since the start."""
        ui = self._ui
        if ui.json:
            counts = {"connections": totals.connections, "admitted": totals.admitted, "ended": totals.ended}
            ui.emit({"event": "status", **counts, "refused": totals.refused})
            return
        refused = ", ".join(f"{count} {code}" for code, count in totals.refused.items()) or "0"
        ui.notice(
            f"status: open connections: {totals.connections}; since the start: admitted: {totals.admitted}, "
            f"ended because the peer is not admitted any more: {totals.ended}, refused: {refused}"
        )

    def hung_up(self) -> bool:
        """Whether the terminal that we were started on is gone, which SIGHUP then means."""
        return self._on_terminal and not _is_terminal()


def _is_terminal() -> bool:
    return any(os.isatty(descriptor) for descriptor in (0, 1, 2))


def _named(first: list[str], count: int) -> str:
    if not count:
        return "nobody yet; to admit someone: peerauth peer add FILE"
    more = f" and {count - len(first)} more" if count > len(first) else ""
    return f"{counted(count, 'peer')}: {', '.join(first)}{more}"

"""What `serve` says while it runs, alone or as the parent of several workers."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from peerauth.address import Address
from peerauth.cli.ui import Ui
from peerauth.errors import counted

if TYPE_CHECKING:
    from peerauth.server.audit import Event
    from peerauth.server.tally import Totals
    from peerauth.store.config import Config, Service
    from peerauth.store.peerdir import PeerDirectory

_NAMED = 5  # peers, when it is said for whom a service is
_LOUD = {
    "refused", "denied", "ended", "problem", "target-down", "left-out", "worker-ended", "command-ended", "expires",
}  # fmt: skip


class Reports:
    """The voice of one `serve`."""

    def __init__(self, ui: Ui, config: Config, directory: PeerDirectory) -> None:
        self._ui = ui
        self._config = config
        self._directory = directory
        self._on_terminal = _is_terminal()
        self._listening = False

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
        hint = f"\n    hint: {event.hint}" if event.hint else ""
        text = f"{stamp} {verb}{event.message}{hint}"
        if event.event in _LOUD:
            ui.notice(text)
        else:
            ui.say(text)

    def log(self, text: str) -> None:
        """A library of a worker has something to say."""
        self._ui.notice(text)

    def listening(self, service: Service, address: Address) -> None:
        """A service is ready."""
        self._listening = True
        peers = (peer.name for peer in self._directory.current if service.policy.allows(peer))
        first = list(islice(peers, _NAMED))
        everyone = service.policy.names is None
        count = len(self._directory.current) if everyone else len(first) + sum(1 for _ in peers)
        if self._ui.json:
            self._ui.emit({"event": "listening", "service": service.name, "address": str(address), "peers": count})
            return
        self._ui.say(f"{self._config.name} {service.kind} on {address} for {_named(first, count)}")
        if service.on_unknown == "explain":
            self._ui.say("everybody else is told why not, in HTTP")

    def stopping(self, connections: int) -> None:
        """So many connections are open and get time to end."""
        left = f"{counted(connections, 'open connection')} {'has' if connections == 1 else 'have'}"
        self._ui.say(f"stopping; {left} {self._config.limits.drain:g} s to end")

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

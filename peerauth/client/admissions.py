"""A client's open connections, and their end when the list says so (promise 2).

Each leads to the peer that was meant when it was opened. It ends when that peer is removed, when it has another certificate
pinned than the one that was met, and when that one's time is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from peerauth.store.peerfiles import PeerFiles
from peerauth.tls.transport import TlsTransport
from peerauth.trust.decision import Refused, admitted_until, decide
from peerauth.trust.peers import PeerSet

_LONG: Final = 30 * 86_400.0  # seconds; whoever is connected for longer is looked at in between
_AGAIN: Final = 0.5  # seconds

End = Callable[[Refused], None]


class Admissions:
    """Open connections, in the running loop, with what is done when one is admitted no more."""

    def __init__(self, peers: Callable[[], PeerSet]) -> None:
        self._peers = peers
        self._open: dict[TlsTransport, End] = {}
        self._timers: dict[TlsTransport, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, transport: TlsTransport, end: End) -> None:
        """Look after this one from now on; `end` may be called at once: it was decided about a moment ago."""
        self._open[transport] = end
        self._look_at(transport)

    def discard(self, transport: TlsTransport) -> None:
        """This one has ended."""
        self._open.pop(transport, None)
        self._forget_time(transport)

    def review(self) -> None:
        """The list has changed: decide again about everyone."""
        for transport in list(self._open):
            self._look_at(transport)

    def _look_at(self, transport: TlsTransport) -> None:
        certificate, end = transport.session.certificate, self._open.get(transport)
        if end is None:  # it has ended, when another did
            return
        decision = decide(certificate, self._peers().only(transport.peer.name), now=datetime.now(UTC))
        if isinstance(decision, Refused):
            self.discard(transport)
            end(decision)
            return
        assert certificate is not None
        transport.admitted = decision
        self._forget_time(transport)
        left = (admitted_until(decision, certificate) - datetime.now(UTC)).total_seconds()
        when = min(max(left, 0.01), _LONG)
        self._timers[transport] = asyncio.get_running_loop().call_later(when, self._look_at, transport)

    def _forget_time(self, transport: TlsTransport) -> None:
        timer = self._timers.pop(transport, None)
        if timer is not None:
            timer.cancel()


class Followed(Admissions):
    """The same, where the list is followed for as long as a connection is open. `directory`: where `peers` come from."""

    def __init__(self, peers: Callable[[], PeerSet], directory: PeerFiles | None) -> None:
        super().__init__(peers)
        self._directory = directory
        self._following: asyncio.Task[None] | None = None

    def add(self, transport: TlsTransport, end: End) -> None:
        """As Admissions.add."""
        super().add(transport, end)
        if self._following is None and len(self):
            self._following = asyncio.get_running_loop().create_task(follow(self._directory, self.review))

    def discard(self, transport: TlsTransport) -> None:
        """As Admissions.discard."""
        super().discard(transport)
        if self._following is not None and not len(self):
            self._following.cancel()
            self._following = None


async def follow(directory: PeerFiles | None, review: Callable[[], None]) -> None:
    """Keep `directory` up to date, and have `review` called after every change, until cancelled. None: it never changes."""
    if directory is None:
        await asyncio.Event().wait()
        return
    from peerauth.store.watch import watch  # noqa: PLC0415 - it takes 10 ms, in which whoever connects would wait

    while True:
        try:
            await watch(directory, lambda _: review())
        except Exception:  # noqa: BLE001 - whoever no longer hears of removals must not just go on
            review()
            await asyncio.sleep(_AGAIN)

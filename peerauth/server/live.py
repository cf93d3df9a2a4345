"""The connections that are open, by peer; and their end when the list says so (promise 2)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from peerauth.server.tally import Share
from peerauth.services.guest import Served
from peerauth.trust.decision import Address, Code, Refused, admitted_until, decide
from peerauth.trust.peers import PeerSet
from peerauth.trust.policy import Policy

_AT_ONCE = 1000
_NEVER = datetime.max.replace(tzinfo=UTC)


class Door(Protocol):
    """Where connections come in; its policy may be another one day."""

    policy: Policy


@dataclass(slots=True, eq=False)
class Connection:
    """An admitted connection with what its admission was decided on."""

    served: Served
    door: Door
    remote: Address | None
    shown: str
    ends: datetime = _NEVER  # when its peer's time is over, or its certificate's

    @property
    def policy(self) -> Policy:
        """Who may come in at its door, as it is now."""
        return self.door.policy


class LiveConnections:
    """Every admitted connection of a server. `share` is its part of what all workers of the node have together."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self._by_peer: dict[str, dict[Served, Connection]] = {}
        self._total = 0
        self._first_end = _NEVER  # nobody's time is over before
        self._unlooked: Iterator[Served] = iter(())
        self._none = asyncio.Event()
        self._none.set()

    def __len__(self) -> int:
        return self._total

    async def none_left(self) -> None:
        """Return when the last connection has ended."""
        await self._none.wait()

    def find(self, served: Served) -> Connection | None:
        """The connection of this guest, while it is open."""
        return self._by_peer.get(served.peer.name, {}).get(served)

    def count(self, name: str) -> int:
        """How many connections this peer has."""
        return len(self._by_peer.get(name, ()))

    def add(self, connection: Connection) -> None:
        """Note a connection under its peer, for which room was taken (`share.enter`)."""
        self.share.admitted()
        self._note(connection)

    def discard(self, served: Served) -> bool:
        """Forget a connection that has ended, and give its room back; whether it was known."""
        known = self._forget(served)
        if known:
            self.share.leave(served.peer.name)
        return known

    def _note(self, connection: Connection) -> None:
        self._by_peer.setdefault(connection.served.peer.name, {})[connection.served] = connection
        self._total += 1
        served = connection.served
        if served.session.certificate is not None:
            connection.ends = admitted_until(served.admitted, served.session.certificate)
            self._first_end = min(self._first_end, connection.ends)
        self._none.clear()

    def _forget(self, served: Served) -> bool:
        name = served.peer.name
        connections = self._by_peer.get(name, {})
        if connections.pop(served, None) is None:
            return False
        self._total -= 1
        if not self._total:
            self._none.set()
        if not connections:
            self._by_peer.pop(name, None)
        return True

    def review(
        self, names: Iterable[str], peers: PeerSet, now: datetime, ended: Callable[[Connection, Refused], None]
    ) -> None:
        """Decide again about the connections of these peers; end those that are not admitted any more.

        And those with something under way that a route would not let begin any more. `ended` is told each. The end is a
        reset, not a goodbye: what was under way must not look complete.
        """
        for name in names:
            for connection in list(self._by_peer.get(name, {}).values()):
                served = connection.served
                decision = decide(served.session.certificate, peers, connection.policy, connection.remote, now=now)
                if isinstance(decision, Refused):
                    self.share.ended()
                    ended(connection, decision)
                    served.abort()
                elif decision.peer != served.peer:
                    self._forget(served)
                    self.share.rename(served.peer.name, decision.peer.name)
                    served.admitted = decision
                    self._note(connection)
                    if (rule := served.denied()) is not None:
                        self.share.ended()
                        ended(connection, Refused(Code.NOT_ALLOWED, decision.fingerprint, decision.peer, rule))
                        served.abort()

    def overdue(self, now: datetime) -> list[str]:
        """The peers with connections whose time is over: their `until`, or their certificate's retirement or last moment."""
        if now < self._first_end:
            return []
        ends = [(connection.ends, name) for name, held in self._by_peer.items() for connection in held.values()]
        self._first_end = min((end for end, _ in ends if end > now), default=_NEVER)
        return list({name: None for end, name in ends if end <= now})

    def look(self) -> None:
        """Have some of the connections look whether they have ended; called often enough, all of them do."""
        some = list(itertools.islice(self._unlooked, _AT_ONCE))
        for served in some:
            served.look()
        if len(some) < _AT_ONCE:
            self._unlooked = iter(self.everyone())

    def names(self) -> list[str]:
        """The peers that have connections."""
        return list(self._by_peer)

    def at(self, door: Door) -> list[Served]:
        """The connections that came in there."""
        return [served for held in self._by_peer.values() for served, one in held.items() if one.door is door]

    def everyone(self) -> list[Served]:
        """Every connection."""
        return [served for connections in self._by_peer.values() for served in connections]

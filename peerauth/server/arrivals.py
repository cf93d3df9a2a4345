"""Those who have connected and are not admitted yet: bounded in number, time and memory, whoever they are.

A socket that says nothing costs no TLS state. When there are too many, the source that has most loses its oldest, so that
one source's idle sockets never push out another's.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peerauth.trust.decision import Address

if TYPE_CHECKING:
    from peerauth.server.listener import Listener
    from peerauth.tls.session import Session


class TurnedAway(Exception):
    """There was no room for this one."""


@dataclass(slots=True, eq=False)
class Arrival:
    """One connection on its way through the handshake, at the door where it knocked."""

    door: Listener
    sock: socket.socket
    remote: Address | None
    shown: str
    source: str  # what counts as one source: source_of(remote)
    deadline: float  # seconds, monotonic
    session: Session | None = None


class Arrivals:
    """Everyone in the handshake, by descriptor and by source. For one thread."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._by_fd: dict[int, Arrival] = {}
        self._by_source: dict[str, dict[Arrival, None]] = {}

    def __len__(self) -> int:
        return len(self._by_fd)

    def __iter__(self) -> Iterator[Arrival]:
        """The oldest first."""
        return iter(list(self._by_fd.values()))

    def at(self, fd: int) -> Arrival | None:
        """Who has this descriptor."""
        return self._by_fd.get(fd)

    @property
    def oldest(self) -> Arrival | None:
        """Who came first, and whose time is over first."""
        return next(iter(self._by_fd.values()), None)

    @property
    def is_full(self) -> bool:
        """Whether somebody must go before somebody else comes."""
        return len(self._by_fd) >= self.limit

    def enter(self, arrival: Arrival) -> None:
        """Note somebody new."""
        self._by_fd[arrival.sock.fileno()] = arrival
        self._by_source.setdefault(arrival.source, {})[arrival] = None

    def leave(self, arrival: Arrival) -> None:
        """Forget one, whose socket is still open."""
        self._by_fd.pop(arrival.sock.fileno(), None)
        of_source = self._by_source.get(arrival.source, {})
        of_source.pop(arrival, None)
        if not of_source:
            self._by_source.pop(arrival.source, None)

    def dispensable(self) -> Arrival | None:
        """The oldest of the source that has most."""
        if not self._by_source:
            return None
        fullest = max(self._by_source, key=lambda source: len(self._by_source[source]))
        return next(iter(self._by_source[fullest]))


@functools.lru_cache(maxsize=1024)
def source_of(remote: Address | None) -> str:
    """What counts as one source: an IPv4 address, an IPv6 /64 (what one customer commonly has), or the Unix socket."""
    if remote is None:
        return "unix"
    if remote.version == 6 and remote.ipv4_mapped is None:
        return str(int(remote) >> 64)
    return str(remote)

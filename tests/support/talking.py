"""HTTP said and heard byte by byte: a backend that does as a test says, and a peer that talks to a proxy before it."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

from peerauth.address import Address
from peerauth.http.routes import Routes
from peerauth.store.kinds import Http
from tests.support.engine import Caller, Running, Yard, how_it_ends, running
from tests.support.targets import target

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
# What the backend is told of alice by default, beside the host, and of us.
CLAIMED = (b"X-Peer-Name:", b"X-Peer-Fingerprint:", b"X-Peer-Tags:", b"X-Forwarded-", b"Via:")


class Talk:
    """One side of a connection in the clear or in TLS; what was read too much is kept for the next."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._held = b""

    def say(self, data: bytes) -> Self:
        """Send all of this."""
        self.sock.sendall(data)
        return self

    def until(self, end: bytes) -> bytes:
        """Everything up to this, included."""
        while end not in self._held:
            self._more()
        heard, _, self._held = self._held.partition(end)
        return heard + end

    def exactly(self, size: int) -> bytes:
        """So many bytes."""
        while len(self._held) < size:
            self._more()
        heard, self._held = self._held[:size], self._held[size:]
        return heard

    def head(self) -> bytes:
        """A head, without the lines that say who is calling."""
        lines = self.until(b"\r\n\r\n").split(b"\r\n")
        return b"\r\n".join(line for line in lines if not line.startswith(CLAIMED))

    def ends(self) -> str:
        """Read to the end: `goodbye`, `cut`, or in the clear `end` or `reset`."""
        if isinstance(self.sock, ssl.SSLSocket):
            return how_it_ends(self.sock)
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            return "reset"
        return "end"

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(self._held)
        self._held += data


@dataclass
class Proxied:
    """A proxy before a scripted backend. `connections`: how many of them the backend has had."""

    node: Running
    connections: list[Talk] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        """How many bytes the proxy holds for its one connection."""
        (one,) = self.node.server.live.everyone()
        return int(one.waiting)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def proxied(
    yard: Yard, behave: Callable[[Talk], object], *, timeout: float = 60.0, routes: Routes | None = None, window: int = 0
) -> AsyncIterator[Proxied]:
    """A proxy for the peers of the yard; the backend does this with each connection, in a thread."""
    connections: list[Talk] = []

    def one(sock: socket.socket) -> None:
        talk = Talk(sock)
        connections.append(talk)
        with contextlib.suppress(EOFError):
            behave(talk)

    with target(one, window=window) as where:
        async with running(yard, kind=Http((where,), timeout), routes=routes) as node:
            yield Proxied(node, connections)


@contextlib.asynccontextmanager
async def proxied_to(yard: Yard, where: Address, *, timeout: float = 60.0) -> AsyncIterator[Running]:
    """A proxy to a backend that is there, or not."""
    async with running(yard, kind=Http((where,), timeout)) as node:
        yield node


@contextlib.contextmanager
def calling(caller: Caller, port: int) -> Iterator[Talk]:
    """A peer's connection."""
    with caller.open(port) as tls:
        yield Talk(tls)


def answers(answer: bytes) -> Callable[[Talk], None]:
    """A backend that gives this answer to every request without a body."""

    def behave(talk: Talk) -> None:
        while True:
            talk.head()
            talk.say(answer)

    return behave


def notes_its_end(ends: list[str], heard: bytes) -> Callable[[Talk], None]:
    """A backend that hears so much, and then how its connection ends."""

    def behave(talk: Talk) -> None:
        talk.until(heard)
        ends.append(talk.ends())

    return behave

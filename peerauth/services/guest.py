"""An admitted connection, on its way from the door to the service that serves it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from peerauth.services.awake import Awake
from peerauth.tls.scratch import Scratch
from peerauth.tls.session import Session
from peerauth.tls.transport import TlsTransport
from peerauth.trust.decision import Admitted
from peerauth.trust.peers import Peer


class Served(Protocol):
    """A guest at a service, until it is lost: a `TlsTransport`, or a relay."""

    admitted: Admitted

    @property
    def session(self) -> Session:
        """Its TLS connection."""

    @property
    def peer(self) -> Peer:
        """Who it is, by the latest decision."""

    def start(self) -> None:
        """Begin."""

    def abort(self) -> None:
        """End at once, with a reset."""

    def denied(self) -> str | None:
        """By which rule what is under way, and was allowed when it began, would be refused now; None if it would not."""

    def look(self) -> None:
        """Notice an end of which the loop may not have told: asked now and then.

        Where data and a reset come together, libuv (uv__poll_io), and uvloop with it, tells of them once and then stops to
        watch the socket. asyncio's own loop goes on.
        """


@dataclass(slots=True, eq=False)  # not frozen: that would cost a microsecond for each connection
class Guest:
    """What a service gets. It calls `lost` with what it made of it, once, when the connection has ended."""

    loop: asyncio.AbstractEventLoop
    sock: socket.socket
    session: Session
    admitted: Admitted
    buffer: Scratch
    awake: Awake
    lost: Callable[[Served], None]


Serve = Callable[[Guest], Served]
Handler = Callable[[Admitted], asyncio.Protocol]


def by_protocol(make: Handler) -> Serve:
    """A service made of asyncio protocols, one for each guest."""
    return lambda guest: make_transport(guest, make(guest.admitted))


def make_transport(guest: Guest, protocol: asyncio.Protocol) -> TlsTransport:
    """The connection of a guest, for this protocol."""
    return TlsTransport(
        guest.loop, guest.sock, guest.session, guest.admitted, protocol, buffer=guest.buffer, on_lost=guest.lost
    )

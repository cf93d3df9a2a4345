"""The contexts that a server's connections begin with, one for each way in which services speak.

They last as long as the server: processes that were forked after they were made have the same ticket keys, so a ticket of
one is good for all. What ends tickets is an epoch, a number that grows when the peer set admits less than before, in
whichever process that is noticed (docs/decisions/0016). So they have no identity: each connection is given the present one,
which may be another every day (docs/decisions/0026).
"""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass

from peerauth.server.tally import Tally
from peerauth.store.config import Service
from peerauth.tls.context import CONTROL, HTTP_1_1, Context, MinimumVersion, Presented, begin_epoch, server_context
from peerauth.tls.session import Judge, Room, Session
from peerauth.trust.identity import Identity


@dataclass(frozen=True, slots=True)
class Speech:
    """How a service speaks: what ALPN may choose beside peerauth/1, and whether it explains to strangers.

    Tickets are good for connections of the same speech alone: what a stranger was given is nothing at a door that is shut.
    """

    alpn: tuple[bytes, ...] = ()
    explains: bool = False


def speech_of(service: Service) -> Speech:
    """How this service speaks inside TLS: HTTP, in which strangers can be told why not, or whatever a relay carries."""
    if not service.kind.speaks_http:
        return Speech()
    return Speech(HTTP_1_1, explains=service.on_unknown == "explain")


# How services may speak: what they have in common is made before there are workers.
EVERY_SPEECH = (Speech(), Speech(HTTP_1_1), Speech(HTTP_1_1, explains=True))


class Contexts:
    """Contexts of one node, in the epochs of its tally. Safe to use from any thread."""

    def __init__(self, identity: Identity, min_tls: MinimumVersion, tally: Tally) -> None:
        self.identity = identity
        self._own = Presented(identity)
        self._min_tls = min_tls
        self._tally = tally
        self._begun = 0
        self._contexts: dict[Speech, Context] = {}
        self._lock = threading.Lock()  # no context is changed while another thread makes a connection with it

    def present(self, identity: Identity) -> None:
        """Connections that begin from now on present this one; those that are open keep what they have.

        Raises BadInput("bad-identity"), and nothing has changed.
        """
        self._own = Presented(identity)
        self.identity = identity

    def begin(self, speech: Speech, sock: socket.socket, judge: Judge, room: Room | None = None) -> Session:
        """TLS on this socket, for a service that speaks so; it resumes what was begun in this epoch, and nothing else.

        `room`: to tell somebody why it is refused; without it, nobody is told.
        """
        with self._lock:
            return Session(self.get(speech), sock, judge, self._own, room if speech.explains else None)

    def get(self, speech: Speech) -> Context:
        """The context for a service that speaks so, in the present epoch. For one thread."""
        epoch = self._tally.epoch
        if epoch != self._begun:
            # Where the epoch cannot be set: fresh contexts have fresh ticket keys, of this process alone.
            self._contexts = {speech: context for speech, context in self._contexts.items() if begin_epoch(context, epoch)}
            self._begun = epoch
        context = self._contexts.get(speech)
        if context is None:
            alpn = (CONTROL, *speech.alpn)
            context = server_context(None, min_tls=self._min_tls, alpn=alpn, explains=speech.explains)
            self._contexts[speech] = context
            begin_epoch(context, epoch)
        return context

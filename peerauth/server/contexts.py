"""The contexts that a server's connections begin with, one for each protocol that ALPN may choose beside peerauth/1.

They last as long as the server: processes that were forked after they were made have the same ticket keys, so a ticket of
one is good for all. What ends tickets is an epoch, a number that grows when the peer set admits less than before, in
whichever process that is noticed (docs/decisions/0016). So they have no identity: each connection is given the present one,
which may be another every day (docs/decisions/0026).
"""

from __future__ import annotations

import socket
import threading

from peerauth.server.tally import Tally
from peerauth.tls.context import CONTROL, Context, MinimumVersion, Presented, begin_epoch, server_context
from peerauth.tls.session import Judge, Session
from peerauth.trust.identity import Identity


class Contexts:
    """Contexts of one node, in the epochs of its tally. Safe to use from any thread."""

    def __init__(self, identity: Identity, min_tls: MinimumVersion, tally: Tally) -> None:
        self.identity = identity
        self._own = Presented(identity)
        self._min_tls = min_tls
        self._tally = tally
        self._begun = 0
        self._by_alpn: dict[tuple[bytes, ...], Context] = {}
        self._lock = threading.Lock()  # no context is changed while another thread makes a connection with it

    def present(self, identity: Identity) -> None:
        """Connections that begin from now on present this one; those that are open keep what they have.

        Raises BadInput("bad-identity"), and nothing has changed.
        """
        self._own = Presented(identity)
        self.identity = identity

    def begin(self, alpn: tuple[bytes, ...], sock: socket.socket, judge: Judge) -> Session:
        """TLS on this socket, for a service that speaks this; it resumes what was begun in this epoch, and nothing else."""
        with self._lock:
            return Session(self.get(alpn), sock, judge, self._own)

    def get(self, alpn: tuple[bytes, ...]) -> Context:
        """The context for a service that speaks this, in the present epoch. For one thread."""
        epoch = self._tally.epoch
        if epoch != self._begun:
            # Where the epoch cannot be set: fresh contexts have fresh ticket keys, of this process alone.
            self._by_alpn = {alpn: context for alpn, context in self._by_alpn.items() if begin_epoch(context, epoch)}
            self._begun = epoch
        context = self._by_alpn.get(alpn)
        if context is None:
            context = self._by_alpn[alpn] = server_context(None, min_tls=self._min_tls, alpn=(CONTROL, *alpn))
            begin_epoch(context, epoch)
        return context

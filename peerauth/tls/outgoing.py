"""The client's side of a session, which reads its refusal even when its writing has failed.

A TLS 1.3 client learns of its refusal when it reads, and by then the server may have closed: the client's next write fails.
OpenSSL on the socket itself gives the connection up at that moment, and the alert that waits to be read with it. So here
OpenSSL works on memory, and what the socket says about writing is not its business.
"""

from __future__ import annotations

import socket

from OpenSSL import SSL

from peerauth.tls.alerts import Truncated, from_openssl
from peerauth.tls.scratch import Scratch
from peerauth.tls.session import RECORD, Bytes, Judge, Session, Stop, Wait

_RECEIVE = 64 << 10


class ClientSession(Session):
    """One TLS connection as a client has it, on a non-blocking socket."""

    __slots__ = ("_deaf", "_goodbye", "_holds_input", "_sock", "_unsent")

    def __init__(
        self,
        context: SSL.Context,
        sock: socket.socket,
        judge: Judge,
        *,
        server_name: str | None = None,
        hear_anyone: bool = False,
    ) -> None:
        self._begin(SSL.Connection(context, None), judge)
        self._anyone = hear_anyone
        self._sock = sock
        self._unsent = bytearray()
        self._holds_input = False
        self._goodbye = False
        self._deaf: OSError | None = None  # why nothing can be sent any more
        self._connection.set_connect_state()
        if server_name:
            self._connection.set_tlsext_host_name(server_name.encode("idna"))

    def handshake(self) -> Wait:
        """As Session.handshake."""
        while True:
            try:
                wait = super().handshake()
            except Exception:
                self._answered()  # with our alert
                raise
            if not self._answered():
                return Wait.WRITABLE
            if wait is Wait.NOTHING or not self._receive():
                return wait

    def read(self, size: int = RECORD) -> bytes | Wait:
        """As Session.read."""
        while True:
            piece = super().read(size)
            if piece is not Wait.READABLE:
                return piece
            self._holds_input = False
            if not self._answered():
                return Wait.WRITABLE
            if not self._receive():
                return Wait.READABLE

    def fill(self, buffer: Scratch) -> tuple[int, Stop]:
        """As Session.fill, except that the socket says nothing of what `holds_input` is about."""
        if self._fate is not None:
            return 0, self._fate
        while True:
            size, stop = super().fill(buffer)
            self.heard = self.heard or size > 0
            if stop is not Wait.READABLE:
                return size, stop
            self._holds_input = False
            if not self._answered():
                return size, Wait.WRITABLE
            try:
                if size or not self._receive():
                    return size, stop
            except OSError as error:
                return 0, error

    def write_whole(self) -> None:
        """Not here: records leave one by one, so that little is held that TLS has taken and the socket has not."""

    def has_spoken(self) -> bool:
        """Whether the server has said anything since the handshake, if only a ticket, which means that it admits us.

        Takes nothing of what it said from `read`. Raises what the server refuses us with, or OSError.
        """
        spoken = False
        try:
            while self._receive():
                spoken = True
        except OSError:
            if not spoken:  # an alert may stand before the end
                raise
        try:
            self._connection.recv(1, socket.MSG_PEEK)
        except (SSL.WantReadError, SSL.WantWriteError, SSL.ZeroReturnError):
            return spoken
        except SSL.Error as error:
            self._fate = from_openssl(error)
            raise self._fate from error
        return True

    def write(self, data: Bytes) -> int | Wait:
        """As Session.write; what it took may wait here until `flush`."""
        if not self.flush():
            return Wait.WRITABLE
        taken = super().write(data)
        self.flush()
        return taken

    def flush(self) -> bool:
        """Send what TLS has made of what was written; whether all of it has left. Raises OSError."""
        if self._deaf is not None:
            raise self._deaf
        while True:
            try:
                self._unsent += self._connection.bio_read(_RECEIVE)
            except SSL.WantReadError:
                break
            except SSL.Error as error:
                raise from_openssl(error) from error
        while self._unsent:
            try:
                sent = self._sock.send(self._unsent)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                self._deaf = error
                raise
            del self._unsent[:sent]
        return True

    def _answered(self) -> bool:
        """Send what reading made TLS say (to a key update, for instance); where that fails, reading goes on all the same."""
        try:
            return self._deaf is not None or self.flush()
        except OSError:
            return True

    @property
    def holds_input(self) -> bool:
        """As Session.holds_input."""
        return self._holds_input

    def say_goodbye(self) -> Wait:
        """As Session.say_goodbye."""
        if not self._goodbye:
            self._goodbye = True
            super().say_goodbye()
        return Wait.NOTHING if self.flush() else Wait.WRITABLE

    def _receive(self) -> bool:
        """Feed TLS with what the socket has; whether it had something. Raises Truncated at its end, or OSError."""
        try:
            data = self._sock.recv(_RECEIVE)
        except (BlockingIOError, InterruptedError):
            return False
        if not data:
            raise Truncated("the connection ended without a goodbye")
        self._connection.bio_write(data)
        self._holds_input = True
        return True

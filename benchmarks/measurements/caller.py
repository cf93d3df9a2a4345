"""A client with one question for the contender: may I come in."""

from __future__ import annotations

import select
import socket
import ssl
import time

from benchmarks.identities import Identity

ANSWER_S = 10.0


class Caller:
    """Somebody with an identity, who knocks at 127.0.0.1:port. It does not judge the server."""

    def __init__(self, port: int, identity: Identity, *, http: bool) -> None:
        self._port = port
        self._question = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" if http else b"?"
        self._answer = b"HTTP/1.1 200" if http else self._question
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.load_cert_chain(identity.certificate, identity.key)

    def connect(self) -> ssl.SSLSocket:
        """Return a connection that has carried one exchange.

        Raises:
            OSError: the contender does not listen, or refuses this client.

        """
        plain = socket.create_connection(("127.0.0.1", self._port), ANSWER_S)
        try:
            connection = self._context.wrap_socket(plain, server_hostname="localhost")
        except OSError:
            plain.close()
            raise
        try:
            connection.sendall(self._question)
            if not connection.recv(4096).startswith(self._answer):  # in TLS 1.3 the refusal comes with the first read
                raise ConnectionResetError("refused, or closed without an answer")
        except OSError:
            connection.close()
            raise
        return connection

    def enters(self) -> bool:
        """Say whether a new connection is admitted and answered."""
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def ends(self, connection: ssl.SSLSocket, limit_s: float) -> bool:
        """Say whether the other side ends this connection within the limit."""
        connection.setblocking(False)
        until = time.monotonic() + limit_s
        while (left := until - time.monotonic()) > 0:
            if not select.select([connection], [], [], left)[0]:
                return False
            try:
                if not connection.recv(4096):
                    return True
            except ssl.SSLWantReadError:
                continue  # a session ticket, say
            except OSError:
                return True
        return False

"""A session to look at a server with: the handshake is completed with whoever is there, and nobody is admitted.

What the server makes of our certificate can only be seen by giving it that certificate and waiting. So a probe goes further
than trust does, and its rules are (decision 0021):
1. Who is there is judged by others, from `certificate`; here the answer is always no, and `confirm` always raises.
2. Nothing is written through a probe but a question that holds no secret.
"""

from __future__ import annotations

import socket

from OpenSSL import SSL

from peerauth.tls.alerts import from_openssl
from peerauth.tls.outgoing import ClientSession
from peerauth.tls.session import Wait
from peerauth.trust.decision import Code, Refused
from peerauth.trust.fingerprint import Fingerprint

CLOSE_NOTIFY, NO_APPLICATION_PROTOCOL = 0, 120  # RFC 8446 section 6; RFC 7301 section 3.2


class Probe(ClientSession):
    """A client's session over a context of `probing_context`, on a non-blocking socket; notes what the server does."""

    __slots__ = ("_done", "_ticket", "alert", "asked", "presented", "proven")

    def __init__(self, context: SSL.Context, sock: socket.socket, *, server_name: str | None = None) -> None:
        super().__init__(context, sock, _nobody, server_name=server_name)
        self.asked = False  # whether the server wants a certificate
        self.presented = False  # whether we had one of a kind that it takes
        self.proven = False  # whether the server has shown that it has the key of `certificate`
        self.alert: int | None = None  # the last one from the server, except its goodbye
        self._ticket = False
        self._done = False

    @property
    def hears_anyone(self) -> bool:
        """Whoever it is, under whatever protocol."""
        return True

    @property
    def accepted(self) -> bool:
        """Whether the server's TLS has checked our certificate, which it asked for, and gone on.

        In TLS 1.3 it sends tickets after that and not before (RFC 8446 section 4.6.1); in TLS 1.2 its Finished comes last
        (RFC 5246 section 7.3). Some programs look at the certificate themselves, and later than that.
        """
        return self.asked and (self._ticket or self.heard or (self._done and self.version == "TLSv1.2"))

    def handshake(self) -> Wait:
        """As ClientSession.handshake."""
        wait = super().handshake()
        self._done = wait is Wait.NOTHING
        return wait

    def note(self, state: bytes) -> None:
        """OpenSSL is at this step of the handshake, SSL_state_string_long(3)."""
        if state.endswith(b"read server certificate request"):
            self.asked = True
        elif state.endswith(b"write certificate verify"):
            self.presented = True
        elif state.endswith(b"write finished"):  # ours comes after what the server signs, in TLS 1.2 and 1.3
            self.proven = True
        elif state.endswith(b"read server session ticket"):
            self._ticket = True

    def hear_alert(self, number: int) -> None:
        """The server has sent this alert."""
        if number != CLOSE_NOTIFY:
            self.alert = number

    def _failure(self, error: SSL.Error) -> Exception:
        return from_openssl(error)


def _nobody(der: bytes | None) -> Refused:
    return Refused(Code.UNKNOWN, Fingerprint.of(der) if der else None, None, "only looking")

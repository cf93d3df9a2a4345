"""How long it may take to reach another node, and what it means when it cannot be reached."""

from __future__ import annotations

import errno
import os
import socket

from peerauth.address import Address
from peerauth.errors import ConnectFailed

TIMEOUT = 10.0  # seconds, for reaching the other side and for the handshake


def unreachable(error: OSError | UnicodeError, where: Address) -> ConnectFailed:
    """A failure to connect, in words."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return ConnectFailed(
            "no-such-host", f"the host name {where.host} is not known", "check the name, or use an IP address"
        )
    if isinstance(error, TimeoutError):
        return ConnectFailed("timeout", f"{where} does not answer", "is a firewall in between, or is it the wrong address?")
    if isinstance(error, ConnectionRefusedError) or error.errno == errno.ENOENT:
        return ConnectFailed("connection-refused", f"nothing listens at {where}", "is `peerauth serve` running there?")
    if isinstance(error, ConnectionError):
        return ConnectFailed("closed", f"{where} ended the connection before trust was settled")
    reason = os.strerror(error.errno) if error.errno else str(error)
    return ConnectFailed("unreachable", f"{where} cannot be reached: {reason}")

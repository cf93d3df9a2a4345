"""Two connections joined: bytes both ways, each direction with its own end.

Backpressure: when one side does not take what it is given, the other is not read. A goodbye is passed on as a half-close, a
broken connection as a reset, so that cut-off data never looks complete.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from peerauth.net.reach import tune

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with a time of zero: close sends RST


class Side(asyncio.Protocol):
    """One of the two sides; what it hears goes to `other`."""

    other: Side

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.ended = False  # this side said goodbye

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        sock = transport.get_extra_info("socket")
        if sock is not None:
            tune(sock)

    def data_received(self, data: bytes) -> None:
        other = self.other.transport
        if other is not None:
            other.write(data)

    def pause_writing(self) -> None:
        if self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other.transport is not None:
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        self.ended = True
        other = self.other.transport
        if other is not None and not other.is_closing():
            if other.can_write_eof():
                other.write_eof()
            if self.other.ended:
                other.close()
                return False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        other = self.other.transport
        if other is None or other.is_closing():
            return
        if exc is None:
            other.close()
        else:
            reset(other)


def reset(transport: asyncio.Transport) -> None:
    """End a connection so that the other side sees that it broke."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        _reset_on_close(sock)
    transport.abort()


def reset_socket(sock: socket.socket) -> None:
    """The same for a socket that no transport has."""
    _reset_on_close(sock)
    sock.close()


def _reset_on_close(sock: socket.socket) -> None:
    if sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

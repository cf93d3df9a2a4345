"""Closing so that the last words arrive.

An alert or an answer is lost when a socket with unread data is closed (RFC 1122 section 4.2.2.13: a reset is sent). So the
write side is shut, and what still comes is read and thrown away, bounded in time, bytes and number of sockets.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

SECONDS: Final = 1.0
BYTES: Final = 1 << 20
SOCKETS: Final = 256

_lingering: set[_Lingering] = set()


def linger(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """Take over a non-blocking socket, whose TLS is finished, and close it when the other side has, or soon."""
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        sock.close()
        return
    for left in [other for other in _lingering if other.is_stranded]:
        left.finish()
    if len(_lingering) >= SOCKETS:
        sock.close()
        return
    _lingering.add(_Lingering(loop, sock))


def close_all() -> None:
    """Close every lingering socket at once."""
    for lingering in list(_lingering):
        lingering.finish()


class _Lingering:
    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self._sock = sock
        self._left = BYTES
        self._timer = loop.call_later(SECONDS, self.finish)
        loop.add_reader(sock.fileno(), self._drain)

    @property
    def is_stranded(self) -> bool:
        """Whether its loop has ended before it."""
        return self._loop.is_closed()

    def _drain(self) -> None:
        try:
            read = len(self._sock.recv(65536))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            read = 0
        self._left -= read
        if not read or self._left <= 0:
            self.finish()

    def finish(self) -> None:
        if self._sock.fileno() >= 0:
            if not self._loop.is_closed():
                self._timer.cancel()
                self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
        _lingering.discard(self)

"""Two connections joined: bytes both ways, each direction with its own end.

Backpressure: when one side does not take what it is given, the other is not read. A goodbye is passed on as a half-close, a
broken connection as a reset, so that cut-off data never looks complete.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

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


class Front(Side):
    """The side that came first; what it says waits, and no more is read, until the other side is reached."""

    def __init__(self, dial: Callable[[Side], asyncio.Task[None]], far: Side | None = None) -> None:
        super().__init__()
        self._dial = dial
        self._dialling: asyncio.Task[None] | None = None
        self._joined = False
        self._early: list[bytes] = []
        self.other = far or Side()
        self.other.other = self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._dialling = self._dial(self.other)
        self._dialling.add_done_callback(self._dialled)

    def data_received(self, data: bytes) -> None:
        if self._joined:
            super().data_received(data)
            return
        # Pausing in connection_made would be the natural thing, but uvloop begins to read after it all the same.
        self._early.append(data)
        assert self.transport is not None
        self.transport.pause_reading()

    def eof_received(self) -> bool:
        if self._joined:
            return super().eof_received()
        self.ended = True
        return True

    def _dialled(self, task: asyncio.Task[None]) -> None:
        assert self.transport is not None
        if task.cancelled() or task.exception() is not None:
            reset(self.transport)
        elif self.transport.is_closing():
            if self.other.transport is not None:
                reset(self.other.transport)
        else:
            self._joined = True
            self.transport.resume_reading()  # before writing: that may find that the far side wants a pause
            for data in self._early:
                super().data_received(data)
            self._early.clear()
            if self.ended:
                super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._dialling is not None:
            self._dialling.cancel()
        super().connection_lost(exc)


def reset(transport: asyncio.Transport) -> None:
    """End a connection so that the other side sees that it broke."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()

"""The two sides of a relay, with one face: a source for one direction, and the sink of the other."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable

from peerauth.tls import scratch
from peerauth.tls.scratch import Scratch
from peerauth.tls.session import RECORD, Goodbye, Session, Stop, Wait

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with a time of zero: close sends RST
_CORK = getattr(socket, "TCP_CORK", None)


class End(ABC):
    """One side: a connected non-blocking socket, which it owns."""

    __slots__ = ("_fd", "_gone", "_loop", "_reader", "_waiting", "sock")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self.sock = sock
        self._fd = sock.fileno()
        self._reader: Callable[[], None] | None = None
        self._waiting: tuple[Callable[[], None], ...] = ()
        self._gone = False

    @abstractmethod
    def fill(self, buffer: Scratch) -> tuple[int, Stop]:
        """Read what is there into `buffer`; how much it was, and what stops the reading (as Session.fill)."""

    @abstractmethod
    def put(self, buffer: Scratch, size: int) -> int:
        """Write the first `size` bytes of `buffer`; how many were taken. Raises."""

    @abstractmethod
    def offer(self, data: bytes) -> int:
        """Write what was not taken before; how much was taken now. Raises."""

    @abstractmethod
    def end(self) -> bool:
        """Say that no more comes; False: ask again when the socket is writable. Raises."""

    def when_readable(self, call: Callable[[], None] | None) -> None:
        """Call this whenever there is something to read; None: do not listen."""
        if self._gone:
            return
        if call is None and self._reader is not None:
            self._loop.remove_reader(self._fd)
        elif call is not None and self._reader is None:
            self._loop.add_reader(self._fd, call)
        self._reader = call

    def when_writable(self, call: Callable[[], None]) -> None:
        """Call this once when the socket takes something again."""
        if self._gone:
            return
        if not self._waiting:
            self._loop.add_writer(self._fd, self._writable)
        self._waiting += (call,)

    def _writable(self) -> None:
        waiting, self._waiting = self._waiting, ()
        self._loop.remove_writer(self._fd)
        for call in waiting:
            if not self._gone:  # what the one call does may be the end, and the descriptor somebody else's
                call()

    @property
    def is_broken(self) -> bool:
        """Whether the socket has an error that reading would find; asking takes it away from the socket."""
        return not self._gone and self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0

    def leave(self) -> None:
        """Hear no more of the socket, and never again."""
        self.when_readable(None)
        self._gone = True
        if self._waiting:
            self._waiting = ()
            self._loop.remove_writer(self._fd)

    def close(self, *, reset: bool = False) -> None:
        """Leave the socket and close it; with `reset` so that the other side sees that it broke."""
        self.leave()
        if reset and self.sock.family != socket.AF_UNIX:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.sock.close()


class Plain(End):
    """The side in the clear."""

    __slots__ = ()

    def fill(self, buffer: Scratch) -> tuple[int, Stop]:
        """As End.fill."""
        try:
            size = self.sock.recv_into(buffer.view)
        except (BlockingIOError, InterruptedError):
            return 0, Wait.READABLE
        except OSError as error:
            return 0, error
        return size, None if size else Goodbye()

    def put(self, buffer: Scratch, size: int) -> int:
        """As End.put."""
        try:
            return self.sock.send(buffer.view[:size])
        except (BlockingIOError, InterruptedError):
            return 0

    def offer(self, data: bytes) -> int:
        """As End.offer."""
        try:
            return self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    def end(self) -> bool:
        """As End.end."""
        with contextlib.suppress(OSError):  # it is gone already: reading says so
            self.sock.shutdown(socket.SHUT_WR)
        return True


class Tls(End):
    """The side in TLS. OpenSSL takes all that it is given, or wants the same once more."""

    __slots__ = ("_session",)

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, session: Session) -> None:
        super().__init__(loop, sock)
        self._session = session
        session.write_whole()

    def fill(self, buffer: Scratch) -> tuple[int, Stop]:
        """As End.fill."""
        return self._session.fill(buffer)

    def put(self, buffer: Scratch, size: int) -> int:
        """As End.put."""
        if size <= RECORD or _CORK is None or self.sock.family == socket.AF_UNIX:
            return size if self._session.put(buffer.address, size) else 0
        # Several records one after the other: hold partial segments back until the last (tcp(7), TCP_CORK).
        self.sock.setsockopt(socket.IPPROTO_TCP, _CORK, 1)
        try:
            return size if self._session.put(buffer.address, size) else 0
        finally:
            self.sock.setsockopt(socket.IPPROTO_TCP, _CORK, 0)

    def offer(self, data: bytes) -> int:
        """As End.offer."""
        return len(data) if self._session.put(scratch.in_memory(data), len(data)) else 0

    def end(self) -> bool:
        """As End.end."""
        return self._session.say_goodbye() is not Wait.WRITABLE

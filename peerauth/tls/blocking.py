"""A session as a blocking socket, for HTTP libraries that want one (`sendall`, `recv_into`, `makefile`)."""

from __future__ import annotations

import contextlib
import io
import select
import socket

from peerauth.errors import PeerAuthError
from peerauth.tls.session import RECORD, Bytes, Session, Wait
from peerauth.trust.decision import Admitted


class BlockingTls:
    """One TLS connection over `sock`, which becomes non-blocking underneath. `timeout` in seconds for each wait."""

    def __init__(self, sock: socket.socket, session: Session, timeout: float | None = None) -> None:
        sock.setblocking(False)
        self._sock = sock
        self.session = session
        self._timeout = timeout
        self._unread = b""  # came while a write failed
        self._files = 0
        self._closed = False

    def handshake(self) -> Admitted:
        """Do the whole handshake. Raises NotAdmitted, PeerAuthError, OSError or TimeoutError."""
        while (wait := self.session.handshake()) is not Wait.NOTHING:
            self._wait(wait)
        return self.session.confirm()

    def _wait(self, wait: Wait) -> None:
        if not self.ready(wait, self._timeout):
            raise TimeoutError("the other side did not answer in time")

    def ready(self, wait: Wait, timeout: float | None) -> bool:
        """Whether the socket can be read from or written to within `timeout` seconds (None: wait for ever)."""
        poller = select.poll()
        poller.register(self._sock, select.POLLIN if wait is Wait.READABLE else select.POLLOUT)
        return bool(poller.poll(None if timeout is None else max(1, int(timeout * 1000))))

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Some bytes; none when the other side has said goodbye."""
        del flags
        if self._unread:
            data, self._unread = self._unread[:size], self._unread[size:]
            return data
        while True:
            data_or_wait = self.session.read(min(size, RECORD))
            if not isinstance(data_or_wait, Wait):
                return data_or_wait
            self._wait(data_or_wait)

    def recv_into(self, buffer: bytearray | memoryview, size: int = 0) -> int:
        """Fill a buffer with some bytes and return how many."""
        data = self.recv(size or len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def sendall(self, data: Bytes) -> None:
        """Send everything. When that fails because the other side refused us, the refusal is raised."""
        view = memoryview(data).cast("B")
        try:
            while view:
                sent = self.session.write(view)
                if isinstance(sent, Wait):
                    self._wait(sent)
                else:
                    view = view[sent:]
            while not self.session.flush():
                self._wait(Wait.WRITABLE)
        except ConnectionError as error:
            self._read_last_words()
            raise BrokenPipeError(error.errno or 32, "the other side reads no more") from error

    def _read_last_words(self) -> None:
        """After a failed write: an early answer is kept to be read, a refusal is raised."""
        try:
            for _ in range(64):
                piece = self.session.read(RECORD)
                if not piece or isinstance(piece, Wait):
                    return
                self._unread += piece
        except PeerAuthError:
            if not self._unread:
                raise
        except OSError:
            return

    def settimeout(self, timeout: float | None) -> None:
        """How long each wait may last, in seconds; None: forever."""
        self._timeout = timeout

    def gettimeout(self) -> float | None:
        """The timeout in seconds."""
        return self._timeout

    def setsockopt(self, level: int, name: int, value: int) -> None:
        """Set an option of the socket underneath."""
        self._sock.setsockopt(level, name, value)

    def fileno(self) -> int:
        """The descriptor of the socket underneath."""
        return self._sock.fileno()

    def makefile(self, mode: str = "rb", buffering: int | None = None) -> io.BufferedReader:
        """A buffered reader; the connection stays open until it is closed as well."""
        del mode
        self._files += 1
        return io.BufferedReader(_Raw(self), buffering if buffering and buffering > 0 else 65536)

    def file_closed(self) -> None:
        """One reader made by `makefile` is done."""
        self._files -= 1
        if self._closed and self._files <= 0:
            self._really_close()

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """Say goodbye."""
        del how
        self.session.say_goodbye()

    def close(self) -> None:
        """Say goodbye and close, once no reader is open."""
        if not self._closed:
            self._closed = True
            if self._files <= 0:
                self._really_close()

    def _really_close(self) -> None:
        with contextlib.suppress(PeerAuthError, OSError):
            self.session.say_goodbye()
        self._sock.close()


class _Raw(io.RawIOBase):
    def __init__(self, connection: BlockingTls) -> None:
        self._connection: BlockingTls | None = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if self._connection is None:
            raise ValueError("the file is closed")
        return self._connection.recv_into(buffer)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        super().close()
        if connection is not None:
            connection.file_closed()

"""A session as an `asyncio.Transport`: what protocols, streams, uvicorn and the relay are given.

It begins where the handshake ended with an admitted peer. `get_extra_info("peer")` says who that is. Both directions have
their own end: `write_eof` sends close_notify and reading goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from peerauth.tls.alerts import Truncated
from peerauth.tls.linger import linger
from peerauth.tls.scratch import Scratch, of_this_thread
from peerauth.tls.session import RECORD, Bytes, Goodbye, Session, Wait
from peerauth.trust.decision import Admitted
from peerauth.trust.peers import Peer

_LAST_RECORDS = 64
_HIGH_WATER = 256 << 10
_AT_ONCE = 4 * RECORD  # bytes given to OpenSSL in one call
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with a time of zero: close sends RST


class TlsTransport(asyncio.Transport):
    """One admitted connection."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        session: Session,
        admitted: Admitted,
        protocol: asyncio.Protocol,
        *,
        buffer: Scratch | None = None,
        on_lost: Callable[[TlsTransport], None] | None = None,
    ) -> None:
        super().__init__()
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._session = session
        session.write_whole()
        self._scratch = buffer or of_this_thread()
        self._protocol = protocol
        self._on_lost = on_lost
        self.admitted = admitted
        self.rule: Callable[[Peer], str | None] | None = None  # for what is under way: why it is not for this peer
        self._buffer = bytearray()
        self._high, self._low = _HIGH_WATER, _HIGH_WATER // 4
        self._paused = False  # by the protocol: it wants no more data
        self._reading = False  # the loop tells us about readability
        self._writing = False  # the loop tells us about writability
        self._read_blocked = False  # TLS must write before it can read on
        self._write_failed = False
        self._write_paused = False  # the protocol was told to stop writing
        self._error: OSError | None = None  # of the socket, behind what is left to be read
        self._eof_received = False
        self._eof_wanted = False
        self._eof_sent = False
        self._closing = False
        self._lost = False

    def start(self) -> None:
        """Introduce the transport to its protocol and begin to read."""
        self._protocol.connection_made(self)
        self._update_reader()
        if self._session.holds_input:
            self._loop.call_soon(self._on_readable)

    @property
    def peer(self) -> Peer:
        """Who is on the other side, by the latest decision."""
        return self.admitted.peer

    @property
    def session(self) -> Session:
        """The TLS connection underneath."""
        return self._session

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as in asyncio
        """`peer`, `certificate` (DER), `peername`, `sockname`, `socket`, `sslcontext` (true), `tls_version`, `cipher`."""
        if name == "peer":
            return self.admitted.peer
        if name == "socket":
            return self._sock
        if name == "sslcontext":
            return self._session  # whoever asks wants to know whether this is TLS
        if name == "certificate":
            return self._session.certificate
        if name in ("tls_version", "cipher"):
            return self._session.version if name == "tls_version" else self._session.cipher
        if name in ("peername", "sockname"):
            with contextlib.suppress(OSError):
                return self._sock.getpeername() if name == "peername" else self._sock.getsockname()
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection to another protocol."""
        self._protocol = protocol  # type: ignore[assignment]

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol in charge."""
        return self._protocol

    # Reading

    def is_reading(self) -> bool:
        """Whether data is being delivered."""
        return not (self._paused or self._closing or self._eof_received)

    def pause_reading(self) -> None:
        """Deliver no more data until `resume_reading`."""
        self._paused = True
        self._update_reader()

    def resume_reading(self) -> None:
        """Deliver data again."""
        self._paused = False
        self._update_reader()
        if self._session.holds_input:
            self._loop.call_soon(self._on_readable)

    def _update_reader(self) -> None:
        wanted = self.is_reading() and not (self._lost or self._read_blocked)
        if wanted and not self._reading:
            self._loop.add_reader(self._fd, self._on_readable)
        elif self._reading and not wanted:
            self._loop.remove_reader(self._fd)
        self._reading = wanted

    def _on_readable(self) -> None:
        if not self._reading:
            return
        size, stop = self._session.fill(self._scratch)
        if size:
            self._protocol.data_received(bytes(self._scratch.view[:size]))
        if isinstance(stop, Goodbye):
            self._on_goodbye()
        elif isinstance(stop, Exception):
            self._fail(self._error if self._error is not None and isinstance(stop, Truncated) else stop)
        elif stop is Wait.WRITABLE:
            self._read_blocked = True
            self._update_reader()
            self._want_writable()
        elif self.is_reading() and (self._session.holds_input or self._is_broken()):
            self._loop.call_soon(self._on_readable)

    def _is_broken(self) -> bool:
        """Whether the socket has an error behind what is left to be read.

        The loop may have told us of it once, with the data before it, and will not again: where epoll says EPOLLERR, libuv
        (uv__poll_io), and uvloop with it, stops to watch the socket. asyncio's own loop goes on.
        """
        number = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # which takes it away from the socket
        if number:
            self._error = OSError(number, os.strerror(number))
        return number != 0

    def denied(self) -> str | None:
        """Why what is under way would not be begun any more for the peer that is there by the latest decision."""
        return None if self.rule is None else self.rule(self.peer)

    def look(self) -> None:
        """It has asked itself, after the read that may have been the last (`_is_broken`)."""

    def _on_goodbye(self) -> None:
        if self._lost or self._eof_received:
            return
        self._eof_received = True
        self._update_reader()
        if not self._protocol.eof_received() or self._eof_sent:
            self.close()

    # Writing

    def write(self, data: Bytes) -> None:
        """Send, or keep until it can be sent; above the high-water mark the protocol is told to pause."""
        if self._lost or self._closing or self._eof_wanted or self._write_failed or not data:
            return
        if not self._buffer:
            rest = self._send(memoryview(data))
            if rest is None:
                return
            data = rest
        self._buffer += data
        self._want_writable()
        if len(self._buffer) > self._high and not self._write_paused:
            self._write_paused = True
            self._protocol.pause_writing()

    def _send(self, view: memoryview) -> memoryview | None:
        """Write what goes; what is left, or None when nothing is (or the connection failed)."""
        try:
            while view:
                sent = self._session.write(view[:_AT_ONCE])
                if isinstance(sent, Wait):
                    return view
                view = view[sent:]
            if not self._session.flush():
                self._want_writable()
        except Exception as error:  # noqa: BLE001
            self._fail_writing(error)
        return None

    def _flushed(self) -> bool:
        try:
            return self._session.flush()
        except OSError as error:
            self._fail_writing(error)
            return False

    def _want_writable(self) -> None:
        if not self._writing and not self._lost:
            self._loop.add_writer(self._fd, self._on_writable)
            self._writing = True

    def _on_writable(self) -> None:
        if not self._writing:
            return
        if self._read_blocked:
            self._read_blocked = False
            self._update_reader()
        if self._buffer:
            head = bytes(memoryview(self._buffer)[:_HIGH_WATER])
            rest = self._send(memoryview(head))
            if self._lost or self._write_failed:
                return
            del self._buffer[: len(head) - (0 if rest is None else len(rest))]
        if self._write_paused and len(self._buffer) <= self._low:
            self._write_paused = False
            self._protocol.resume_writing()
        if not self._buffer and not self._lost and self._flushed():
            self._stop_writer()
            self._after_flush()

    def can_write_eof(self) -> bool:
        """True: TLS ends each direction by itself."""
        return True

    def write_eof(self) -> None:
        """Send what is buffered and then close_notify; reading goes on."""
        if not (self._eof_wanted or self._closing or self._lost):
            self._eof_wanted = True
            if not self._buffer and not self._writing:
                self._after_flush()

    def _after_flush(self) -> None:
        if (self._eof_wanted or self._closing) and not self._eof_sent:
            try:
                if self._session.say_goodbye() is Wait.WRITABLE:
                    self._want_writable()
                    return
            except Exception as error:  # noqa: BLE001
                self._fail_writing(error)
                return
            self._eof_sent = True
        if self._closing or (self._eof_sent and self._eof_received):
            self._finish(None)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Where `pause_writing` and `resume_writing` are called, in bytes."""
        self._high = _HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high), in bytes."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """How many bytes wait to be sent."""
        return len(self._buffer)

    # The end

    def is_closing(self) -> bool:
        """Whether the connection is ending or has ended."""
        return self._closing or self._lost

    def close(self) -> None:
        """Send what is buffered, say goodbye, and close so that both arrive."""
        if self._closing or self._lost:
            return
        self._closing = True
        self._update_reader()
        if not self._buffer and not self._writing:
            self._after_flush()

    def abort(self) -> None:
        """End at once: nothing more is sent, and the other side sees a reset rather than an orderly end."""
        self._finish(ConnectionAbortedError("the connection was ended here"), reset=True)

    def _fail(self, error: Exception) -> None:
        self._finish(error, reset=not isinstance(error, Truncated))

    def _fail_writing(self, error: Exception) -> None:
        """A write failed: nothing more is written, but the reason, or an early answer, may be waiting to be read."""
        self._write_failed = True
        self._buffer = bytearray()
        self._stop_writer()
        self._loop.call_soon(self._read_last_words, error)

    def _read_last_words(self, error: Exception) -> None:
        try:
            for _ in range(_LAST_RECORDS):
                if self._lost:
                    return
                piece = self._session.read(RECORD)
                if not piece or isinstance(piece, Wait):
                    break
                self._protocol.data_received(piece)
        except Exception as found:  # noqa: BLE001
            error = found if isinstance(error, OSError) else error
        self._fail(error)

    def _stop_writer(self) -> None:
        if self._writing:
            self._loop.remove_writer(self._fd)
            self._writing = False

    def _finish(self, error: Exception | None, *, reset: bool = False) -> None:
        if self._lost:
            return
        self._lost = True
        self._closing = True
        self._update_reader()
        self._stop_writer()
        self._buffer = bytearray()
        if error is None and not self._eof_received:
            linger(self._loop, self._sock)
        else:
            if reset:
                with contextlib.suppress(OSError):
                    self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._sock.close()
        if self._on_lost is not None:
            self._on_lost(self)
        self._loop.call_soon(self._protocol.connection_lost, error)

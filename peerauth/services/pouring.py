"""A transport that takes stretches of files where bytes are written, and pours them from the disk straight into TLS.

Whatever was written before leaves first. A stretch has 256 KB of memory, from its beginning to its end: OpenSSL encrypts
from where the disk was read into, and what the socket does not take is offered again from there. So nothing is copied, and
a reader who is slow costs no more than that. One block for each time that the socket is writable: others get their turns.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import TYPE_CHECKING

from peerauth.services.ends import Tls
from peerauth.services.moving import MovingTransport
from peerauth.services.stretch import Stretch
from peerauth.tls.scratch import Scratch
from peerauth.tls.session import Bytes

if TYPE_CHECKING:
    from peerauth.services.guest import Guest
    from peerauth.services.patience import Patience


class _Pour:
    """A stretch under way: what is in its memory, and where it goes."""

    __slots__ = ("buffer", "filled", "sink", "stretch")

    def __init__(self, stretch: Stretch) -> None:
        self.stretch = stretch
        self.sink: Tls | None = None  # from when on nothing else is being written
        self.buffer = Scratch()
        self.filled = 0  # bytes that are to be put, or put again


class PouringTransport(MovingTransport):
    """As MovingTransport; `write` takes a Stretch, too, and nothing else until that has gone. `threads` wait for disks."""

    def __init__(self, guest: Guest, protocol: asyncio.Protocol, patience: Patience, threads: Executor) -> None:
        super().__init__(guest, protocol, patience)
        self._threads = threads
        self._pour: _Pour | None = None
        self._fetching = False

    def write(self, data: Bytes | Stretch) -> None:
        """As TlsTransport.write. What is written in the middle of a stretch is dropped: the answer is cut off then."""
        if not isinstance(data, Stretch):
            if self._pour is None:
                super().write(data)
            return
        data.taken = True
        if self._pour is not None or self._lost or self._closing or self._eof_wanted or self._write_failed:
            data.end(complete=False)
            return
        self._pour = _Pour(data)
        self._want_writable()
        if not self._buffer:
            self._go_on(self._pour)

    def close(self) -> None:
        """As TlsTransport.close; in the middle of a stretch with a reset, so that it does not look complete."""
        if self._pour is None:
            super().close()
        else:
            self.abort()

    def _on_writable(self) -> None:
        if self._pour is None or self._buffer or self._read_blocked:
            super()._on_writable()
            if self._pour is not None and not (self._fetching or self._write_failed):
                self._want_writable()
        elif self._writing and not self._fetching:
            self._go_on(self._pour)

    def _go_on(self, pour: _Pour) -> None:
        """Offer one block to the socket."""
        try:
            if not pour.filled:
                pour.filled = pour.stretch.at_hand(pour.buffer.view)
                if not pour.filled:
                    self._fetch(pour)
                    return
            if pour.sink is None:
                pour.sink = Tls(self._loop, self._sock, self._session)
            if not pour.sink.put(pour.buffer, pour.filled):
                return
        except Exception as error:  # noqa: BLE001 - every end of a connection is delivered to its protocol
            self._fail_writing(error)
            return
        pour.filled = 0
        if not pour.stretch.left:
            self._end(complete=True)

    def _fetch(self, pour: _Pour) -> None:
        self._stop_writer()
        self._fetching = True
        fetching = self._loop.run_in_executor(self._threads, pour.stretch.fetch, pour.buffer.view)
        fetching.add_done_callback(self._fetched)

    def _fetched(self, fetching: asyncio.Future[int]) -> None:
        self._fetching = False
        if self._lost or self._pour is None:
            self._end(complete=False)
        elif fetching.cancelled() or fetching.exception() is not None:
            self.abort()
        else:
            self._pour.filled = fetching.result()
            self._want_writable()

    def _finish(self, error: Exception | None, *, reset: bool = False) -> None:
        super()._finish(error, reset=reset)
        if not self._fetching:  # the thread has the descriptor still
            self._end(complete=False)

    def _end(self, *, complete: bool) -> None:
        pour, self._pour = self._pour, None
        if pour is not None:
            pour.stretch.end(complete=complete)

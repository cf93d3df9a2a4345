"""Standard input and output through a pinned connection, as an ssh ProxyCommand needs it."""

from __future__ import annotations

import asyncio
import os
import threading

from peerauth.client.admissions import Followed
from peerauth.client.dial import Dialer
from peerauth.client.target import Target
from peerauth.net.splice import reset
from peerauth.tls.session import NotAdmitted
from peerauth.trust.decision import Refused

_CHUNK = 65536


class _Pipe(asyncio.Protocol):
    """Writes what comes to a descriptor, in a thread's time; `ended` carries the error or None."""

    def __init__(self, output: int) -> None:
        self._output = output
        self.output_gone = False
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Exception | None] = self._loop.create_future()
        self.writable = asyncio.Event()
        self.writable.set()
        self.transport: asyncio.Transport | None = None
        self._writing: asyncio.Future[None] | None = None
        self._lost: tuple[Exception | None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.pause_reading()
        self._writing = self._loop.run_in_executor(None, _write_all, self._output, data)
        self._writing.add_done_callback(self._written)

    def _written(self, done: asyncio.Future[None]) -> None:
        self._writing = None
        assert self.transport is not None
        error = done.exception()
        if error is not None:
            self.output_gone = True
            self._finish(error if isinstance(error, Exception) else None)
            self.transport.abort()
        elif self._lost is not None:
            self._finish(self._lost[0])
        else:
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.writable.set()
        if self._writing is None:
            self._finish(exc)
        else:
            self._lost = (exc,)

    def not_admitted(self, refused: Refused) -> None:
        """Whoever is there is no peer any more: nothing more of it is written, also where somebody is slow to read."""
        self._finish(NotAdmitted(refused))
        assert self.transport is not None
        reset(self.transport)

    def _finish(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(error)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


async def pipe(dialer: Dialer, target: Target, source: int = 0, output: int = 1) -> None:
    """Join the descriptors with the target until both directions have ended, or the other side has, or is no peer any more.

    Raises TrustRefused or ConnectFailed, also when the refusal comes late, and BrokenPipeError when `output` is gone.
    """
    protocol = _Pipe(output)
    transport = await dialer.connect(target, protocol)
    loop = asyncio.get_running_loop()
    followed = Followed(dialer.peers, dialer.directory)
    followed.add(transport, protocol.not_admitted)
    feeding = asyncio.create_task(_feed(loop, source, transport, protocol))
    try:
        error = await protocol.ended
    finally:
        followed.discard(transport)
        feeding.cancel()
    if error is not None and protocol.output_gone:
        raise error
    if error is not None:
        raise dialer.broken(error, target, heard=transport.session.heard)


async def _feed(loop: asyncio.AbstractEventLoop, source: int, transport: asyncio.Transport, protocol: _Pipe) -> None:
    """Read the source in a daemon thread: it may be a terminal that never ends, which no exit should wait for."""
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    room = threading.Semaphore(4)

    def read() -> None:
        while True:
            room.acquire()
            try:
                piece = os.read(source, _CHUNK)
            except OSError:
                piece = b""
            try:
                loop.call_soon_threadsafe(pieces.put_nowait, piece)
            except RuntimeError:
                return
            if not piece:
                return

    threading.Thread(target=read, name="standard-input", daemon=True).start()
    while piece := await pieces.get():
        await protocol.writable.wait()
        transport.write(piece)
        room.release()
    transport.write_eof()

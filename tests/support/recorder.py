"""A program that speaks HTTP behind a proxy, keeps every byte that it hears, and reads it as strictly as it was written."""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from peerauth.address import Address
from tests.support.dropin import DEADLINE_S

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)


@dataclass
class Heard:
    """One connection to the recorder: every byte of it, and the requests in it that were complete."""

    data: bytearray = field(default_factory=bytearray)
    requests: list[bytes] = field(default_factory=list)
    ended: str = ""  # `closed` or `reset`


class Recorder:
    """All that was heard, in the order of the connections; one thread reads them, so that nothing is heard late.

    `answers` are given one after another, then OK for ever.
    """

    def __init__(self, listening: socket.socket) -> None:
        self.address = Address("127.0.0.1", int(listening.getsockname()[1]))
        self.connections: list[Heard] = []
        self.answers: list[bytes] = []
        self._listening = listening
        self._selector = selectors.DefaultSelector()
        self._selector.register(listening, selectors.EVENT_READ)
        self._bell, self._rope = socket.socketpair()
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def forget(self) -> None:
        """Begin anew: what was heard so far counts no more."""
        self.connections = []
        self.answers = []

    @property
    def heard(self) -> bytes:
        """Everything."""
        return b"".join(bytes(one.data) for one in self.connections)

    @property
    def requests(self) -> list[bytes]:
        """The complete requests."""
        return [request for one in self.connections for request in one.requests]

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until this is true; looked at whenever something is heard."""
        with self._news:
            assert self._news.wait_for(true, DEADLINE_S), self.connections

    def close(self) -> None:
        """End every connection, and the thread."""
        self._rope.close()
        self._thread.join(DEADLINE_S)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._bell:
                    self._end()
                    return
                if key.fileobj is self._listening:
                    sock, _ = self._listening.accept()
                    heard = Heard()
                    self.connections.append(heard)
                    self._selector.register(sock, selectors.EVENT_READ, (heard, bytearray()))
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._read(key.fileobj, *key.data)
            with self._news:
                self._news.notify_all()

    def _read(self, sock: socket.socket, heard: Heard, left: bytearray) -> None:
        try:
            data = sock.recv(1 << 16)
        except ConnectionResetError:
            data, heard.ended = b"", "reset"
        heard.data += data
        left += data
        while request := first_request(left):
            heard.requests.append(request)
            del left[: len(request)]
            answer = self.answers.pop(0) if self.answers else OK
            with contextlib.suppress(OSError):
                sock.sendall(answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if request.startswith(b"HEAD ") else answer)
        if not data:
            heard.ended = heard.ended or "closed"
            self._selector.unregister(sock)
            sock.close()

    def _end(self) -> None:
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()


def first_request(data: bytes | bytearray) -> bytes:
    """The first request in this, when it is complete; it must be in the form in which a careful proxy writes."""
    end = data.find(b"\r\n\r\n") + 4
    if end == 3:
        return b""
    head = bytes(data[:end])
    if (length := _LENGTH.search(head)) is not None:
        end += int(length[1])
        return bytes(data[:end]) if len(data) >= end else b""
    if _CHUNKED.search(head) is None:
        return head
    while (line := data.find(b"\r\n", end)) >= 0:
        size = int(data[end:line], 16)
        if not size:
            stop = data.find(b"\r\n\r\n", line) + 4
            return b"" if stop == 3 else bytes(data[:stop])
        end = line + 2 + size + 2
    return b""


@contextlib.contextmanager
def recorder() -> Iterator[Recorder]:
    """One that listens, while the block runs."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        one = Recorder(listening)
        try:
            yield one
        finally:
            one.close()

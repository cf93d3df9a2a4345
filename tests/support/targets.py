"""Plain TCP programs for a relay to lead to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from peerauth.address import Address
from tests.support.dropin import DEADLINE_S


@contextlib.contextmanager
def target(behave: Callable[[socket.socket], object], *, window: int = 0) -> Iterator[Address]:
    """Something that listens in the clear and does this with each connection, in a thread; `window` limits what waits."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        if window:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        threads: list[threading.Thread] = []

        def one(sock: socket.socket) -> None:
            with sock, contextlib.suppress(OSError):
                behave(sock)

        def accept() -> None:
            while True:
                try:
                    sock, _ = listening.accept()
                except OSError:
                    return
                sock.settimeout(DEADLINE_S)
                threads.append(threading.Thread(target=one, args=(sock,)))
                threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield Address("127.0.0.1", int(listening.getsockname()[1]))
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            acceptor.join(DEADLINE_S)
            for thread in threads:
                thread.join(DEADLINE_S)


def echo(sock: socket.socket) -> None:
    """Send back what comes, and end when the other side does."""
    while data := sock.recv(65536):
        sock.sendall(data)


def everything(sock: socket.socket) -> bytes:
    """All that comes until the end."""
    heard = b""
    while data := sock.recv(65536):
        heard += data
    return heard


def unused_port() -> int:
    """A port of 127.0.0.1 on which nothing listens just now."""
    with socket.create_server(("127.0.0.1", 0)) as briefly:
        return int(briefly.getsockname()[1])

"""A real proxy, a process of its own, before a program that keeps every byte; and what a peer says to it over TLS."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from peerauth.address import Address
from tests.support.engine import Caller, identity
from tests.support.recorder import Recorder, recorder
from tests.support.workers import Home, Serving, serving

MARK = b"GET /mark HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"


class Door:
    """The proxy and the program. alice and bob are its peers; alice says things unless somebody else is named."""

    def __init__(self, node: Serving, program: Recorder) -> None:
        self.node = node
        self.program = program
        self.port = node.port
        self._callers = {name: Caller(identity(name)) for name in ("alice", "bob")}

    def open(self, name: str = "alice") -> ssl.SSLSocket:
        """A connection."""
        return self._callers[name].open(self.port)

    def say(self, *pieces: bytes, name: str = "alice") -> bytes:
        """Everything that is answered to this, each piece in a TLS record of its own, until the other side ends."""
        self.program.forget()
        with self.open(name) as tls:
            return say(tls, pieces)

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until this is true of what the program has heard; looked at whenever it hears something."""
        self.program.until(true)

    def reached(self) -> list[bytes]:
        """What the program has heard since `say`, connection by connection."""
        with self.open() as tls:
            assert say(tls, [MARK]).endswith(b"\r\n\r\nok\n")  # what was sent before this has been heard before this
        heard = [bytes(one.data) for one in self.program.connections if one.data]
        assert heard.pop().startswith(b"GET /mark ")
        return heard


def say(tls: ssl.SSLSocket, pieces: Iterable[bytes]) -> bytes:
    """Say this, piece by piece, and hear what comes until the end."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):  # it may not want to hear all of it
        for piece in pieces:
            tls.sendall(piece)
    heard = b""
    while data := tls.recv(1 << 16):
        heard += data
    return heard


@contextlib.contextmanager
def proxy(place: Path, to: Address, settings: str = "", *, workers: int = 1) -> Iterator[Serving]:
    """A proxy to this address, with these further settings of its one service; alice and bob are its peers."""
    home = Home(place)
    for name in ("alice", "bob"):
        home.pin(name)
    service = f'[[serve]]\nname = "web"\nlisten = "127.0.0.1:0"\nhttp = "http://{to}"\n{settings}'
    with serving(home, settings=service, listen=None, workers=workers, relay=False) as node:
        yield node


@contextlib.contextmanager
def door(place: Path, settings: str = "", *, workers: int = 1) -> Iterator[Door]:
    """A proxy with these further settings before a program that keeps every byte."""
    with recorder() as program, proxy(place, program.address, settings, workers=workers) as node:
        yield Door(node, program)

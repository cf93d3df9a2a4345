"""The engine for tests: nodes that share one set of fast keys, a running `Server`, and clients that are not ours."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import inspect
import os
import random
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
import uvloop

from peerauth.address import Address, parse_address
from peerauth.audit import Event
from peerauth.http.routes import Routes
from peerauth.net.sockets import open_listeners
from peerauth.server.contexts import Speech
from peerauth.server.porch import Porter
from peerauth.server.server import Server, places_of
from peerauth.services.guest import Handler, by_protocol
from peerauth.services.offers import Offer
from peerauth.store.config import Config, Limits, Service
from peerauth.store.kinds import Hello, Kind, OnUnknown, Relay, Root
from peerauth.store.peerdir import PeerDirectory
from peerauth.tls.context import MinimumVersion
from peerauth.trust.decision import Admitted
from peerauth.trust.identity import Identity, KeyType, new_key, self_signed
from peerauth.trust.policy import EVERY_PEER, Policy
from tests.support.dropin import DEADLINE_S, NOW

LIMIT_S = 40.0
_LOOPS: dict[str, Callable[[Coroutine[Any, Any, None]], None]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}
Test = Callable[..., Coroutine[Any, Any, None]]


def on_loops(*loops: str) -> Callable[[Test], Callable[..., None]]:
    """Run an asynchronous test to its end on each of these loops (default: both), within a limit of time."""

    def make(test: Test) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**values: Any) -> None:  # noqa: ANN401 - the fixtures of the test
            loop = values.pop("loop")

            async def main() -> None:
                # Clients wait in threads: as many as a test has, or they would wait for each other.
                asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(64))
                await asyncio.wait_for(test(**values), LIMIT_S)

            _LOOPS[loop](main())

        own = list(inspect.signature(test).parameters.values())
        ours = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), ours]
        )
        parametrized: Callable[..., None] = pytest.mark.parametrize("loop", loops or tuple(_LOOPS))(run)
        return parametrized

    return make


@functools.cache
def identity(name: str) -> Identity:
    """The P-256 identity of this name, made once in a process."""
    return self_signed(new_key(KeyType.P256), name, NOW)


@functools.cache
def _place() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def files_of(one: Identity) -> tuple[str, str]:
    """(certificate, key) of an identity as files, which `ssl` wants."""
    stem = Path(_place().name) / one.certificate.fingerprint.digest.hex()
    certificate, key = stem.with_suffix(".crt"), stem.with_suffix(".key")
    certificate.write_text(one.certificate.pem)
    key.write_bytes(one.key_pem())
    return str(certificate), str(key)


class Yard:
    """A peers directory, changed as a person's hands would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def pin(self, name: str, *whose: Identity, settings: str = "") -> Identity:
        """Pin a peer, by default one with an identity of that name; returns the identity."""
        held = whose or (identity(name),)
        if settings:
            (self.path / f"{name}.toml").write_text(settings)
        self.place(f"{name}.crt", "".join(one.certificate.pem for one in held))
        return held[0]

    def place(self, name: str, text: str | bytes) -> Path:
        """Put a file there in one step, as `mv` does."""
        waiting = self.path / f".{name}.waiting"
        waiting.write_bytes(text.encode() if isinstance(text, str) else text)
        return waiting.rename(self.path / name)

    def unpin(self, name: str) -> None:
        """Take a peer away: its certificate, not its notes."""
        (self.path / f"{name}.crt").unlink()


class Greeter(asyncio.Protocol):
    """Greets a peer by name and then sends everything back that it says."""

    def __init__(self, admitted: Admitted) -> None:
        self.greeting = f"hello {admitted.peer.name}\n".encode()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.greeting)

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def pause_writing(self) -> None:
        assert self.transport is not None
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        assert self.transport is not None
        self.transport.resume_reading()


@dataclass
class Running:
    """A server that runs in this loop, and what it has said."""

    server: Server
    port: int
    events: list[Event]
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def told(self, event: str, **facts: str) -> list[Event]:
        """What was said so far about this."""
        return [e for e in self.events if e.event == event and facts.items() <= e.as_data().items()]

    async def hears(self, event: str, **facts: str) -> Event:
        """Wait until this is said; the first time that it was."""
        await self.until(lambda: bool(self.told(event, **facts)))
        return self.told(event, **facts)[0]

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until this is true; looked at whenever something is said, and now and then."""
        async with asyncio.timeout(DEADLINE_S):
            while not true():
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 0.02)

    def note(self, event: Event) -> None:
        """Be told something."""
        self.events.append(event)
        self._news.set()

    @property
    def arrivals(self) -> int:
        """How many are in the handshake."""
        return len(self.server._porch)


@contextlib.asynccontextmanager
async def running(
    yard: Yard,
    *,
    own: Identity | None = None,
    policy: Policy = EVERY_PEER,
    limits: Limits | None = None,
    min_tls: MinimumVersion = "1.3",
    handler: Handler = Greeter,
    target: Address | tuple[Address, ...] | None = None,
    proxy_protocol: bool = False,
    hello: bool = False,
    on_unknown: OnUnknown = "refuse",
    root: Path | None = None,
    kind: Kind | None = None,
    routes: Routes | None = None,
    offer: Offer | None = None,
    alpn: tuple[bytes, ...] = (),
    config: Config | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[Running]:
    """A server on a port of `host` (0: a free one), stopped with the block.

    It greets, relays to `target`, says hello, serves the files in `root`, is of `kind`, or has an offer.
    """
    directory = PeerDirectory(yard.path)
    directory.refresh()
    events: list[Event] = []
    noted: list[Callable[[Event], None]] = [events.append]

    def sink(event: Event) -> None:
        noted[-1](event)

    server = Server(own or identity("node"), directory, sink, limits=limits, min_tls=min_tls, config=config)
    where = parse_address(f"{host}:{port}")
    try:
        if target is not None or hello:
            targets = (target,) if isinstance(target, Address) else target
            kind = Hello() if targets is None else Relay(targets, proxy_protocol=proxy_protocol)
        if root is not None:
            kind = Root(root)
        if kind is not None:
            bound = await server.add_service(Service(policy.service, where, kind, policy, on_unknown, routes))
        elif offer is not None:
            sockets = open_listeners(where)
            bound = places_of(server.doors.open(sockets, offer, policy, Speech(alpn)))
        else:
            bound = server.listen(where, by_protocol(handler), policy)
        node = Running(server, bound[0].port, events)
        noted.append(node.note)
        yield node
    finally:
        await server.stop(0)


class Gate:
    """Holds a porter's thread up: it does nothing until the gate is opened."""

    def __init__(self, porter: Porter) -> None:
        self.porter = porter
        self._opened = threading.Event()

    def close(self) -> None:
        """Return when the thread is held."""
        began = threading.Event()

        def hold() -> None:
            began.set()
            self._opened.wait(20)

        self.porter.call(hold)
        assert began.wait(20)

    def then(self, work: Callable[[], object]) -> None:
        """What the thread does first when the gate is open, and it has seen what came meanwhile."""
        self.porter.call(lambda: self.porter.call(lambda: (work(), None)[1]))

    def open(self) -> None:
        """Let it go on."""
        self._opened.set()


class Caller:
    """A client of Python's own `ssl`, which checks nothing about the server: who is admitted is what a test is about."""

    def __init__(self, own: Identity | None, *, tls12: bool = False, ciphers: str | None = None) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        if tls12:
            self.context.maximum_version = ssl.TLSVersion.TLSv1_2
        if ciphers:
            self.context.set_ciphers(ciphers)
        if own is not None:
            self.context.load_cert_chain(*files_of(own))

    def open(self, port: int, *, source: str = "127.0.0.1", session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        """Shake hands. In TLS 1.3 the server's judgement comes with the first read."""
        plain = socket.create_connection(("127.0.0.1", port), DEADLINE_S, (source, 0))
        try:
            return self.context.wrap_socket(plain, server_hostname="node", session=session, suppress_ragged_eofs=False)
        except BaseException:
            plain.close()
            raise

    def hear(self, port: int, *, source: str = "127.0.0.1", session: ssl.SSLSession | None = None) -> str:
        """The greeting, or what stands in its place: the reason of the alert, `closed`, `cut`."""
        return self.visit(port, source=source, session=session)[0]

    def visit(
        self, port: int, *, source: str = "127.0.0.1", session: ssl.SSLSession | None = None
    ) -> tuple[str, ssl.SSLSession | None, bool]:
        """(greeting or reason, ticket, whether a ticket was used)."""
        try:
            with self.open(port, source=source, session=session) as tls:
                heard = hear_line(tls)
                return heard, tls.session, bool(tls.session_reused)
        except (ssl.SSLEOFError, ConnectionError):
            return "cut", None, False
        except ssl.SSLError as error:
            return error.reason or str(error), None, False


def carry(
    tls: ssl.SSLSocket, over: threading.Event, begun: threading.Event | None = None, at_least: int = 12_000_000
) -> bool:
    """Send much and have it back, until it is over and at least so many bytes went; whether it is the same."""
    chance = random.Random(2)  # noqa: S311 - the same every time
    said, heard, went = hashlib.sha256(), hashlib.sha256(), 0
    while went < at_least or not over.is_set():
        data = chance.randbytes(100_000)
        said.update(data)
        tls.sendall(data)
        came = 0
        while came < len(data):
            piece = tls.recv(65536)
            assert piece, "this connection ended as well"
            heard.update(piece)
            came += len(piece)
        went += came
        if begun is not None:
            begun.set()
    return said.digest() == heard.digest()


def hear_line(tls: ssl.SSLSocket) -> str:
    """One line, or `closed`."""
    heard = b""
    while not heard.endswith(b"\n"):
        piece = tls.recv(1)
        if not piece:
            return heard.decode() or "closed"
        heard += piece
    return heard.decode().rstrip("\n")


def how_it_ends(tls: ssl.SSLSocket) -> str:
    """Read until the connection ends, and say how: `goodbye`, `cut` (without TLS's own end), or the alert."""
    try:
        while tls.recv(65536):
            pass
    except (ssl.SSLEOFError, ConnectionError):  # Python shows some resets as the one, some as the other
        return "cut"
    except ssl.SSLError as error:
        return error.reason or str(error)
    return "goodbye"


def with_chain(leaf: Identity, *behind: Identity) -> Caller:
    """A client that sends these certificates behind its own."""
    certificate, key = files_of(leaf)
    path = Path(certificate).with_suffix(".chain")
    path.write_text(leaf.certificate.pem + "".join(one.certificate.pem for one in behind))
    caller = Caller(None)
    caller.context.load_cert_chain(path, key)
    return caller


class Halting:
    """A TLS client that can stop in the middle of its handshake: it speaks through memory, record by record."""

    def __init__(self, caller: Caller, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = caller.context.wrap_bio(self._in, self._out)

    def hello(self) -> bytes:
        """The ClientHello."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._out.read()

    def answer(self) -> list[bytes]:
        """Send the ClientHello, hear the server's flight, and return our own, record by record."""
        self.sock.sendall(self.hello())
        while True:
            self._in.write(self.sock.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
                return list(records(self._out.read()))

    def say(self, data: bytes) -> None:
        """Send application data."""
        self.tls.write(data)
        self.sock.sendall(self._out.read())

    def say_goodbye(self) -> None:
        """Send close_notify, and nothing after it."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.sock.sendall(self._out.read())

    def read(self) -> bytes:
        """Some application data."""
        while True:
            try:
                return self.tls.read(1000)
            except ssl.SSLWantReadError:
                data = self.sock.recv(65536)
                if not data:
                    self._in.write_eof()
                self._in.write(data)

    def close(self) -> None:
        """End the connection."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def records(data: bytes) -> Iterator[bytes]:
    """The TLS records in `data` (RFC 8446 section 5.1)."""
    while data:
        length = 5 + int(struct.unpack("!H", data[3:5])[0])
        yield data[:length]
        data = data[length:]


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count

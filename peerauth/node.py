"""The library: a node from its home, and what a program wants of it.

`Node.load(home)`, then `server_context()` and `client_context(peer)` for libraries that take an `ssl.SSLContext`, or
`start_server(handler, host, port)` and `open_connection(peer)` for asyncio streams on the fast engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from peerauth.address import Address
from peerauth.errors import BadInput, TrustRefused
from peerauth.store.config import Config, load_config, policy_for
from peerauth.store.files import read_bounded
from peerauth.store.home import read_identity
from peerauth.store.lookout import Lookout
from peerauth.store.own import Own
from peerauth.store.peerdir import PeerDirectory
from peerauth.trust.certificate import Certificate
from peerauth.trust.decision import Admitted, Refused, decide
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.identity import Identity
from peerauth.trust.peers import Peer, PeerSettings
from peerauth.trust.reading import MAXIMUM_BYTES, leaves, read_certificates

if TYPE_CHECKING:
    from peerauth.audit import Event
    from peerauth.client.admissions import Followed
    from peerauth.client.renewal import Renewal
    from peerauth.server.server import Server

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Node:
    """This machine's node: its identity, its peers, and connections in both roles."""

    def __init__(self, config: Config, identity: Identity, passphrase: bytes | None = None) -> None:
        self.config = config
        self.peers = Peers(PeerDirectory(config.peers))
        self._own = Own(config, identity, passphrase)
        self._passphrase = passphrase
        self._known_renewal: Renewal | None = None
        self._known_followed: dict[asyncio.AbstractEventLoop, Followed] = {}

    @classmethod
    def load(cls, home: str | os.PathLike[str] = ".", passphrase: bytes | None = None) -> Node:
        """The node that lives in `home`.

        Raises BadInput: `no-config`, `no-identity`, `passphrase-needed`, `passphrase-wrong`, `key-mismatch`, or what is
        wrong with config.toml.
        """
        config = load_config(Path(home).absolute())
        return cls(config, read_identity(config, passphrase), passphrase)

    @property
    def name(self) -> str:
        """The node's name."""
        return self.config.name

    @property
    def identity(self) -> Identity:
        """The key and certificate that are presented, as last read; servers and new connections follow the files."""
        return self._own.identity

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the node's certificate: what others pin."""
        return self.identity.certificate.fingerprint

    def follow_identity(self) -> Identity:
        """The identity as it is on disk now; where that cannot be used, as it was before, and the log says so, once."""
        try:
            self._own.look()
        except BadInput as error:
            logging.getLogger("peerauth").warning("the identity from before is presented: %s", error)
        return self._own.identity

    # Drop-in contexts for other libraries (docs/drop-in.md says where they stop)

    def server_context(self, *, allow: list[str] | None = None) -> ssl.SSLContext:
        """A context that admits pinned peers, or only those in `allow` (names, `tag:NAME`, `@group`)."""
        from peerauth.tls import stdlib

        return stdlib.server_context(
            self.config.certificate,
            self.config.key,
            peers=self.peers.directory.refresh,
            certificates=self.peers.certificates,
            passphrase=self._passphrase,
            min_tls=self.config.min_tls,
            policy=policy_for(self.config, "library", allow),
            handshake_timeout=self.config.limits.handshake_timeout,
            identity=lambda: self.follow_identity().certificate,
            follow=self.peers.lookout.tell,
        )

    def client_context(self, peer: str) -> ssl.SSLContext:
        """A context that reaches the peer of this name and nobody else. Raises BadInput("no-such-peer")."""
        from peerauth.tls import stdlib

        self.peers[peer]
        return stdlib.client_context(
            self.config.certificate,
            self.config.key,
            peer=peer,
            peers=self.peers.directory.refresh,
            certificates=lambda: self.peers.certificates_of(peer),
            passphrase=self._passphrase,
            min_tls=self.config.min_tls,
            identity=lambda: self.follow_identity().certificate,
            follow=self.peers.lookout.tell,
        )

    # The fast engine

    async def start_server(
        self,
        handler: Handler,
        host: str = "",
        port: int = 0,
        *,
        path: str | None = None,
        allow: list[str] | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> PeerServer:
        """Serve asyncio streams to admitted peers, like `asyncio.start_server`; `peers/` is followed live.

        `handler(reader, writer)` runs as a task for each connection; `peer_of(writer)` says who it is. `path` listens on a
        Unix socket instead. `on_event` is told of admissions, refusals and changes. Raises PeerAuthError("cannot-listen").
        """
        from peerauth.server.server import Server
        from peerauth.services.guest import by_protocol

        await asyncio.to_thread(self.peers.directory.refresh)
        server = Server(
            self.identity,
            self.peers.directory,
            on_event or (lambda _: None),
            limits=self.config.limits,
            min_tls=self.config.min_tls,
            config=self.config,
            own=self._own,
        )
        try:
            address = Address(host, port, path)
            bound = server.listen(address, by_protocol(_streams(handler, server)), policy_for(self.config, "library", allow))
        except BaseException:
            await server.stop(0)
            raise
        return PeerServer(server, bound)

    async def open_connection(
        self, peer: str, address: str | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Streams to the peer of this name, at its noted address or at `address` (HOST:PORT or unix:PATH).

        Raises TrustRefused when the other side is not that peer, ConnectFailed when it cannot be reached. Whether the peer
        admits us is known when something was read: until then reading may raise TrustRefused. So it does, at any time, when
        the peer is removed here, or its certificate's time is over: the connection is reset.
        """
        from peerauth.client.dial import Dialer
        from peerauth.client.target import resolve
        from peerauth.net.splice import reset
        from peerauth.tls.session import NotAdmitted
        from peerauth.tls.streams import Streams

        directory = self.peers.directory
        await asyncio.to_thread(directory.refresh)
        await asyncio.to_thread(self.follow_identity)
        dialer = Dialer.of(
            self.identity, self.name, lambda: directory.current, min_tls=self.config.min_tls, renewal=self._renewal
        )
        target = resolve(address, directory.current, peer) if address else resolve(peer, directory.current)
        reader = asyncio.StreamReader()
        protocol = Streams(reader, explain=lambda error, heard: dialer.broken(error, target, heard=heard))
        transport = await dialer.connect(target, protocol)
        followed = self._followed()

        def end(refused: Refused) -> None:
            protocol.ended_here = NotAdmitted(refused)
            reset(transport)

        protocol.on_lost = lambda: followed.discard(transport)
        followed.add(transport, end)
        return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())

    def _followed(self) -> Followed:
        """The connections that were opened in this loop."""
        from peerauth.client.admissions import Followed

        directory, loop = self.peers.directory, asyncio.get_running_loop()
        known = {one: followed for one, followed in self._known_followed.items() if not one.is_closed()}
        followed = known.setdefault(loop, Followed(lambda: directory.current, directory))
        self._known_followed = known
        return followed

    @property
    def _renewal(self) -> Renewal:
        from peerauth.client.renewal import Renewal

        if self._known_renewal is None or self._known_renewal.identity is not self.identity:
            self._known_renewal = Renewal(self.config, self.peers.directory, self.identity, lambda *_: None)
        return self._known_renewal


class Peers:
    """The node's allow-list, as it is on disk; every look is fresh."""

    def __init__(self, directory: PeerDirectory) -> None:
        self.directory = directory
        self.lookout = Lookout(directory)

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self.directory.refresh()))

    def __len__(self) -> int:
        return len(self.directory.refresh())

    def __contains__(self, name: object) -> bool:
        return name in self.directory.refresh()

    def __getitem__(self, name: str) -> Peer:
        """The peer of this name. Raises BadInput("no-such-peer")."""
        self.directory.refresh()
        return self.directory.peer(name)

    def add(
        self,
        name: str,
        certificate: str | bytes | os.PathLike[str],
        *,
        expect: str | None = None,
        settings: PeerSettings | None = None,
    ) -> Peer:
        """Pin a certificate (PEM or DER as bytes, PEM as text, or a path) under this name, durably; running servers follow.

        Raises TrustRefused("not-expected") where `expect` is another fingerprint, and BadInput for what is no certificate,
        `name-taken` or `already-pinned`.
        """
        if isinstance(certificate, os.PathLike):
            data = read_bounded(Path(certificate), MAXIMUM_BYTES)
        else:
            data = certificate.encode() if isinstance(certificate, str) else certificate
        held = leaves(read_certificates(data))
        if expect is not None and [c.fingerprint for c in held] != [Fingerprint.parse(expect)]:
            shown = ", ".join(str(c.fingerprint) for c in held)
            raise TrustRefused("not-expected", f"the certificate is {shown}, not the expected one; nothing was pinned")
        self.directory.add(name, held, settings)
        return self[name]

    def remove(self, name: str) -> None:
        """Take a peer out of the list; running servers end its connections. Raises BadInput("no-such-peer")."""
        self.directory.remove(name)

    def rename(self, old: str, new: str) -> None:
        """Give a peer another name."""
        self.directory.rename(old, new)

    def certificates_of(self, name: str) -> list[Certificate]:
        """The pinned certificates of one peer."""
        return self.directory.certificates(name)

    def roots(self, name: str) -> bytes:
        """The peer's certificates as PEM, for what takes root certificates and asks nobody: libpq, gRPC, what is on OpenSSL.

        Given as the only roots, they admit this peer alone: one that may sign others is not among them. Raises
        BadInput: `no-such-peer`, or `no-root` when none is left.
        """
        self[name]
        meant, now = self.directory.current.only(name), datetime.now(UTC)
        held = [one for one in self.certificates_of(name) if isinstance(decide(one.der, meant, now=now), Admitted)]
        fit = "".join(one.pem for one in held if one.signs_nothing)
        if not fit:
            why = "it may sign others, by its basicConstraints or keyUsage" if held else "it has none that is valid now"
            hint = f"reach it through: peerauth connect {name} --listen unix:PATH"
            raise BadInput("no-root", f"{name} has no certificate that would admit it alone as a root: {why}", hint)
        return fit.encode()

    def certificates(self) -> Iterable[Certificate]:
        """Every pinned certificate."""
        for held in self.directory.everything().values():
            yield from held


class PeerServer:
    """A running server; an asynchronous context manager that stops it at the end of the block."""

    def __init__(self, server: Server, addresses: list[Address]) -> None:
        self._server = server
        self.addresses = addresses

    @property
    def port(self) -> int:
        """The TCP port that it listens on."""
        return self.addresses[0].port

    async def serve_forever(self) -> None:
        """Serve until cancelled."""
        try:
            await asyncio.Event().wait()
        finally:
            await self.stop()

    async def stop(self, drain: float | None = None) -> None:
        """Accept no more, give open connections `drain` seconds to end, then end them."""
        await self._server.stop(drain)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop(0)


def _streams(handler: Handler, server: Server) -> Callable[[Admitted], asyncio.Protocol]:
    from peerauth.tls.streams import Streams
    from peerauth.tls.transport import TlsTransport

    async def until_broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):  # a peer that leaves or is removed is no failure of the handler
                await handler(reader, writer)
        except Exception as error:  # noqa: BLE001 - whatever it is, the connection must not stay behind
            assert isinstance(writer.transport, TlsTransport)
            server.handler_failed(writer.transport, error)

    return lambda _: Streams(asyncio.StreamReader(), until_broken)

"""Opening a connection to a peer, in asyncio and blocking, with the same decision and the same explanations."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from peerauth.address import Address
from peerauth.client.reaching import TIMEOUT, unreachable
from peerauth.client.target import NOTE_ADDRESS, Target
from peerauth.errors import ConnectFailed, PeerAuthError, TrustRefused
from peerauth.net.reach import reach, reach_blocking
from peerauth.store.own import Own
from peerauth.store.peerfiles import PeerFiles
from peerauth.tls.blocking import BlockingTls
from peerauth.tls.context import Context, MinimumVersion, client_context
from peerauth.tls.outgoing import ClientSession
from peerauth.tls.session import Judge, NotAdmitted, Wait
from peerauth.tls.transport import TlsTransport
from peerauth.tls.waiting import ready
from peerauth.trust.decision import Admitted, Code, Refused, decide
from peerauth.trust.explain import refused_server
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.identity import Identity
from peerauth.trust.peers import PeerSet

if TYPE_CHECKING:
    from peerauth.client.renewal import Renewal

DOUBT = 1.0  # seconds that a certificate of ours which is new gives the server to refuse it


@dataclass(frozen=True)
class Dialer:
    """What a node needs to reach its peers. For programs that stay: `own` and `directory` are what they follow."""

    identity: Identity
    name: str
    peers: Callable[[], PeerSet]
    context: Context
    min_tls: MinimumVersion = "1.3"
    alpn: tuple[bytes, ...] = ()
    own: Own | None = None
    renewal: Renewal | None = None
    directory: PeerFiles | None = None

    @classmethod
    def of(
        cls,
        identity: Identity,
        name: str,
        peers: Callable[[], PeerSet],
        *,
        min_tls: MinimumVersion = "1.3",
        alpn: tuple[bytes, ...] = (),
        own: Own | None = None,
        renewal: Renewal | None = None,
        directory: PeerFiles | None = None,
    ) -> Dialer:
        """A dialer that presents `identity`; `renewal` says what is done where a rotation is why it does not get through."""
        context = client_context(identity, min_tls=min_tls, alpn=alpn)
        return cls(identity, name, peers, context, min_tls, alpn, own, renewal, directory)

    def renewed(self) -> Dialer:
        """One that presents the identity that is on disk now; this one, where it is the same.

        Raises BadInput, once, when what is on disk cannot be used: this one is still good then.
        """
        if self.own is not None:
            self.own.look()
            identity = self.own.identity
            if identity.certificate != self.identity.certificate:
                context = client_context(identity, min_tls=self.min_tls, alpn=self.alpn)
                renewal = self.renewal and self.renewal.of(identity)
                return replace(self, identity=identity, context=context, renewal=renewal)
        return self

    def _judge(self, target: Target) -> Judge:
        return lambda der: decide(der, self.peers().only(target.peer.name), now=datetime.now(UTC))

    async def connect(self, target: Target, protocol: asyncio.Protocol, *, timeout: float = TIMEOUT) -> TlsTransport:
        """Connect `protocol` to the target. Raises TrustRefused or ConnectFailed.

        In TLS 1.3 the server may still refuse us: that comes with the first read, as the error of `connection_lost`.
        """
        try:
            sock, session, admitted = await self._mended(target, timeout)
        except Exception as error:
            raise self.explained(error, target) from error
        transport = TlsTransport(asyncio.get_running_loop(), sock, session, admitted, protocol)
        transport.start()
        return transport

    async def _mended(self, target: Target, timeout: float) -> tuple[socket.socket, ClientSession, Admitted]:
        while True:  # `mends` does each thing once
            try:
                return await self._connected(target, timeout)
            except (NotAdmitted, TrustRefused) as error:
                if self.renewal is None or not await self.renewal.mends(error, target):
                    raise

    async def _connected(self, target: Target, timeout: float) -> tuple[socket.socket, ClientSession, Admitted]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout):
            sock = await reach(loop, target.address)
            try:
                session = ClientSession(self.context, sock, self._judge(target), server_name=target.address.server_name)
                while (wait := session.handshake()) is not Wait.NOTHING:
                    await ready(loop, sock, wait)
                admitted = session.confirm()
                if self.renewal is not None and self.renewal.expects_doubt:
                    with contextlib.suppress(OSError):  # silence says nothing
                        async with asyncio.timeout(DOUBT):
                            while not session.has_spoken():
                                await ready(loop, sock, Wait.READABLE)
            except BaseException:
                sock.close()
                raise
        return sock, session, admitted

    def connect_blocking(self, target: Target, *, timeout: float | None = TIMEOUT) -> BlockingTls:
        """The same for blocking code."""
        try:
            while True:
                try:
                    return self._connected_blocking(target, timeout)
                except (NotAdmitted, TrustRefused) as error:
                    if not self.mends_blocking(error, target):
                        raise
        except Exception as error:
            raise self.explained(error, target) from error

    def mends_blocking(self, error: Exception, target: Target) -> bool:
        """Do what can be done about a rotation that keeps the two apart; whether it is worth another try."""
        return self.renewal is not None and _apart(self.renewal.mends(error, target))

    def _connected_blocking(self, target: Target, timeout: float | None) -> BlockingTls:
        sock = reach_blocking(target.address, timeout)
        try:
            session = ClientSession(self.context, sock, self._judge(target), server_name=target.address.server_name)
            connection = BlockingTls(sock, session, timeout)
            connection.handshake()
            if self.renewal is not None and self.renewal.expects_doubt:
                with contextlib.suppress(OSError):
                    while not session.has_spoken() and connection.ready(Wait.READABLE, DOUBT):
                        pass
        except BaseException:
            sock.close()
            raise
        return connection

    def broken(self, error: BaseException, target: Target, *, heard: bool = True) -> BaseException:
        """What ended a connection that was open, with all that is known here; `heard`: whether the server ever spoke."""
        if isinstance(error, OSError) and not heard:
            own = self.identity.certificate.fingerprint
            return ConnectFailed(
                "closed-unanswered",
                f"{target.peer.name} at {target.address} ended the connection without an answer, as some servers do that "
                f"admit no such certificate; we are {self.name}, {own}",
                f"if it is a peerauth node, there: peerauth peer add {self.name}.crt --expect {own}",
            )
        if isinstance(error, OSError):
            return PeerAuthError(
                "broken",
                f"the connection to {target.peer.name} at {target.address} broke off",
                "if it happens at once again, ask there whether this node is still admitted",
            )
        return self.explained(error, target)

    def explained(self, error: BaseException, target: Target) -> BaseException:
        """The same trouble with all that is known here: who we are, whom we meant, what to type."""
        where = target.address
        if isinstance(error, NotAdmitted):
            return refused_server(error.refused, target.peer.name, str(where), self.peers())
        if isinstance(error, TrustRefused) and error.side == "peer" and str(where) not in error.message:
            own = self.identity.certificate.fingerprint
            return TrustRefused(
                error.code,
                f"{target.peer.name} at {where} refused us: {error.message.removeprefix('the other side refused us: ')}; "
                f"we are {self.name}, {own}",
                error.hint or f"there, with our certificate: peerauth peer add {self.name}.crt --expect {own}",
                side="peer",
            )
        if isinstance(error, ConnectFailed | TrustRefused):
            kind = type(error)
            known = str(where) in error.message
            return error if known else kind(error.code, f"{where}: {error.message}", error.hint)
        if isinstance(error, socket.gaierror) and where.host == target.peer.name:
            return ConnectFailed(
                "no-such-host", f"it is not noted where {where.host} is, and no host has that name", NOTE_ADDRESS
            )
        return unreachable(error, where) if isinstance(error, OSError | UnicodeError) else error


def _apart(work: Coroutine[None, None, bool]) -> bool:
    """Run it in a loop of its own, whatever this thread has."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def anonymous_certificate(address: Address, timeout: float = TIMEOUT) -> bytes:
    """The certificate that a server presents, as DER. Nothing is trusted and nothing is sent to it.

    Raises ConnectFailed.
    """

    def note(der: bytes | None) -> Refused:
        return Refused(Code.UNKNOWN, Fingerprint.of(der) if der else None, None, "only looking")

    presented: bytes | None = None
    try:
        with reach_blocking(address, timeout) as sock:
            context = client_context(None, min_tls="1.2")
            session = ClientSession(context, sock, note, server_name=address.server_name)
            try:
                BlockingTls(sock, session, timeout).handshake()
            except NotAdmitted:
                presented = session.certificate
    except PeerAuthError as error:
        raise ConnectFailed(error.code, f"{address}: {error.message}", error.hint) from error
    except (OSError, UnicodeError) as error:
        raise unreachable(error, address) from error
    if presented is None:
        raise ConnectFailed("no-certificate", f"{address} presented no certificate")
    return presented


def admitted_peer(connection: BlockingTls) -> Admitted:
    """Who was admitted on a blocking connection."""
    decision = connection.session.decision
    if not isinstance(decision, Admitted):
        raise TypeError("this connection was not admitted")
    return decision

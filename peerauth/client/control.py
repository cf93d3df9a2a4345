"""Speaking peerauth/1 with another node: the connection, and who it must be."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from peerauth.address import Address
from peerauth.client.reaching import TIMEOUT, unreachable
from peerauth.control.line import Line
from peerauth.errors import ConnectFailed
from peerauth.net.reach import reach
from peerauth.tls.context import CONTROL, client_context
from peerauth.tls.outgoing import ClientSession
from peerauth.tls.session import Judge, Wait
from peerauth.tls.waiting import ready
from peerauth.trust.decision import Code, Decision, Refused, decide
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.identity import Identity
from peerauth.trust.peers import Peer, PeerSet


def exactly(pin: Fingerprint) -> Judge:
    """Judges a server by this pin alone."""
    only = PeerSet.of([Peer("expected", (pin,))])
    return lambda der: decide(der, only, now=datetime.now(UTC))


def anyone(der: bytes | None) -> Decision:
    """Judges nobody: who it is must come out of what is said."""
    return Refused(Code.UNKNOWN, Fingerprint.of(der) if der else None, None, "nobody is meant in particular")


@contextlib.asynccontextmanager
async def conversation(
    identity: Identity, address: Address, judge: Judge, *, hear_anyone: bool = False, timeout: float = TIMEOUT
) -> AsyncIterator[Line]:
    """A line to the node at `address`, whom `judge` must admit, unless we `hear_anyone`; `timeout` seconds for all of it.

    Raises NotAdmitted; ConnectFailed: `not-peerauth` where the other side does not speak peerauth/1, or another of its kind;
    TrustRefused; and whatever the block raises.
    """
    try:
        async with asyncio.timeout(timeout):
            loop = asyncio.get_running_loop()
            sock = await reach(loop, address)
            try:
                context = client_context(identity, alpn=(CONTROL,))
                session = ClientSession(context, sock, judge, server_name=address.server_name, hear_anyone=hear_anyone)
                await _shake_hands(loop, sock, session, address)
                if hear_anyone:
                    session.greet()
                else:
                    session.confirm()
                line = Line(sock, session)
                yield line
            except BaseException:
                sock.close()
                raise
            line.close()
    except (OSError, UnicodeError) as error:
        raise unreachable(error, address) from error


async def _shake_hands(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, session: ClientSession, address: Address
) -> None:
    text = f"{address} does not speak peerauth/1: it is another program, or an older or newer peerauth"
    other = ConnectFailed("not-peerauth", text)
    try:
        while (wait := session.handshake()) is not Wait.NOTHING:
            await ready(loop, sock, wait)
    except ConnectFailed as error:  # RFC 7301 section 3.2: some say that they know no such protocol
        raise (other if error.code == "tls-alert" and "application protocol" in error.message else error) from error
    if session.alpn != CONTROL:
        raise other

"""Messages over one TLS connection, in asyncio, for either side.

Bounded in the size of a message and in their number; in time by whoever awaits. A refusal's text leaves here escaped.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TypeVar

from peerauth.control.messages import No
from peerauth.control.wire import HEAD, LONGEST, Message, decode, encode, length_of, wrong
from peerauth.errors import PeerAuthError, printable
from peerauth.tls.alerts import Truncated
from peerauth.tls.linger import linger
from peerauth.tls.session import RECORD, Session, Wait
from peerauth.tls.waiting import ready

MOST = 32  # messages from the other side

M = TypeVar("M", bound=Message)


class Declined(PeerAuthError):
    """The other side has answered no. `code` is its code; `message` what it says, escaped."""

    exit_code = 3

    def __init__(self, no: No) -> None:
        super().__init__(printable(no.code, 40), f"the other side says no: {printable(no.reason, 300)}")
        self.reason = printable(no.reason, 300)


class Line:
    """One conversation. `limit`: bytes of a message from the other side."""

    def __init__(self, sock: socket.socket, session: Session, *, limit: int = LONGEST) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self.session = session
        self.limit = limit
        self._unread = b""
        self._left = MOST

    async def send(self, said: Message) -> None:
        """Say something. Raises OSError or PeerAuthError."""
        data = memoryview(encode(said))
        while data:
            taken = self.session.write(data[:RECORD])
            if isinstance(taken, Wait):
                await ready(self._loop, self._sock, taken)
            else:
                data = data[taken:]
        while not self.session.flush():
            await ready(self._loop, self._sock, Wait.WRITABLE)

    async def receive(self, *expected: type[M]) -> M:
        """The next message, which must be one of the expected.

        Raises Declined, ProtocolError, Truncated when the other side has hung up, or what reading raises.
        """
        if not self._left:
            raise wrong("the other side says too much")
        self._left -= 1
        length = length_of(await self._exactly(HEAD), self.limit)
        heard = decode(await self._exactly(length))
        if isinstance(heard, expected):
            return heard
        if isinstance(heard, No):
            raise Declined(heard)
        raise wrong(f"'{heard.type}' is not what is to be said now")

    async def _exactly(self, count: int) -> bytes:
        while len(self._unread) < count:
            piece = self.session.read(RECORD)
            if isinstance(piece, Wait):
                await ready(self._loop, self._sock, piece)
            elif not piece:
                raise Truncated("the other side has hung up")
            else:
                self._unread += piece
        data, self._unread = self._unread[:count], self._unread[count:]
        return data

    def close(self) -> None:
        """Say goodbye and let what was said arrive; does not wait."""
        with contextlib.suppress(PeerAuthError, OSError):
            self.session.say_goodbye()
        linger(self._loop, self._sock)

    def abort(self) -> None:
        """End at once."""
        self._sock.close()

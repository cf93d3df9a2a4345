"""The sockets and objects of the drop-in context: nothing passes before the decision, and nothing after another one.

`stdlib` has the rules. A socket may be ended by another thread than its own, which only shuts it down: it never touches what
OpenSSL has of it, and never a descriptor that is another's by then.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial, wraps
from typing import Any, ClassVar, Final

from peerauth.locks import ForkLock
from peerauth.tls.gate import AGAIN_S, Gate, PeerRefused, explain, remote_of
from peerauth.trust.decision import Address, Admitted, Refused

LINGER_S: Final = 1.0  # how long a refused client may hold a blocking server, so that the alert reaches it
LINGER_BYTES: Final = 1 << 18
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER with a time of zero: close sends RST

_log = logging.getLogger("peerauth")

BYTES_OF_A_SOCKET = (
    *("read", "recv", "recv_into", "recvfrom", "recvfrom_into"),
    *("write", "send", "sendall", "sendto", "sendfile"),
)  # recvmsg, recvmsg_into, sendmsg and dup are refused by ssl.SSLSocket itself
BYTES_OF_AN_OBJECT = ("read", "write")


class Judged:
    """What our sockets and objects have in common: nothing passes before `admitted` is set."""

    judge: ClassVar[Gate]
    admitted: Admitted | None = None
    refused: tuple[Refused, str] | None = None
    leaf: bytes | None = None  # what was admitted, and from where; neither can always be asked for again
    remote: Address | None = None
    decided_at: float = 0.0  # time.monotonic()
    began: bool = False
    held_in = 0  # the process that looks after it
    _to_call: tuple[Callable[[], object], ...] = ()
    _calling = ForkLock()  # of all of them: it is held for an instant

    def when_refused(self, call: Callable[[], object]) -> None:
        """Call this when the connection is refused, or now if it is."""
        with self._calling:
            if self.refused is None:
                self._to_call = (*self._to_call, call)
                return
        call()

    def refuse(self, error: PeerRefused) -> None:
        """Nothing more passes here."""
        with self._calling:
            self.admitted, self.refused = None, (error.decision, str(error))
            to_call, self._to_call = self._to_call, ()
        for call in to_call:
            try:
                call()
            except Exception:  # noqa: BLE001 - others are still to be ended
                _log.exception("what was to be called when a peer is removed has failed")


class JudgedSocket(Judged, ssl.SSLSocket):
    """A socket of a context of ours."""

    handshake_timeout: ClassVar[float | None] = None
    _closing: ForkLock | None = None  # none before it is looked after: then nobody but its own thread knows it

    def look_again(self) -> None:
        """As Held.look_again. Whoever waits for it in its own thread is woken, and closes it."""
        assert self._closing is not None
        if self.admitted is None or self._sslobj is None:  # type: ignore[attr-defined] # the second: it is plain now
            return
        try:
            self.admitted = self.judge.admit_again(self.leaf, self.remote, self)
        except PeerRefused as error:
            self.refuse(error)
            with self._closing, suppress(OSError):  # else its descriptor could be another's by the time that it is shut
                if self.fileno() >= 0:
                    self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                    socket.socket.shutdown(self, socket.SHUT_RDWR)  # ssl's own would have it go on in the clear

    def hold(self) -> None:
        """Have it looked after, in this process."""
        self._closing, self.held_in = ForkLock(), os.getpid()
        self.judge.hold(self)

    def _real_close(self) -> None:
        with self._closing or nullcontext():
            super()._real_close()  # type: ignore[misc] # socket.close is made for this

    def detach(self) -> int:
        """As in ssl.SSLSocket."""
        with self._closing or nullcontext():
            return super().detach()

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as in ssl.SSLSocket
        """As in ssl.SSLSocket. Raises PeerRefused, and the connection is over."""
        waits_for_ever = self.gettimeout() is None
        if waits_for_ever:
            self.settimeout(self.handshake_timeout)
        try:
            _shake_hands(self, partial(super().do_handshake, block))
        except PeerRefused:
            self._hang_up()
            raise
        finally:
            if waits_for_ever and self.fileno() >= 0:
                self.settimeout(None)

    def _enter(self) -> None:
        if self.refused is None and self._sslobj is None:  # type: ignore[attr-defined] # never plain bytes
            self.getpeername()  # says it better where the socket is not connected, or is closed
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, "no TLS handshake was done here: nothing is read or written")
        self.do_handshake()

    def _hang_up(self) -> None:
        """Close so that OpenSSL's alert arrives: it is lost when a socket with unread data is closed."""
        with suppress(OSError):
            self.shutdown(socket.SHUT_WR)
            give_up, left = time.monotonic() + LINGER_S, LINGER_BYTES
            while self.server_side and self.gettimeout() != 0 and left > 0:
                self.settimeout(max(give_up - time.monotonic(), 0.001))
                read = len(socket.socket.recv(self, 1 << 16))
                left = left - read if read and time.monotonic() < give_up else 0
            self.shutdown(socket.SHUT_RDWR)
        self.close()


class JudgedObject(Judged, ssl.SSLObject):
    """An object of a context of ours, between memory BIOs: whose bytes these are, is not ours to know."""

    def look_again(self) -> None:
        """As Held.look_again."""
        if self.admitted is not None:
            try:
                self.admitted = self.judge.admit_again(self.leaf, self.remote, self)
            except PeerRefused as error:
                self.refuse(error)

    def hold(self) -> None:
        """Have it looked after, in this process."""
        self.held_in = os.getpid()
        self.judge.hold(self)

    def do_handshake(self) -> None:
        """As in ssl.SSLObject. Raises PeerRefused."""
        _shake_hands(self, super().do_handshake)

    def _enter(self) -> None:
        self.do_handshake()


def _shake_hands(connection: JudgedSocket | JudgedObject, handshake: Callable[[], None]) -> None:
    if connection.refused is not None:
        raise PeerRefused(*connection.refused)
    if not connection.began:
        connection.judge.prepare(connection)
        connection.began = True
    try:
        connection.admitted = connection.judge.admit(connection, handshake)
        connection.judge.hand_back(connection)
        connection.leaf, connection.remote = connection.getpeercert(True), remote_of(connection)
        connection.decided_at = time.monotonic()
        connection.hold()
    except PeerRefused as error:
        connection.refuse(error)
        raise
    except ssl.SSLError as error:
        explain(error)
        raise


def _look_again(connection: JudgedSocket | JudgedObject) -> None:
    """Decide anew about a connection that is used, once in a while. Raises PeerRefused, and the connection is over."""
    if time.monotonic() < connection.decided_at + AGAIN_S or connection._sslobj is None:  # type: ignore[union-attr] # noqa: SLF001
        return  # the second: it was unwrapped, and is plain from now on
    try:
        connection.admitted = connection.judge.admit_again(connection.leaf, connection.remote, connection)
        connection.decided_at = time.monotonic()
    except PeerRefused as error:
        connection.refuse(error)
        if isinstance(connection, JudgedSocket):
            connection.close()
        raise


def _raise_if_refused(connection: JudgedSocket | JudgedObject, error: OSError | None = None) -> None:
    """Say so where another thread has ended the connection meanwhile: what was read does not count, and is not the end."""
    if connection.refused is not None and not isinstance(error, PeerRefused):
        if isinstance(connection, JudgedSocket):
            connection.close()
        raise PeerRefused(*connection.refused) from error


def _after_admission(kind: type, name: str) -> Callable[..., Any]:
    """The method of this name, which goes through the decided handshake before it moves a byte."""
    method = getattr(kind, name)
    reads = name.startswith(("read", "recv"))

    @wraps(method)
    def guarded(self: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - what the method takes and gives
        if self.admitted is None or self.refused is not None:
            self._enter()
        elif self.held_in != os.getpid():  # a fork has none of its parent's threads
            self.hold()
        if not reads:
            _look_again(self)
        try:
            done = method(self, *args, **options)
        except OSError as error:
            _raise_if_refused(self, error)
            if isinstance(error, ssl.SSLError):
                explain(error)
            raise
        if reads:
            _raise_if_refused(self)
            if self.admitted is not None:  # a socket that has been closed by now is not asked
                _look_again(self)
        return done

    return guarded


for _name in BYTES_OF_A_SOCKET:
    setattr(JudgedSocket, _name, _after_admission(ssl.SSLSocket, _name))
for _name in BYTES_OF_AN_OBJECT:
    setattr(JudgedObject, _name, _after_admission(ssl.SSLObject, _name))

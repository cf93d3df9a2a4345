"""One TLS connection on a non-blocking socket: handshake, decision, read, write, close.

The rules:
1. Nothing is read or written before `decision` is Admitted. The exceptions hand over somebody who is not admitted, each to
   code that is for strangers: `greet`, only where ALPN has chosen peerauth/1; `dismiss`, only where it has not, at a session
   that was made to explain, and only after `confirm`.
2. The decision is made on the leaf's exact bytes in the handshake's verify callback, and made again when the handshake is
   done, because a resumed session skips the callback.
3. The reason of a refusal is kept here: OpenSSL does not tell.
4. No call waits; what cannot go on says what it waits for. Errors leave as our own kinds.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from OpenSSL import SSL, crypto

from peerauth.errors import ConnectFailed, PeerAuthError
from peerauth.tls import scratch
from peerauth.tls.alerts import Truncated, error_reason, from_openssl
from peerauth.tls.context import CONTROL, HTTP_1_1, Presented, demand
from peerauth.trust.decision import Admitted, Code, Decision, Refused

RECORD = 16384  # the most that one TLS record carries, RFC 8446 section 5.1

_NOT_HERE = Refused(Code.UNKNOWN, None, None, "strangers are heard under peerauth/1 only")
_NOT_TOLD = Refused(Code.UNKNOWN, None, None, "strangers are told nothing here")
_SPOKEN_TO_STRANGERS = (b"", *HTTP_1_1)  # by ALPN; many clients of HTTP leave it out
Bytes = bytes | bytearray | memoryview
Judge = Callable[[bytes | None], Decision]


class Room(Protocol):
    """Room to tell somebody, of one session, why it is refused."""

    ends: float  # when it has to be free again; seconds, monotonic

    def is_left(self) -> bool:
        """Whether there is any at this moment."""

    def take(self) -> bool:
        """Take it, if there is any; asked once at most, in the thread that shakes hands. It must not raise."""


class Wait(Enum):
    """What a step waits for."""

    NOTHING = 0
    READABLE = 1
    WRITABLE = 2


class Goodbye(Exception):
    """Not an error: the other side has said that it sends no more (close_notify, or a plain end of file)."""


Stop = Wait | Exception | None


class NotAdmitted(Exception):
    """The other side's certificate was refused by us."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.reason)
        self.refused = refused


class Session:
    """One TLS connection as a server has it. `judge` says who a certificate is; it must not raise.

    `own` is presented here, where the context has no identity. With `room` this session explains: whoever is refused gets as
    far as being told why, if there is room to tell somebody when it is refused for the first time: OpenSSL asks several
    times about one leaf, and is to hear one answer.
    """

    __slots__ = (
        "_anyone", "_connection", "_fate", "_judge", "_ssl", "_tells",
        "certificate", "decision", "heard", "other_version", "room",
    )  # fmt: skip

    def __init__(
        self, context: SSL.Context, sock: socket.socket, judge: Judge, own: Presented | None = None, room: Room | None = None
    ) -> None:
        connection = SSL.Connection(context, sock)
        if own is not None:
            own.on(connection)
        self._begin(connection, judge)
        self._anyone = True
        self.room: Room | None = room
        if room is not None and not room.is_left():
            demand(connection)
        self._connection.set_accept_state()

    def _begin(self, connection: SSL.Connection, judge: Judge) -> None:
        self._connection = connection
        self._ssl = scratch.handle_of(connection)
        self._connection.set_app_data(self)
        self._judge: Judge | None = judge
        self._anyone = False
        self.room = None
        self._tells: bool | None = None  # whoever is refused why; None: nobody was refused yet
        self._fate: Exception | None = None  # how reading ended
        self.decision: Decision | None = None
        self.certificate: bytes | None = None
        self.heard = False  # whether the other side has said anything
        self.other_version = False  # whether it asked for a version of peerauth/ that is not spoken here

    @property
    def own_certificate(self) -> bytes:
        """The certificate that was shown to the other side, as DER."""
        shown = self._connection.get_certificate()
        return b"" if shown is None else crypto.dump_certificate(crypto.FILETYPE_ASN1, shown)

    def judge(self, der: bytes | None) -> Decision:
        """Decide about this leaf and remember both; asked by the verify callback."""
        self.certificate = der
        if self._judge is None:
            raise RuntimeError("it was decided already")
        try:
            self.decision = self._judge(der)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong while deciding, the answer is no
            self.decision = Refused(Code.MALFORMED, None, None, f"it could not be judged: {type(error).__name__}")
        return self.decision

    def handshake(self) -> Wait:
        """Go on with the handshake; Wait.NOTHING when it is done and the leaf was not refused so far.

        The caller then calls `confirm`. Raises NotAdmitted, PeerAuthError or OSError.
        """
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return Wait.READABLE
        except SSL.WantWriteError:
            return Wait.WRITABLE
        except SSL.Error as error:
            raise self._failure(error) from error
        if self.other_version:
            text = "it speaks another version of peerauth's protocol than this one (peerauth/1)"
            raise ConnectFailed("other-version", text, "the older of the two is to be upgraded")
        return Wait.NOTHING

    def confirm(self) -> Admitted:
        """Decide again now that the handshake is done. Raises NotAdmitted."""
        decision = self._settle()
        if isinstance(decision, Refused):
            raise NotAdmitted(decision)
        self.certificate = _shared(self.certificate)
        return decision

    def greet(self) -> bytes:
        """The leaf of whoever has come to speak peerauth/1, as DER; its key was proven, and nothing else is known.

        In place of `confirm`. Raises NotAdmitted where another protocol is spoken, or none.
        """
        decision = self._settle()
        if not self.hears_anyone or self.certificate is None:
            raise NotAdmitted(decision if isinstance(decision, Refused) else _NOT_HERE)
        return self.certificate

    def dismiss(self) -> bytes | None:
        """The leaf of whoever is not let in after `confirm`, and may be told so: DER, its key proven; None if it has none.

        Raises NotAdmitted where strangers are told nothing.
        """
        if self._judge is not None or not self.explains():
            raise NotAdmitted(self.decision if isinstance(self.decision, Refused) else _NOT_TOLD)
        return self.certificate

    def forget(self) -> None:
        """Nobody asks any more. The two would keep each other alive, with 40 KB, until Python looks for cycles."""
        self._connection.set_app_data(None)
        self._judge = None

    def explains(self) -> bool:
        """Whether whoever is refused here is told why, in HTTP: at a session made for that. Takes the room for it."""
        if self._tells is None:
            self._tells = self.room is not None and self.alpn in _SPOKEN_TO_STRANGERS and self.room.take()
        return self._tells

    def own_mark(self) -> bytes:
        """32 bytes by which a client knows that what it reads was said by whoever ends this TLS, and not by one behind."""
        return self._connection.export_keying_material(b"EXPORTER-peerauth-refused", 32, b"")

    @property
    def hears_anyone(self) -> bool:
        """Whether this is peerauth/1 over TLS 1.3, at a session that was made to hear strangers."""
        return self._anyone and self.alpn == CONTROL and self.version == "TLSv1.3"

    def channel_binding(self) -> bytes:
        """32 bytes that both sides of this connection, and nobody else, have (tls-exporter, RFC 9266 section 2)."""
        return self._connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")

    def _settle(self) -> Decision:
        if self.certificate is None:  # resumed: the callback was not asked
            leaf = self._connection.get_peer_certificate()
            self.certificate = None if leaf is None else crypto.dump_certificate(crypto.FILETYPE_ASN1, leaf)
        decision = self.judge(self.certificate)
        if isinstance(decision, Admitted) or self.hears_anyone or self.explains():
            self.forget()
        return decision

    def read(self, size: int = RECORD) -> bytes | Wait:
        """One record or less; empty bytes when the other side has said goodbye. Raises PeerAuthError or OSError."""
        if self._fate is not None:
            raise self._fate
        try:
            piece = self._connection.recv(size)
        except SSL.WantReadError:
            return Wait.READABLE
        except SSL.WantWriteError:
            return Wait.WRITABLE
        except SSL.ZeroReturnError:
            return b""
        except SSL.Error as error:
            self._fate = from_openssl(error)
            raise self._fate from error
        self.heard = True
        return piece

    def write(self, data: Bytes) -> int | Wait:
        """Write what goes; the number of bytes taken. After a Wait, call again with the same bytes first."""
        sent = scratch.ssl_write(self._ssl, scratch.in_memory(data), len(data))
        if sent > 0:
            return int(sent)
        why = self._why(sent)
        if isinstance(why, Exception):
            raise why
        return why

    # The same for bytes that only pass through
    def fill(self, buffer: scratch.Scratch) -> tuple[int, Stop]:
        """Read into `buffer` until a record is short, none is left, or the buffer is full.

        How many bytes, and what stops the reading: None (the socket will say when there is more), Wait, or an exception.
        """
        ssl, address = self._ssl, buffer.address
        size = scratch.ssl_read(ssl, address, RECORD)
        if 0 < size < RECORD:  # a short record: most likely nothing is left; if it is, the socket will say so
            return size, None
        total = 0
        while size > 0:
            total += size
            if size < RECORD or total > scratch.SIZE - RECORD:
                return total, None
            size = scratch.ssl_read(ssl, address + total, RECORD)
        return total, self._why(size)

    def write_whole(self) -> None:
        """Let `put` go on over all the records that its data makes; pyOpenSSL has OpenSSL return after each."""
        scratch.write_whole(self._ssl)

    def put(self, data: scratch.Pointer, size: int) -> bool:
        """Write `size` bytes; False: not all of it has gone, offer the same again when the socket is writable. Raises."""
        sent = scratch.ssl_write(self._ssl, data, size)
        if sent > 0:
            return True
        why = self._why(sent)
        if isinstance(why, Exception):
            raise why
        return False

    def _why(self, result: int) -> Wait | Exception:
        """Why a straight call came back with nothing."""
        error = scratch.ssl_get_error(self._ssl, result)
        if error == scratch.WANT_READ:
            return Wait.READABLE
        if error == scratch.WANT_WRITE:
            return Wait.WRITABLE
        try:
            scratch.raise_for(self._connection, self._ssl, result)
        except SSL.ZeroReturnError:
            return Goodbye()
        except SSL.Error as raised:
            return from_openssl(raised)
        return Truncated("the connection ended without a goodbye")

    def say_goodbye(self) -> Wait:
        """Send close_notify, after which only reading goes on (RFC 8446 section 6.1)."""
        try:
            self._connection.shutdown()
        except SSL.WantWriteError:
            return Wait.WRITABLE
        except SSL.WantReadError:
            return Wait.NOTHING
        except SSL.Error as error:
            raise from_openssl(error) from error
        return Wait.NOTHING

    def flush(self) -> bool:
        """Whether all that `write` took has left; a server's has."""
        return True

    @property
    def holds_input(self) -> bool:
        """Whether `read` may have something that the socket does not announce any more."""
        return False

    @property
    def version(self) -> str:
        """`TLSv1.3` or `TLSv1.2`."""
        return self._connection.get_protocol_version_name()

    @property
    def cipher(self) -> str:
        """The cipher suite's name."""
        return self._connection.get_cipher_name() or ""

    @property
    def group(self) -> str:
        """The key exchange, for instance X25519MLKEM768."""
        return self._connection.get_group_name() or ""

    @property
    def resumed(self) -> bool:
        """Whether this connection goes on with an earlier session, so that no certificate was presented in it."""
        return scratch.is_resumed(self._ssl)

    @property
    def server_name(self) -> bytes:
        """The name that the client asked for (RFC 6066 section 3), as it said it; empty if it asked for none."""
        return self._connection.get_servername() or b""

    @property
    def alpn(self) -> bytes:
        """The protocol that ALPN chose; empty if none."""
        return self._connection.get_alpn_proto_negotiated()

    def _failure(self, error: SSL.Error) -> Exception:
        if isinstance(self.decision, Refused):
            return NotAdmitted(self.decision)
        if error_reason(error) == "peer did not return a certificate":
            return NotAdmitted(Refused(Code.NO_CERTIFICATE, None, None, "no certificate was presented"))
        return from_openssl(error)


@functools.lru_cache(maxsize=1024)
def _shared(certificate: bytes | None) -> bytes | None:
    """The same bytes in the same place for everybody who has the same certificate."""
    return certificate


def is_refusal_by_other_side(error: BaseException | None) -> bool:
    """Whether this is the other side saying that it does not admit us."""
    return isinstance(error, PeerAuthError) and error.code == "refused-by-peer"

"""A drop-in `ssl.SSLContext`, for libraries and servers that do their own TLS with one.

    context = server_context("db-1.crt", "db-1.key", peers=directory.refresh, certificates=pinned)
    context = client_context("me.crt", "me.key", peer="db-1", peers=directory.refresh, certificates=pinned)

Each is a plain `ssl.SSLContext` whose `sslsocket_class` and `sslobject_class` are ours. The rules:

1. OpenSSL's pool holds pinned certificates, each good for itself alone (X509_V_FLAG_PARTIAL_CHAIN), never the
   system's. That turns strangers away early and decides nothing: what a CA:TRUE peer has signed gets through it.
2. `decide` is asked about the exact leaf after every handshake, a resumed one too. Whatever a library loads into
   the context or weakens on it (`verify_mode`, CAs, `check_hostname`), only that decision opens a connection.
3. Before it, no byte is read or written. A read or write that would make OpenSSL shake hands by the way goes
   through the decided handshake first. After a refusal the socket is closed and every further call is refused.
4. A client means one peer and accepts that peer's pins alone (promise 9). The host's name is not compared, so
   `check_hostname` is False: the pin is stronger than the name, and tunnels and addresses have none. requests and
   urllib3 compare it themselves; `assert_hostname=False` stops them where a certificate does not name its host.
5. A change of the peer set counts for the next handshake, at most `FRESH_S` seconds later, and for an open connection
   when it is used: before a write and after a read it is decided about again, once in `AGAIN_S` seconds. Whoever is
   not admitted any more is closed, and what was just read from there is thrown away.
6. Another identity on the disk is presented by the next connection (`heir`), where `identity` tells of it.
7. A server's handshake on a blocking socket without a timeout ends after the node's `handshake_timeout`.

Where it stops (more, and recipes, in docs/drop-in.md):

- Filling the pool is quadratic in OpenSSL 3.0: 20 000 peers take 17 s. `peerauth serve` has no pool.
- A stranger gets the alert unknown_ca, but none from asyncio, and none where rule 2 refused him: there the
  connection just ends. What a server's OpenSSL has refused has no fingerprint in our message: it does not tell.
- A removed peer's open connection that nobody uses stays open until somebody does. `peerauth serve` cuts it.
- `pin = "key"` admits only certificates that are in `peers/`. `max_connections` is not counted. A peer with `from`
  is refused on memory BIOs (asyncio, uvloop, uvicorn, aiohttp), which see no address. Clients ignore `from`.
- OpenSSL has its own clock, whatever `now` says.
- Never wrap a listening socket: one silent connection holds up all others. Wrap in the connection's own thread.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial, wraps
from typing import Any, ClassVar, Final

from peerauth.errors import BadInput
from peerauth.tls.context import MinimumVersion
from peerauth.tls.gate import AGAIN_S, FRESH_S, CertificatesSource, Clock, Gate, PeerRefused, PeersSource, explain, remote_of
from peerauth.tls.heir import HeritableContext, Line
from peerauth.trust.decision import Address, Admitted, Refused
from peerauth.trust.peers import Peer, check_name
from peerauth.trust.policy import EVERY_PEER, Policy

__all__ = ["PeerRefused", "client_context", "peer_of", "server_context"]

LINGER_S: Final = 1.0  # how long a refused client may hold a blocking server, so that the alert reaches it
LINGER_BYTES: Final = 1 << 18
HANDSHAKE_S: Final = 10.0  # the default of config.toml's handshake_timeout

_TLS12_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
_BYTES_OF_A_SOCKET = (
    *("read", "recv", "recv_into", "recvfrom", "recvfrom_into"),
    *("write", "send", "sendall", "sendto", "sendfile"),
)  # recvmsg, recvmsg_into, sendmsg and dup are refused by ssl.SSLSocket itself
_BYTES_OF_AN_OBJECT = ("read", "write")

Passphrase = bytes | Callable[[], bytes] | None
Path = str | os.PathLike[str]
WhichIdentity = Callable[[], object]


def _system_clock() -> datetime:
    return datetime.now(UTC)


def server_context(
    certfile: Path,
    keyfile: Path,
    *,
    peers: PeersSource,
    certificates: CertificatesSource,
    passphrase: Passphrase = None,
    min_tls: MinimumVersion = "1.3",
    policy: Policy = EVERY_PEER,
    handshake_timeout: float = HANDSHAKE_S,
    identity: WhichIdentity = lambda: None,
    now: Clock = _system_clock,
) -> ssl.SSLContext:
    """A context for accepting: admits the peers in `peers()` that `policy` allows, and logs refusals as `peerauth`.

    `peers` is usually `PeerDirectory.refresh`; `certificates` gives all that are pinned, and is asked when there are
    new pins. `handshake_timeout` (seconds) holds where a blocking socket has no timeout of its own. `identity` tells which
    identity is in the files: with another answer they are read again. Raises BadInput when they cannot be used.
    """
    make = partial(_context, ssl.PROTOCOL_TLS_SERVER, certfile, keyfile, passphrase, min_tls)
    line = Line(make, identity)
    return _guarded(line.first, Gate(line, peers, certificates, now, policy=policy), handshake_timeout)


def client_context(
    certfile: Path,
    keyfile: Path,
    *,
    peer: str,
    peers: PeersSource,
    certificates: CertificatesSource,
    passphrase: Passphrase = None,
    min_tls: MinimumVersion = "1.3",
    identity: WhichIdentity = lambda: None,
    now: Clock = _system_clock,
) -> ssl.SSLContext:
    """A context for connecting to `peer` and to nobody else (promise 9). Raises BadInput as `server_context` does."""
    make = partial(_context, ssl.PROTOCOL_TLS_CLIENT, certfile, keyfile, passphrase, min_tls)
    line = Line(make, identity)
    return _guarded(line.first, Gate(line, peers, certificates, now, expected=check_name(peer)))


def peer_of(connection: object) -> Peer | None:
    """Who is at the other end; None when nobody is admitted there.

    `connection` is an `ssl` socket or object from a context of ours, an asyncio transport or a StreamWriter.
    """
    ask = getattr(connection, "get_extra_info", None)
    if ask is not None:
        peer = ask("peer")
        if isinstance(peer, Peer):
            return peer
        connection = ask("ssl_object")
    admitted = connection.admitted if isinstance(connection, _Judged) else None
    return admitted.peer if admitted else None


def _context(
    protocol: int, certfile: Path, keyfile: Path, passphrase: Passphrase, min_tls: MinimumVersion
) -> HeritableContext:
    context = HeritableContext(protocol)  # create_default_context would load the system's CAs
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags = (context.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN) & ~ssl.VERIFY_X509_STRICT
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if min_tls == "1.2" else ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_TLS12_SUITES)

    def password() -> bytes:  # without it, OpenSSL would ask on the terminal
        if passphrase is None:
            raise BadInput("passphrase-needed", "the private key is encrypted and no passphrase was given")
        return passphrase() if callable(passphrase) else passphrase

    try:
        context.load_cert_chain(certfile, keyfile, password)
    except OSError as error:
        files = f"{os.fspath(certfile)} and {os.fspath(keyfile)}"
        text = f"{files} cannot be used as an identity: {error.strerror or error}"
        raise BadInput("bad-identity", text, "to make one: peerauth keygen") from error
    return context


class _Judged:
    """What our sockets and objects have in common: nothing passes before `admitted` is set."""

    judge: ClassVar[Gate]
    admitted: Admitted | None = None
    refused: tuple[Refused, str] | None = None
    leaf: bytes | None = None  # what was admitted, and from where; neither can always be asked for again
    remote: Address | None = None
    decided_at: float = 0.0  # time.monotonic()
    began: bool = False


class _Socket(_Judged, ssl.SSLSocket):
    handshake_timeout: ClassVar[float | None] = None

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as in ssl.SSLSocket
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


class _Object(_Judged, ssl.SSLObject):
    def do_handshake(self) -> None:
        _shake_hands(self, super().do_handshake)

    def _enter(self) -> None:
        self.do_handshake()


def _shake_hands(connection: _Socket | _Object, handshake: Callable[[], None]) -> None:
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
    except PeerRefused as error:
        connection.admitted, connection.refused = None, (error.decision, str(error))
        raise
    except ssl.SSLError as error:
        explain(error)
        raise


def _look_again(connection: _Socket | _Object) -> None:
    """Decide anew about a connection that is used, once in a while. Raises PeerRefused, and the connection is over."""
    if time.monotonic() < connection.decided_at + AGAIN_S or connection._sslobj is None:  # type: ignore[union-attr] # noqa: SLF001
        return  # the second: it was unwrapped, and is plain from now on
    try:
        connection.admitted = connection.judge.admit_again(connection.leaf, connection.remote, connection)
        connection.decided_at = time.monotonic()
    except PeerRefused as error:
        connection.admitted, connection.refused = None, (error.decision, str(error))
        if isinstance(connection, _Socket):
            connection.close()
        raise


def _after_admission(kind: type, name: str) -> Callable[..., Any]:
    """The method of this name, which goes through the decided handshake before it moves a byte."""
    method = getattr(kind, name)
    reads = name.startswith(("read", "recv"))

    @wraps(method)
    def guarded(self: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - what the method takes and gives
        if self.admitted is None:
            self._enter()
        if not reads:
            _look_again(self)
        try:
            done = method(self, *args, **options)
        except ssl.SSLError as error:
            explain(error)
            raise
        if reads and self.admitted is not None:  # a socket that has been closed by now is not asked
            _look_again(self)
        return done

    return guarded


for _name in _BYTES_OF_A_SOCKET:
    setattr(_Socket, _name, _after_admission(ssl.SSLSocket, _name))
for _name in _BYTES_OF_AN_OBJECT:
    setattr(_Object, _name, _after_admission(ssl.SSLObject, _name))


def _guarded(context: ssl.SSLContext, gate: Gate, patience: float | None = None) -> ssl.SSLContext:
    """Bind the gate to the connections' classes, so that an SNI callback that swaps contexts does not swap it."""

    class PeerSocket(_Socket):
        judge = gate
        handshake_timeout = patience

    class PeerObject(_Object):
        judge = gate

    context.sslsocket_class, context.sslobject_class = PeerSocket, PeerObject
    gate.refresh(FRESH_S)
    return context

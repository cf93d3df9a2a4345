"""A drop-in `ssl.SSLContext`: for libraries that bring their own TLS, or let you hand them a context.

    context = server_context("db-1.crt", "db-1.key", peers=directory.refresh, certificates=pinned)
    context = client_context("me.crt", "me.key", peer="db-1", peers=directory.refresh, certificates=pinned)

Both return a plain `ssl.SSLContext` whose `sslsocket_class` and `sslobject_class` are ours. The rules:

1. OpenSSL's pool holds the pinned certificates and nothing else, each one good for itself (X509_V_FLAG_PARTIAL_CHAIN). That
   turns strangers away early. It decides nothing: a pinned certificate that says CA:TRUE gets what it signed through the pool.
2. `decide` is asked about the exact leaf after every handshake, resumed ones too. Whatever a library loads into the
   context or weakens on it (`verify_mode`, system CAs, `check_hostname`), nothing but that decision opens a connection.
3. No byte is read or written before that. A read or write that would make OpenSSL shake hands by the way shakes hands first.
4. A client means one peer and accepts that peer's pins alone. The name in the URL is not compared (`check_hostname` is
   False): the pin is stronger than the name, and IP addresses and tunnels have none. urllib3 and requests compare names
   themselves: give them `assert_hostname=False` where the certificate does not name the host.
5. Changes of the peer set count for the next handshake, at most `FRESH_S` seconds later.

Where it stops (`docs/drop-in.md` has the recipes):

- Loading a pool is quadratic in OpenSSL 3.0: 1 000 peers take 0.05 s, 20 000 take 17 s. The engine (`peerauth serve`) has no pool.
- A stranger gets OpenSSL's alert, unknown_ca (none from asyncio, which sends no alerts; none where rule 2 refused). A server never
  learns the certificate that OpenSSL refused, so its message has no fingerprint; a client's has.
- A removed peer's next handshake is refused, its tickets are worth nothing, but its open connections stay open. The engine cuts.
- `pin = "key"` needs the very certificate in `peers/` as well, `max_connections` is not counted, and `from` admits nobody on
  memory BIOs (asyncio, uvloop, uvicorn, aiohttp), where TLS does not see the address. A client does not look at `from`.
- The identity is read once: after a rotation build a new context. OpenSSL's clock is the system's, whatever `now` says.
- Never wrap a listening socket: one silent connection holds up all others. Wrap each connection in its own thread.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial, wraps
from ipaddress import ip_address
from typing import Any, ClassVar, Final, Never

from peerauth.address import Address as Where
from peerauth.errors import BadInput, TrustRefused
from peerauth.tls.alerts import from_alert
from peerauth.tls.context import MinimumVersion
from peerauth.trust.certificate import Certificate
from peerauth.trust.decision import Address, Admitted, Code, Refused, decide
from peerauth.trust.explain import refused_client, refused_server
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import Peer, PeerSet, check_name
from peerauth.trust.policy import EVERY_PEER, Policy

FRESH_S: Final = 0.1  # how old the peer set that a handshake is judged by may be
LINGER_S: Final = 1.0  # how long a refused client may keep a blocking server, so that the alert reaches it
LINGER_BYTES: Final = 1 << 18

_log = logging.getLogger("peerauth")
_TLS12_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
# X509_STORE_CTX_get_error(3); what is not here is about the certificate's shape.
_CODES = {9: Code.NOT_YET_VALID, 10: Code.EXPIRED, 66: Code.WEAK_KEY, 67: Code.WEAK_KEY}
_CODES |= dict.fromkeys((2, 18, 19, 20, 21), Code.UNKNOWN)
_APPLICATION_VERIFICATION = 50
_BYTES_OF_A_SOCKET = (
    *("read", "recv", "recv_into", "recvfrom", "recvfrom_into"),
    *("write", "send", "sendall", "sendto", "sendfile"),
)  # recvmsg, recvmsg_into, sendmsg and dup are refused by ssl.SSLSocket itself
_BYTES_OF_AN_OBJECT = ("read", "write")

PeersSource = Callable[[], PeerSet]
CertificatesSource = Callable[[], Iterable[Certificate]]
Clock = Callable[[], datetime]
Passphrase = bytes | Callable[[], bytes] | None
Path = str | os.PathLike[str]


class PeerRefused(ssl.SSLCertVerificationError):
    """We do not admit the other side. The text says who it was, why, and what to type; `decision` says it to programs."""

    def __init__(self, decision: Refused, text: str) -> None:
        super().__init__(ssl.SSL_ERROR_SSL, text)
        self.decision = decision
        self.library, self.reason = "SSL", "CERTIFICATE_VERIFY_FAILED"
        self.verify_code, self.verify_message = _APPLICATION_VERIFICATION, decision.reason


def server_context(
    certfile: Path,
    keyfile: Path,
    *,
    peers: PeersSource,
    certificates: CertificatesSource,
    passphrase: Passphrase = None,
    min_tls: MinimumVersion = "1.3",
    policy: Policy = EVERY_PEER,
    now: Clock = lambda: datetime.now(UTC),
) -> ssl.SSLContext:
    """A context for accepting: admits the peers of `peers()` that `policy` allows. Refusals are logged as `peerauth`.

    `peers` is usually `PeerDirectory.refresh`; `certificates` gives the pinned certificates when there are new pins.
    Raises BadInput when the identity cannot be used.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, certfile, keyfile, passphrase, min_tls)
    return _Gate(context, peers, certificates, now, policy).installed()


def client_context(
    certfile: Path,
    keyfile: Path,
    *,
    peer: str,
    peers: PeersSource,
    certificates: CertificatesSource,
    passphrase: Passphrase = None,
    min_tls: MinimumVersion = "1.3",
    now: Clock = lambda: datetime.now(UTC),
) -> ssl.SSLContext:
    """A context for connecting to `peer` and to nobody else (promise 9). Raises BadInput as `server_context` does."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, certfile, keyfile, passphrase, min_tls)
    return _Gate(context, peers, certificates, now, expected=check_name(peer)).installed()


def peer_of(connection: object) -> Peer | None:
    """Who is at the other end of an `ssl` socket or object of ours, an asyncio transport or stream; None if not admitted."""
    ask = getattr(connection, "get_extra_info", None)
    if ask is not None:
        peer = ask("peer")
        if isinstance(peer, Peer):
            return peer
        connection = ask("ssl_object")
    admitted = connection.admitted if isinstance(connection, _Judged) else None
    return admitted.peer if admitted else None


def _context(protocol: int, certfile: Path, keyfile: Path, passphrase: Passphrase, min_tls: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)  # never create_default_context: it loads the system's CAs
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags = (context.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN) & ~ssl.VERIFY_X509_STRICT
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if min_tls == "1.2" else ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_TLS12_SUITES)

    def password() -> bytes:  # without one, OpenSSL would ask on the terminal
        if passphrase is None:
            raise BadInput("passphrase-needed", "the private key is encrypted and no passphrase was given")
        return passphrase() if callable(passphrase) else passphrase

    try:
        context.load_cert_chain(certfile, keyfile, password)
    except OSError as error:
        text = f"the identity {os.fspath(certfile)}, {os.fspath(keyfile)} cannot be used: {error.strerror or error}"
        raise BadInput("bad-identity", text, "to make one: peerauth keygen") from error
    return context


class _Gate:
    """What the connections of one context are judged by. `expected` is whom a client means; None on a server."""

    def __init__(
        self,
        context: ssl.SSLContext,
        peers: PeersSource,
        certificates: CertificatesSource,
        now: Clock,
        policy: Policy = EVERY_PEER,
        expected: str | None = None,
    ) -> None:
        self._context, self._source, self._certificates, self._now = context, peers, certificates, now
        self._policy, self._expected = policy, expected
        self._everyone = self._admissible = PeerSet()
        self._loaded: set[Fingerprint] = set()
        self._stale_at = 0.0
        self._lock = threading.Lock()

    def installed(self) -> ssl.SSLContext:
        """The context, every connection of which now goes through this gate, also if an SNI callback swaps contexts."""
        self._context.sslsocket_class = type("PeerSocket", (_Socket,), {"_gate": self})
        self._context.sslobject_class = type("PeerObject", (_Object,), {"_gate": self})
        self._refreshed()
        return self._context

    def admit(self, connection: ssl.SSLSocket | ssl.SSLObject, handshake: Callable[[], None]) -> Admitted:
        """Shake hands and decide. Raises PeerRefused, or whatever the handshake raises (it may want to be called again)."""
        self._refreshed()
        try:
            handshake()
        except ssl.SSLError as error:
            refused = self._refused_by_openssl(error, connection)
            if refused is None:
                raise
            raise self._refusal(refused, connection) from error
        decision = self._decide(connection.getpeercert(True), connection)
        if isinstance(decision, Refused):
            raise self._refusal(decision, connection)
        return decision

    def _decide(self, leaf: bytes | None, connection: ssl.SSLSocket | ssl.SSLObject) -> Admitted | Refused:
        decision = decide(leaf, self._refreshed(), self._policy, _remote(connection), now=self._now())
        if isinstance(decision, Refused) and decision.code is Code.NOT_FROM_HERE and isinstance(connection, ssl.SSLObject):
            return replace(decision, reason="the peer has a 'from', and TLS on memory BIOs does not see the address")
        return decision

    def _refreshed(self) -> PeerSet:
        """Those who may be admitted now, all of them in the pool."""
        with self._lock:
            if time.monotonic() >= self._stale_at:
                try:
                    self._everyone = self._source()
                except Exception:
                    _log.exception("the peers cannot be read: nobody is admitted")
                    self._everyone = PeerSet()
                self._admissible = self._everyone if self._expected is None else _dialled(self._everyone, self._expected)
                self._fill_pool({pin for peer in self._admissible for pin in peer.pins} - self._loaded)
                self._stale_at = time.monotonic() + FRESH_S
            return self._admissible

    def _fill_pool(self, missing: set[Fingerprint]) -> None:
        # Certificates cannot be taken out of a pool again, nor need they be: rule 2.
        try:
            found = [c for c in self._certificates() if c.fingerprint in missing] if missing else []
        except Exception:
            _log.exception("the certificates of new peers cannot be read: these peers are not admitted yet")
            return
        for certificate in found:
            with suppress(ssl.SSLError):  # one that OpenSSL cannot read refuses itself and nobody else
                self._context.load_verify_locations(cadata=certificate.der)
        self._loaded |= missing

    def _refused_by_openssl(self, error: ssl.SSLError, connection: ssl.SSLSocket | ssl.SSLObject) -> Refused | None:
        if getattr(error, "reason", None) == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return Refused(Code.NO_CERTIFICATE, None, None, "no certificate was presented")
        if not isinstance(error, ssl.SSLCertVerificationError):
            return None
        leaf = _unverified_leaf(connection)
        decision = self._decide(leaf, connection) if leaf else None
        if isinstance(decision, Refused):
            return decision
        code = _CODES.get(error.verify_code, Code.MALFORMED)
        said = "the certificate is not pinned" if code is Code.UNKNOWN else "OpenSSL does not accept it"
        peer, fingerprint = (decision.peer, decision.fingerprint) if decision else (None, None)
        return Refused(code, fingerprint, peer, f"{said}: {error.verify_message}")

    def _refusal(self, refused: Refused, connection: ssl.SSLSocket | ssl.SSLObject) -> PeerRefused:
        if self._expected is not None:
            return PeerRefused(
                refused, str(refused_server(refused, self._expected, _where(connection), self._everyone))
            )
        message, hint = refused_client(refused)
        if refused.code is Code.UNKNOWN and refused.fingerprint is None:
            hint = "OpenSSL does not say who it was; if you know it, take its certificate and type: peerauth peer add FILE"
        text = f"{message} ({hint})" if hint else message
        _log.warning("%s: %s", _remote(connection) or "connection", text)
        return PeerRefused(refused, text)


class _Judged:
    """What sockets and objects have in common. Before `admitted` is set, no byte goes through."""

    _gate: ClassVar[_Gate]
    admitted: Admitted | None = None
    _refused: tuple[Refused, str] | None = None

    def _shake_hands(self, handshake: Callable[[], None]) -> None:
        assert isinstance(self, ssl.SSLSocket | ssl.SSLObject)
        if self._refused is not None:
            raise PeerRefused(*self._refused)
        try:
            self.admitted = self._gate.admit(self, handshake)
        except PeerRefused as error:
            self.admitted, self._refused = None, (error.decision, str(error))
            raise
        except ssl.SSLError as error:
            _explain(error)
            raise


class _Socket(_Judged, ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as in ssl.SSLSocket
        try:
            self._shake_hands(partial(super().do_handshake, block))
        except PeerRefused:
            self._hang_up()
            raise

    def _enter(self) -> None:
        if self._refused is None and getattr(self, "_sslobj", None) is None:
            self.getpeername()  # the plain errors of a socket that is not connected or is closed
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, "no TLS handshake was done here: nothing is read or written")
        self.do_handshake()

    def _hang_up(self) -> None:
        """Close so that OpenSSL's alert arrives: a close with unread data would overtake it (as in `linger`)."""
        with suppress(OSError):
            self.shutdown(socket.SHUT_WR)
            give_up, left = time.monotonic() + LINGER_S, LINGER_BYTES
            while self.server_side and self.gettimeout() != 0 and left > 0 and time.monotonic() < give_up:
                self.settimeout(max(give_up - time.monotonic(), 0.001))
                left -= len(socket.socket.recv(self, 65536)) or left
        with suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)
        self.close()


class _Object(_Judged, ssl.SSLObject):
    def do_handshake(self) -> None:
        self._shake_hands(super().do_handshake)

    _enter = do_handshake


def _guard(kind: type, name: str) -> Callable[..., Any]:
    method = getattr(kind, name)

    @wraps(method)
    def guarded(self: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever ssl takes and gives
        if self.admitted is None:
            self._enter()
        try:
            return method(self, *args, **options)
        except ssl.SSLError as error:
            _explain(error)
            raise

    return guarded


for _name in _BYTES_OF_A_SOCKET:
    setattr(_Socket, _name, _guard(ssl.SSLSocket, _name))
for _name in _BYTES_OF_AN_OBJECT:
    setattr(_Object, _name, _guard(ssl.SSLObject, _name))

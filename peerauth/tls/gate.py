"""What a connection of the drop-in context is judged by: the peer set kept fresh, the pool kept filled, and the decision.

`stdlib` has the rules. The pool is the only thing here that OpenSSL looks at; who is admitted is `decide`'s alone.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final, Protocol
from weakref import WeakSet

from peerauth.address import Address as Where
from peerauth.errors import TrustRefused, counted
from peerauth.locks import ForkLock
from peerauth.rate import Bucket
from peerauth.tls.alerts import from_alert
from peerauth.tls.heir import Line
from peerauth.trust.certificate import Certificate
from peerauth.trust.decision import Address, Admitted, Code, Refused, admitted_until, decide
from peerauth.trust.explain import refused_client, refused_server
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import PeerSet
from peerauth.trust.policy import EVERY_PEER, Policy

FRESH_S: Final = 0.1  # how old the peer set that a handshake is judged by may be
AGAIN_S: Final = 1.0  # how long an open connection is used before it is decided about again
REFUSALS_AT_ONCE: Final = 20  # lines of the log that strangers can cause
REFUSALS_PER_SECOND: Final = 2.0
PATIENCE_S: Final = 1.0  # until certificates that could not be found for the pool are looked for again

_log = logging.getLogger("peerauth")
# X509_STORE_CTX_get_error(3); what is not here is about the shape of the certificate.
_CODES = dict.fromkeys((2, 18, 19, 20, 21), Code.UNKNOWN)
_CODES |= {9: Code.NOT_YET_VALID, 10: Code.EXPIRED, 66: Code.WEAK_KEY, 67: Code.WEAK_KEY}
_APPLICATION_VERIFICATION = 50

Connection = ssl.SSLSocket | ssl.SSLObject
PeersSource = Callable[[], PeerSet]
CertificatesSource = Callable[[], Iterable[Certificate]]
Clock = Callable[[], datetime]
Follow = Callable[[Callable[[], object]], object]
_NEVER = datetime.max.replace(tzinfo=UTC)


class Held(Protocol):
    """An open connection, as far as its end is concerned."""

    admitted: Admitted | None
    leaf: bytes | None

    def look_again(self) -> None:
        """Be decided about anew, and end if that is a no; in any thread."""


class PeerRefused(ssl.SSLCertVerificationError):
    """We do not admit the other side: the text says who, why and what to type; `decision` says it to programs."""

    def __init__(self, decision: Refused, text: str) -> None:
        super().__init__(ssl.SSL_ERROR_SSL, text)
        self.decision = decision
        self.library, self.reason = "SSL", "CERTIFICATE_VERIFY_FAILED"
        self.verify_code, self.verify_message = _APPLICATION_VERIFICATION, decision.reason


class RefusalLog:
    """Refusals as warnings of the logger `peerauth`, which strangers can cause, but not fill."""

    def __init__(self) -> None:
        self._room = Bucket(REFUSALS_AT_ONCE, REFUSALS_PER_SECOND, time.monotonic)

    def say(self, remote: Address | None, text: str) -> None:
        """Say it, or count it for the next that is said."""
        if self._room.take():
            count = self._room.left_out()
            more = f" ({counted(count, 'more refusal')} not listed)" if count else ""
            _log.warning("%s: %s%s", remote or "a connection", text, more)


class Gate:
    """The judge of one context's connections. `expected` is whom a client means; None on a server.

    `follow` has `review` called, in some thread, when the peers may have changed; without it, only use has one looked at.
    """

    def __init__(
        self,
        line: Line,
        peers: PeersSource,
        certificates: CertificatesSource,
        now: Clock,
        *,
        policy: Policy = EVERY_PEER,
        expected: str | None = None,
        follow: Follow | None = None,
    ) -> None:
        self._line, self._source, self._certificates, self._now = line, peers, certificates, now
        self._policy, self._expected = policy, expected
        self._everyone = self._admissible = PeerSet()
        self._looked_at, self._look_again_at = -math.inf, 0.0
        self._loaded: set[Fingerprint] = set()
        self._not_found: set[Fingerprint] = set()
        self._lock = ForkLock()
        self._log = RefusalLog()
        self._follow = follow
        self._held: WeakSet[Held] = WeakSet()
        self._held_in = os.getpid()
        self._held_lock = ForkLock()
        self._reviewed: PeerSet | None = None
        self._first_end = _NEVER  # nobody's time is over before

    @property
    def follows(self) -> bool:
        """Whether connections that nobody uses are looked after."""
        return self._follow is not None

    def prepare(self, connection: Connection) -> None:
        """Have a connection whose handshake has not begun present the identity that is on the disk now."""
        self.refresh(FRESH_S)
        first, newest = self._line.first, self._line.newest
        if newest is not first and connection.context is first:  # who has given it another one means that
            connection.context = newest

    def hand_back(self, connection: Connection) -> None:
        """Have a connection whose handshake is done belong to its own context again: its `ssl.SSLSession` is for that."""
        first, newest = self._line.first, self._line.newest
        if newest is not first and connection.context is newest:
            connection.context = first

    def admit(self, connection: Connection, handshake: Callable[[], None]) -> Admitted:
        """Shake hands, then decide.

        Raises PeerRefused, or what the handshake raises (which may only want to be called again).
        """
        self.refresh(FRESH_S)
        try:
            handshake()
        except ssl.SSLError as error:
            refused = self._refused_by_openssl(error, connection)
            if refused is None:
                raise
            raise self._refusal(refused, connection) from error
        return self._admitted(connection.getpeercert(True), remote_of(connection), connection, FRESH_S)

    def admit_again(self, leaf: bytes | None, remote: Address | None, connection: Connection) -> Admitted:
        """Decide anew about an open connection, on which this leaf was admitted, from there. Raises PeerRefused."""
        return self._admitted(leaf, remote, connection, AGAIN_S)

    def hold(self, connection: Held) -> None:
        """Look after a connection that was admitted, until it is forgotten.

        In a fork, those that it uses: the others are its parent's, and to shut one down would end it there, too.
        """
        if self._follow is None or connection.admitted is None or connection.leaf is None:
            return
        with self._held_lock:
            if self._held_in != os.getpid():
                self._held, self._held_in = WeakSet(), os.getpid()
            self._held.add(connection)
            self._first_end = min(self._first_end, admitted_until(connection.admitted, connection.leaf))
        self._follow(self.review)
        if self._everyone is not self._reviewed:  # a change between the decision and this moment
            connection.look_again()

    def review(self) -> None:
        """Have those who are open decided about again, if the list is another one, or somebody's time is over."""
        if not self._held:
            return
        self.refresh(0.0)  # what is known may be from a moment before the change
        everyone = self._everyone
        if everyone is self._reviewed and self._now() < self._first_end:
            return
        with self._held_lock:
            held = list(self._held)
            self._first_end = _NEVER
        for connection in held:
            try:
                connection.look_again()
            except Exception:  # noqa: BLE001 - others are still to be looked at
                _log.exception("a connection could not be decided about again")
            if connection.admitted is not None and connection.leaf is not None:
                ends = admitted_until(connection.admitted, connection.leaf)
                with self._held_lock:
                    self._first_end = min(self._first_end, ends)
        self._reviewed = everyone

    def _admitted(self, leaf: bytes | None, remote: Address | None, connection: Connection, within: float) -> Admitted:
        decision = self._decide(leaf, remote, connection, within)
        if isinstance(decision, Refused):
            raise self._refusal(decision, connection)
        return decision

    def refresh(self, within: float) -> PeerSet:
        """Those who may be admitted, as of `within` seconds ago or later, all of them in the pool."""
        with self._lock:
            if time.monotonic() >= self._looked_at + within:
                try:
                    self._everyone = self._source()
                except Exception:  # noqa: BLE001 - whatever ails the source, the answer is no
                    _log.exception("the peers cannot be read: nobody is admitted")
                    self._everyone = PeerSet()
                name = self._expected
                self._admissible = self._everyone if name is None else self._everyone.only(name)
                if self._line.look():
                    self._loaded, self._not_found = set(), set()  # the heir's pool is empty
                self._fill_pool({pin for peer in self._admissible for pin in peer.pins} - self._loaded)
                self._looked_at = time.monotonic()
            return self._admissible

    def _fill_pool(self, missing: set[Fingerprint]) -> None:
        # Nothing can be taken out of a pool again, and nothing need be: the decision is not made there.
        if not missing or (missing == self._not_found and time.monotonic() < self._look_again_at):
            return
        try:
            for certificate in self._certificates():
                if certificate.fingerprint in missing:
                    with suppress(ssl.SSLError):  # what OpenSSL cannot read is refused, and disturbs nobody
                        self._line.newest.load_verify_locations(cadata=certificate.der)
                    self._loaded.add(certificate.fingerprint)
        except Exception:  # noqa: BLE001 - without them OpenSSL refuses, which is safe
            _log.exception("the certificates of new peers cannot be read: OpenSSL refuses these peers")
        self._not_found = missing - self._loaded
        self._look_again_at = time.monotonic() + PATIENCE_S

    def _decide(
        self, leaf: bytes | None, remote: Address | None, connection: Connection, within: float
    ) -> Admitted | Refused:
        decision = decide(leaf, self.refresh(within), self._policy, remote, now=self._now())
        if isinstance(decision, Admitted):
            return replace(decision, peer=self._everyone.get(decision.peer.name) or decision.peer)
        if decision.code is Code.NOT_FROM_HERE and isinstance(connection, ssl.SSLObject):
            return replace(decision, reason="the peer has a 'from', and TLS on memory BIOs sees no address")
        return decision

    def _refused_by_openssl(self, error: ssl.SSLError, connection: Connection) -> Refused | None:
        """OpenSSL's refusal in our terms; None when it is about something else."""
        if getattr(error, "reason", None) == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return Refused(Code.NO_CERTIFICATE, None, None, "no certificate was presented")
        if not isinstance(error, ssl.SSLCertVerificationError):
            return None
        leaf = _unverified_leaf(connection)
        decision = self._decide(leaf, remote_of(connection), connection, FRESH_S) if leaf else None
        if isinstance(decision, Refused):
            return decision
        code = _CODES.get(error.verify_code, Code.MALFORMED)
        if decision and code is Code.UNKNOWN and decision.fingerprint not in decision.peer.pins:
            name = decision.peer.name
            reason = f"the key of {name} is pinned, but this context must have its certificate, too ({error.verify_message})"
            return Refused(code, decision.fingerprint, decision.peer, reason)
        said = "the certificate is not pinned" if code is Code.UNKNOWN else "OpenSSL does not accept it"
        peer, fingerprint = (decision.peer, decision.fingerprint) if decision else (None, None)
        return Refused(code, fingerprint, peer, f"{said}: {error.verify_message}")

    def _refusal(self, refused: Refused, connection: Connection) -> PeerRefused:
        if self._expected is not None:
            told = refused_server(refused, self._expected, _where(connection), self._everyone)
            return PeerRefused(refused, str(told))
        message, hint = refused_client(refused)
        if refused.code is Code.UNKNOWN and refused.fingerprint is None:
            hint = "OpenSSL does not tell whose; if you know it, get its certificate: peerauth peer add FILE"
        text = f"{message} ({hint})" if hint else message
        self._log.say(remote_of(connection), text)
        return PeerRefused(refused, text)


def explain(error: ssl.SSLError) -> None:
    """Say in our words, too, that the other side has refused us."""
    alert = (getattr(error, "reason", None) or "").partition("ALERT_")[2].replace("_", " ").lower()
    meant = from_alert(alert) if alert else None
    if isinstance(meant, TrustRefused) and meant.message not in str(error):
        error.strerror = f"{error.strerror}: {meant.message}"


def remote_of(connection: Connection) -> Address | None:
    """The other side's address; None on a Unix socket, on memory BIOs, and when the other side has gone."""
    if not isinstance(connection, ssl.SSLSocket) or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        return ip_address(connection.getpeername()[0])
    except (OSError, ValueError):
        return None


def _where(connection: Connection) -> str:
    host, remote = connection.server_hostname, remote_of(connection)
    if remote is None or not isinstance(connection, ssl.SSLSocket):
        return host or "the server"
    with suppress(OSError):
        return str(Where(host or str(remote), connection.getpeername()[1]))
    return host or str(remote)


def _unverified_leaf(connection: Connection) -> bytes | None:
    """The leaf that OpenSSL has refused, to put in words; it keeps a server's, not a client's."""
    with suppress(Exception):  # public from Python 3.13 on; where the private door is gone, the text is shorter
        chain = connection._sslobj.get_unverified_chain()  # type: ignore[union-attr] # noqa: SLF001
        return ssl.PEM_cert_to_DER_cert(chain[0].public_bytes())
    return None

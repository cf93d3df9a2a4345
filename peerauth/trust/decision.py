"""The one function that says who is trusted.

It does no I/O and reads no clock. It is asked in the handshake's verify callback, once more when the handshake is done (a
resumed session skips the callback), and again for live connections when the peer set changes. Whatever is reported anywhere
is its result.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from peerauth.errors import BadInput, counted
from peerauth.trust.certificate import Certificate
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import Peer, PeerSet
from peerauth.trust.policy import EVERY_PEER, Policy

Address = IPv4Address | IPv6Address


class Code(StrEnum):
    """Why a certificate was refused."""

    NO_CERTIFICATE = "no-certificate"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    WEAK_KEY = "weak-key"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    RETIRED = "retired"
    UNTIL_PASSED = "until-passed"
    NOT_FROM_HERE = "not-from-here"
    NOT_ALLOWED = "not-allowed"
    TOO_MANY = "too-many"


@dataclass(frozen=True, slots=True)
class Admitted:
    """This certificate is that peer."""

    peer: Peer
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class Refused:
    """This certificate is not let in, and why. `peer` is who it would have been, where that is known.

    `key` is the fingerprint of its public key, where that was looked up in vain.
    """

    code: Code
    fingerprint: Fingerprint | None
    peer: Peer | None
    reason: str
    key: Fingerprint | None = None


Decision = Admitted | Refused


def decide(  # noqa: C901 - one question after the other, each with its answer
    presented: bytes | None,
    peers: PeerSet,
    policy: Policy = EVERY_PEER,
    remote: Address | None = None,
    *,
    now: datetime,
    live: int = 0,
) -> Decision:
    """Admit or refuse the leaf certificate that was presented.

    `presented` is its exact DER, None if there was none; `remote` the other side's address, None for a Unix socket;
    `now` an aware datetime; `live` how many connections the peer has already.
    """
    if presented is None:
        return Refused(Code.NO_CERTIFICATE, None, None, "no certificate was presented")
    fingerprint = Fingerprint.of(presented)
    peer = peers.holder(fingerprint)
    if peer is None and not peers.pins_keys:
        return _unknown(fingerprint)
    try:
        certificate = _pinned(presented) if peer else Certificate(presented)
    except BadInput as error:
        return Refused(Code.MALFORMED, fingerprint, None, error.message)
    peer = peer or peers.key_holder(certificate)
    if peer is None:
        return _unknown(fingerprint, certificate.key_fingerprint)

    def refused(code: Code, reason: str) -> Refused:
        return Refused(code, fingerprint, peer, reason)

    settings = peer.settings
    if certificate.weak_key:
        return refused(Code.WEAK_KEY, f"the key is too weak ({certificate.key_type})")
    if now > certificate.not_after:  # RFC 5280 section 4.1.2.5: valid through notAfter, inclusive
        return refused(Code.EXPIRED, f"the certificate expired on {certificate.not_after:%Y-%m-%d %H:%M} UTC")
    if now < certificate.not_before:
        return refused(
            Code.NOT_YET_VALID, f"the certificate is not valid before {certificate.not_before:%Y-%m-%d %H:%M} UTC"
        )
    retires = settings.retires(certificate)
    if retires is not None and now >= retires:
        return refused(
            Code.RETIRED, f"the certificate was retired on {retires:%Y-%m-%d %H:%M} UTC; its owner has a newer one"
        )
    if settings.until is not None and now >= settings.until:
        return refused(Code.UNTIL_PASSED, f"the peer was admitted until {settings.until:%Y-%m-%d %H:%M} UTC")
    if settings.sources and not _from_one_of(settings.sources, remote):
        return refused(Code.NOT_FROM_HERE, f"the peer may not come from {remote or 'a Unix socket'}")
    if not policy.allows(peer):
        return refused(Code.NOT_ALLOWED, f"the service '{policy.service}' is not for this peer")
    if settings.max_connections is not None and live >= settings.max_connections:
        return refused(Code.TOO_MANY, f"the peer has {counted(live, 'connection')} already, as many as it may have")
    return Admitted(peer, fingerprint)


def admitted_until(admitted: Admitted, presented: bytes) -> datetime:
    """The moment from which `decide` may refuse this certificate although nothing else changes."""
    certificate, settings = _pinned(presented), admitted.peer.settings
    expires = certificate.not_after + timedelta(microseconds=1)
    return min(moment for moment in (expires, settings.retires(certificate), settings.until) if moment)


# Reading a certificate is a tenth of what a handshake costs in Python, and those who are pinned come again. A stranger's
# certificate never enters here.
_pinned = functools.lru_cache(maxsize=1024)(Certificate)


def _unknown(fingerprint: Fingerprint, key: Fingerprint | None = None) -> Refused:
    return Refused(Code.UNKNOWN, fingerprint, None, "the certificate is not pinned", key)


def _from_one_of(networks: tuple[object, ...], remote: Address | None) -> bool:
    if remote is None:
        return False
    plain = remote.ipv4_mapped if isinstance(remote, IPv6Address) and remote.ipv4_mapped else remote
    return any(plain in network for network in networks)  # type: ignore[operator]

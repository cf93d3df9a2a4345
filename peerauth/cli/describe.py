"""Certificates, peers and times as people and programs read them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from peerauth.cli.ui import Cell, Style
from peerauth.errors import counted
from peerauth.trust import expiry

if TYPE_CHECKING:
    from peerauth.trust.certificate import Certificate
    from peerauth.trust.fingerprint import Fingerprint
    from peerauth.trust.peers import Peer, PeerSettings

_LABEL = len("key fingerprint:")


def in_time(certificate: Certificate, now: datetime, settings: PeerSettings | None = None) -> Cell:
    """In what time a certificate expires, or is retired; red when it has or urgently will, yellow when it soon will."""
    retires = settings.retires(certificate) if settings else None
    if retires is not None and retires < certificate.not_after:
        return Cell(f"{expiry.span(retires - now)}, then retired", "yellow") if now < retires else Cell("retired", "red")
    reached = expiry.level(certificate.not_after, now)
    style: Style = "" if reached is None else "yellow" if reached > expiry.URGENT else "red"
    return Cell(expiry.time_left(certificate.not_after, now), style)


def validity(certificate: Certificate, now: datetime) -> str:
    """From when to when, and how long it is until then."""
    dates = f"{certificate.not_before:%Y-%m-%d} to {certificate.not_after:%Y-%m-%d}"
    if now < certificate.not_before:
        return f"{dates} (not valid yet)"
    left = expiry.time_left(certificate.not_after, now)
    return f"{dates} ({left if now > certificate.not_after else left + ' left'})"


def certificate_facts(certificate: Certificate, now: datetime, *, by_key: bool = False) -> dict[str, Any]:
    """A certificate for programs."""
    return {
        "fingerprint": certificate.fingerprint,
        "key_fingerprint": certificate.key_fingerprint,
        "key_type": certificate.key_type,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "days_left": expiry.days_left(certificate.not_after, now),
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "serial": f"{certificate.serial:x}",
        "alternative_names": certificate.alternative_names,
        "unusual": certificate.unusual(now, by_key=by_key),
    }


def certificate_lines(
    certificate: Certificate, now: datetime, settings: PeerSettings | None = None
) -> list[tuple[str, str]]:
    """A certificate for people; with the settings of its peer also when it is retired."""
    retires = settings.retires(certificate) if settings else None
    by_key = settings is not None and settings.pin == "key"
    return [
        ("fingerprint", str(certificate.fingerprint)),
        *words_lines(certificate.fingerprint),
        *([("retired", f"from {retires:%Y-%m-%d %H:%M} UTC on")] if retires else []),
        ("key", certificate.key_type),
        ("key fingerprint", str(certificate.key_fingerprint)),
        ("valid", validity(certificate, now)),
        ("subject", certificate.subject),
        ("issuer", "itself" if certificate.self_signed else certificate.issuer),
        ("serial", f"{certificate.serial:x}"),
        ("names", ", ".join(certificate.alternative_names) or "none"),
        *(("unusual", sentence) for sentence in certificate.unusual(now, by_key=by_key)),
    ]


def words_lines(fingerprint: Fingerprint) -> list[tuple[str, str]]:
    """A fingerprint as words, in rows that can be read aloud."""
    from peerauth.trust.words import in_rows

    first, *rest = in_rows(fingerprint.words)
    return [("in words", first), *(("", row) for row in rest)]


def peer_facts(peer: Peer, certificates: Sequence[Certificate], now: datetime) -> dict[str, Any]:
    """A peer for programs. It expires with the certificate that lasts longest; never, where its key is pinned."""
    settings = peer.settings
    by_key = settings.pin == "key"
    expires = None if by_key else max((certificate.not_after for certificate in certificates), default=None)
    return {
        "name": peer.name,
        "expires": expires,
        "days_left": None if expires is None else expiry.days_left(expires, now),
        "fingerprints": peer.pins,
        "note": settings.note,
        "tags": settings.tags,
        "address": settings.address,
        "pin": settings.pin,
        "from": settings.sources,
        "until": settings.until,
        "max_connections": settings.max_connections,
        "rotation": settings.rotation,
        "rotated": settings.rotated,
        "retire": {str(pin): moment for pin, moment in settings.retire},
        "certificates": [certificate_facts(certificate, now, by_key=by_key) for certificate in certificates],
    }


def settings_lines(settings: PeerSettings) -> list[tuple[str, str]]:
    """What was noted about a peer, for people: only what is set."""
    lines = [
        ("note", settings.note),
        ("tags", ", ".join(settings.tags)),
        ("address", settings.address or ""),
        ("pin", "its key, in any certificate that is valid" if settings.pin == "key" else ""),
        ("from", ", ".join(str(network) for network in settings.sources)),
        ("until", f"{settings.until:%Y-%m-%d %H:%M} UTC" if settings.until else ""),
        ("at most", counted(settings.max_connections, "connection") if settings.max_connections else ""),
        ("rotation", settings.rotation or ""),
        ("rotated", f"{settings.rotated:%Y-%m-%d %H:%M} UTC" if settings.rotated else ""),
    ]
    return [(label, text) for label, text in lines if text]


def aligned(lines: Sequence[tuple[str, str]]) -> str:
    """Labels and texts as two columns."""
    return "\n".join(f"{label + ':' if label else '':<{_LABEL}} {_one_line(text)}" for label, text in lines)


def _one_line(text: str) -> str:
    return text.replace("\n", "\\n")

"""Certificates, peers and times as people and programs read them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from peerauth.cli.ui import Cell

if TYPE_CHECKING:
    from peerauth.trust.certificate import Certificate
    from peerauth.trust.peers import Peer, PeerSettings

_SOON = timedelta(days=30)
_LABEL = len("key fingerprint:")


def span(length: timedelta) -> str:
    """A length of time in its largest whole unit: `3 days`, `1 hour`."""
    seconds = int(length.total_seconds())
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "less than a minute"


def expiry(certificate: Certificate, now: datetime, settings: PeerSettings | None = None) -> Cell:
    """In what time this certificate expires, or is retired; red when it has, yellow when it soon will."""
    retires = settings.retires(certificate) if settings else None
    if retires is not None and retires < certificate.not_after:
        return Cell(f"{span(retires - now)}, then retired", "yellow") if now < retires else Cell("retired", "red")
    left = certificate.not_after - now
    if left < timedelta(0):
        return Cell(f"expired {span(-left)} ago", "red")
    return Cell(span(left), "yellow" if left < _SOON else "")


def validity(certificate: Certificate, now: datetime) -> str:
    """From when to when, and how long it is until then."""
    dates = f"{certificate.not_before:%Y-%m-%d} to {certificate.not_after:%Y-%m-%d}"
    if now < certificate.not_before:
        return f"{dates} (not valid yet)"
    left = expiry(certificate, now).text
    return f"{dates} ({left if left.startswith('expired') else left + ' left'})"


def certificate_facts(certificate: Certificate, now: datetime) -> dict[str, Any]:
    """A certificate for programs."""
    return {
        "fingerprint": certificate.fingerprint,
        "key_fingerprint": certificate.key_fingerprint,
        "key_type": certificate.key_type,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "days_left": (certificate.not_after - now).days,
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "serial": f"{certificate.serial:x}",
        "alternative_names": certificate.alternative_names,
        "unusual": certificate.unusual(now),
    }


def certificate_lines(
    certificate: Certificate, now: datetime, settings: PeerSettings | None = None
) -> list[tuple[str, str]]:
    """A certificate for people; with the settings of its peer also when it is retired."""
    retires = settings.retires(certificate) if settings else None
    return [
        ("fingerprint", str(certificate.fingerprint)),
        *([("retired", f"from {retires:%Y-%m-%d %H:%M} UTC on")] if retires else []),
        ("key", certificate.key_type),
        ("key fingerprint", str(certificate.key_fingerprint)),
        ("valid", validity(certificate, now)),
        ("subject", certificate.subject),
        ("issuer", "itself" if certificate.self_signed else certificate.issuer),
        ("serial", f"{certificate.serial:x}"),
        ("names", ", ".join(certificate.alternative_names) or "none"),
        *(("unusual", sentence) for sentence in certificate.unusual(now)),
    ]


def peer_facts(peer: Peer, certificates: Sequence[Certificate], now: datetime) -> dict[str, Any]:
    """A peer for programs."""
    settings = peer.settings
    return {
        "name": peer.name,
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
        "certificates": [certificate_facts(certificate, now) for certificate in certificates],
    }


def settings_lines(settings: PeerSettings) -> list[tuple[str, str]]:
    """What was noted about a peer, for people: only what is set."""
    lines = [
        ("note", settings.note),
        ("tags", ", ".join(settings.tags)),
        ("address", settings.address or ""),
        ("pin", "its key, in any certificate" if settings.pin == "key" else ""),
        ("from", ", ".join(str(network) for network in settings.sources)),
        ("until", f"{settings.until:%Y-%m-%d %H:%M} UTC" if settings.until else ""),
        ("at most", f"{settings.max_connections} connections" if settings.max_connections else ""),
        ("rotation", settings.rotation or ""),
        ("rotated", f"{settings.rotated:%Y-%m-%d %H:%M} UTC" if settings.rotated else ""),
    ]
    return [(label, text) for label, text in lines if text]


def aligned(lines: Sequence[tuple[str, str]]) -> str:
    """Labels and texts as two columns."""
    return "\n".join(f"{label + ':':<{_LABEL}} {_one_line(text)}" for label, text in lines)


def _one_line(text: str) -> str:
    return text.replace("\n", "\\n")

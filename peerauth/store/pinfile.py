"""The content of a file with one pin more, or some fewer; what a person wrote around the blocks stays, if it can."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Collection

from peerauth.errors import BadInput
from peerauth.trust.certificate import Certificate
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.reading import leaves, read_certificates

_BLOCK = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END (?:X509 )?CERTIFICATE-----\r?\n?")


def pinned_in(data: bytes) -> list[Certificate]:
    """The certificates that a file with this content pins. Raises BadInput."""
    return leaves(read_certificates(data))


def with_pin(data: bytes, certificate: Certificate, limit: int) -> bytes | None:
    """The content with this certificate behind it; None where it is not PEM, or would not pin just that in addition.

    `limit`: bytes that there may be. Raises BadInput where the content is broken.
    """
    if b"-----BEGIN " not in data:
        return None
    more = data + (b"" if data.endswith(b"\n") else b"\n") + certificate.pem.encode()
    return more if len(more) <= limit and _pins(more, [*pinned_in(data), certificate]) else None


def without_pins(data: bytes, gone: Callable[[Certificate], bool]) -> bytes:
    """The content without the pins that are `gone`; empty where none is left. Raises BadInput where it is broken."""
    held = pinned_in(data)
    kept = [certificate for certificate in held if not gone(certificate)]
    if len(kept) == len(held):
        return data
    dropped = {certificate.fingerprint for certificate in held} - {certificate.fingerprint for certificate in kept}
    fewer = _BLOCK.sub(lambda block: b"" if _fingerprint(block[1]) in dropped else block[0], data)
    # The issuer of a leaf that is gone would be a leaf itself, and pinned: then the bare leaves are written instead.
    return fewer if kept and _pins(fewer, kept) else as_pem(kept)


def as_pem(certificates: Collection[Certificate]) -> bytes:
    """A file with these."""
    return "".join(certificate.pem for certificate in certificates).encode()


def _pins(data: bytes, expected: list[Certificate]) -> bool:
    try:
        return pinned_in(data) == expected
    except BadInput:
        return False


def _fingerprint(text: bytes) -> Fingerprint | None:
    try:
        return Fingerprint.of(base64.b64decode(b"".join(text.split()), validate=True))
    except binascii.Error:
        return None

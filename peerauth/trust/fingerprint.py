"""A fingerprint is a value: read in every usual form, printed in one.

The canonical form is what `openssl x509 -noout -fingerprint -sha256` prints: upper-case hex pairs with colons.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import re
from dataclasses import dataclass

from peerauth.errors import BadInput
from peerauth.trust import words

# Of "sha256//" and "SHA256:" the slashes of the one are not the base64 of the other.
_PREFIX = re.compile(r"\s*(?:sha-?256|sha256 fingerprint|fingerprint)\s*(?:=|//|:)\s*", re.IGNORECASE)
_HEX_SEPARATORS = re.compile(r"[\s:.-]")
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_LINK = re.compile(r"peerauth://([0-9a-f]{64})(?:@[^\s@]*)?")
_SOME_HEX = re.compile(r"[0-9a-f]{8,64}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{43}=?")


@dataclass(frozen=True, slots=True, order=True)
class Fingerprint:
    """The SHA-256 of some DER: of a certificate (a pin), or of a SubjectPublicKeyInfo (a key pin)."""

    digest: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != 32:
            raise ValueError("a SHA-256 fingerprint has 32 bytes")

    @classmethod
    def of(cls, der: bytes) -> Fingerprint:
        """The fingerprint of these DER bytes."""
        return cls(hashlib.sha256(der).digest())

    @classmethod
    def parse(cls, text: str) -> Fingerprint:
        """Read hex with or without colons, `SHA256:base64`, the line that openssl prints, 24 words, or a QR code's text.

        Raises BadInput("bad-fingerprint") for anything else; a shortened fingerprint is never enough.
        """
        if len(text) <= words.LONGEST:
            found = _PREFIX.match(text)
            digest = _digest(text[found.end() if found else 0 :].strip())
            if digest is None and words.look_like_words(text):
                digest = words.from_words(text)
            if digest is None and (link := _LINK.fullmatch(text.strip())):
                digest = bytes.fromhex(link[1])
            if digest is not None:
                return cls(digest)
        raise BadInput(
            "bad-fingerprint",
            "this is not a SHA-256 fingerprint: 64 hex digits (colons allowed), SHA256:base64 or 24 words are expected",
            "on the other machine type: peerauth id --fingerprint",
        )

    @property
    def words(self) -> str:
        """The fingerprint as 24 words, to be read aloud."""
        return words.to_words(self.digest)

    def link(self, address: str, name: str) -> str:
        """What a QR code says: whose fingerprint this is, and where it serves. Both are plain: a HOST:PORT and a name."""
        return f"peerauth://{self.digest.hex()}@{address}?name={name}"

    def __str__(self) -> str:
        return self.digest.hex(":").upper()

    def __repr__(self) -> str:
        return f"Fingerprint({self})"


def parse_prefix(text: str) -> str:
    """How a fingerprint begins, as lower-case hex: 8 digits or more, colons allowed, or all of it in any usual form.

    Enough to find one among those that were seen, never to trust it. Raises BadInput("bad-prefix").
    """
    with contextlib.suppress(BadInput):
        return Fingerprint.parse(text).digest.hex()
    found = _PREFIX.match(text) if len(text) <= 200 else None
    digits = _HEX_SEPARATORS.sub("", text[found.end() if found else 0 : 200]).lower()
    if len(text) > 200 or _SOME_HEX.fullmatch(digits) is None:
        raise BadInput(
            "bad-prefix",
            "this is not a SHA-256 fingerprint or the beginning of one: 8 hex digits or more (colons allowed) are expected",
            "to see who has tried to come in: peerauth peer pending",
        )
    return digits


def _digest(body: str) -> bytes | None:
    hexadecimal = _HEX_SEPARATORS.sub("", body)
    if _HEX.fullmatch(hexadecimal):
        return bytes.fromhex(hexadecimal)
    if _BASE64.fullmatch(body):
        with contextlib.suppress(binascii.Error):
            altchars = b"-_" if set(body) & set("-_") else None
            digest = base64.b64decode(body.rstrip("=") + "=", altchars=altchars)
            return digest if len(digest) == 32 else None
    return None

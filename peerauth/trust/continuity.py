"""Continuity: a statement by which the holder of one certificate says which certificate comes next.

Both keys sign the same bytes, so nobody can put a key forward that they do not hold, and nobody but the holder of the old
one can speak for it. What is to be done about a statement is not decided here. The format is in docs/protocol.md.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from peerauth.errors import BadInput
from peerauth.trust.certificate import Certificate
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.identity import Identity, PrivateKey

LARGEST = 24 << 10  # bytes of a statement
_CONTEXT = b"peerauth statement 1\0"
_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_FIELDS = {"kind", "old", "new", "issued", "retire"}


class Kind(StrEnum):
    """What a statement says about the new certificate."""

    NEXT = "next"  # it comes after the old one, which is to be retired at `retire`
    WITHDRAWN = "withdrawn"  # it does not come after all: forget it, and keep the old one
    COMPROMISED = "compromised"  # the old key is in other hands: drop it at once


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement whose two signatures were good. `data` is what was signed, with the signatures, as it travels."""

    kind: Kind
    old: Certificate
    new: Certificate
    issued: datetime
    retire: datetime
    data: bytes


def endorse(kind: Kind, old: Identity, new: Identity, issued: datetime, retire: datetime) -> Statement:
    """The statement of this kind, signed by both keys; the moments are aware, and kept to the second."""
    payload = json.dumps(
        {
            "kind": str(kind),
            "old": _octets(old.certificate.der),
            "new": _octets(new.certificate.der),
            "issued": _moment(issued),
            "retire": _moment(retire),
        },
        separators=(",", ":"),
    )
    signed = _CONTEXT + payload.encode()
    body = {"statement": payload, "by_old": _octets(_sign(old.key, signed)), "by_new": _octets(_sign(new.key, signed))}
    return read_statement(json.dumps(body, separators=(",", ":")).encode())


def read_statement(data: bytes) -> Statement:
    """The statement in these bytes. Raises BadInput("bad-statement") when anything is wrong with it, signatures included."""
    if len(data) > LARGEST:
        raise _bad("it is too long")
    try:
        body = _object(data.decode(), {"statement", "by_old", "by_new"})
        payload = body["statement"]
        fields = _object(payload, _FIELDS)
        kind = Kind(fields["kind"])
        old, new = Certificate(_from_octets(fields["old"])), Certificate(_from_octets(fields["new"]))
        issued, retire = _from_moment(fields["issued"]), _from_moment(fields["retire"])
        by_old, by_new = _from_octets(body["by_old"]), _from_octets(body["by_new"])
    except (ValueError, TypeError, RecursionError, BadInput) as error:
        raise _bad("it cannot be read") from error
    if old == new:
        raise _bad("the old and the new certificate are the same")
    signed = _CONTEXT + payload.encode()
    for certificate, signature, whose in ((old, by_old, "old"), (new, by_new, "new")):
        if certificate.weak_key or not _verified(certificate, signature, signed):
            raise _bad(f"the {whose} key's signature is not good")
    return Statement(kind, old, new, issued, retire, data)


def mentioned(data: bytes) -> tuple[Fingerprint, Fingerprint]:
    """Which certificates a statement names, old and new, before anything else is known of it. Raises as `read_statement`.

    A stranger's statement costs what its keys cost to check: whether it is about anybody who is known can be asked before.
    """
    try:
        if len(data) <= LARGEST:
            fields = _object(_object(data.decode(), {"statement", "by_old", "by_new"})["statement"], _FIELDS)
            return Fingerprint.of(_from_octets(fields["old"])), Fingerprint.of(_from_octets(fields["new"]))
    except (ValueError, TypeError, RecursionError) as error:
        raise _bad("it cannot be read") from error
    raise _bad("it is too long")


def _bad(reason: str) -> BadInput:
    return BadInput("bad-statement", f"a statement about a certificate's successor is not good: {reason}")


def _sign(key: PrivateKey, data: bytes) -> bytes:
    """RSASSA-PSS with SHA-256 (RFC 8017 section 8.1), ECDSA with SHA-256 in DER (RFC 3279 section 2.2.3), or RFC 8032."""
    match key:
        case rsa.RSAPrivateKey():
            return key.sign(data, _PSS, hashes.SHA256())
        case ec.EllipticCurvePrivateKey():
            return key.sign(data, ec.ECDSA(hashes.SHA256()))
        case _:
            return key.sign(data)


def _verified(certificate: Certificate, signature: bytes, data: bytes) -> bool:
    try:
        match certificate.public_key:
            case rsa.RSAPublicKey() as key:
                key.verify(signature, data, _PSS, hashes.SHA256())
            case ec.EllipticCurvePublicKey() as key:
                key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey() as key:
                key.verify(signature, data)
            case _:
                return False
    except InvalidSignature:
        return False
    return True


def _object(text: Any, names: set[str]) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON had there
    if not isinstance(text, str):
        raise TypeError
    found = json.loads(text, object_pairs_hook=list)  # pairs, so that a name that comes twice is seen
    if not isinstance(found, list) or not all(isinstance(pair, tuple) for pair in found):
        raise TypeError
    fields = dict(found)
    if set(fields) != names or len(found) != len(names):
        raise ValueError
    return fields


def _octets(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_octets(text: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError from error
    if _octets(data) != text:
        raise ValueError
    return data


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def _from_moment(text: str) -> datetime:
    if _MOMENT.fullmatch(text) is None:
        raise ValueError
    return datetime.fromisoformat(text)

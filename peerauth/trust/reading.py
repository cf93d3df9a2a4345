"""From the bytes of a file to the certificates in it: PEM with text around it, DER, or PKCS12.

A private key is refused here, before anything is copied, and no message repeats a line of the input. The PEM reader is
linear in its input (RFC 7468, with text outside the blocks allowed).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from peerauth.errors import BadInput
from peerauth.trust.certificate import Certificate

MAXIMUM_BYTES = 1 << 20
MAXIMUM_CERTIFICATES = 100

_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"
_CERTIFICATE_LABELS = {b"CERTIFICATE", b"X509 CERTIFICATE"}
_HEAD, _TAIL = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_USUAL_TAIL = b"\n" + _TAIL + b"\n"
# An AlgorithmIdentifier of a named curve with the beginning of an uncompressed point (RFC 5480 section 2): P-256, P-384.
_P256 = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d03010703420004")
_P384 = bytes.fromhex("301006072a8648ce3d020106052b8104002203620004")


def read_certificates(data: bytes, password: bytes | None = None) -> list[Certificate]:
    """Every certificate in `data`, in order, without repetitions.

    `password` opens a PKCS12; its private key, if any, is left alone. Raises BadInput with the codes `empty`, `too-large`,
    `private-key`, `malformed`, `not-a-certificate`, `password-needed` or `password-wrong`.
    """
    if not data.strip():
        raise BadInput("empty", "it is empty")
    if len(data) > MAXIMUM_BYTES:
        raise BadInput("too-large", f"it is larger than {MAXIMUM_BYTES // 1024} KB: no certificate is")
    if _BEGIN in data:
        found = [Certificate(der) for der in _pem_certificates(data)]
    elif data[:1] == b"\x30":
        found = _from_der(data, password)
    else:
        raise _not_a_certificate(data)
    if not found:
        raise BadInput("not-a-certificate", "there is no certificate in it")
    if len(found) > MAXIMUM_CERTIFICATES:
        raise BadInput("too-many-certificates", f"it holds more than {MAXIMUM_CERTIFICATES} certificates")
    return list(dict.fromkeys(found))


def glance(data: bytes) -> tuple[bytes, int] | None:
    """The one certificate that `data` is, as PEM or DER: its pin, and when it ends in seconds since 1970.

    None where `read_certificates` must look. It takes a sixth of the time of that, which counts when there are a hundred
    thousand. It finds the same faults but one: whether a point lies on its curve is worked out when the certificate is
    presented, as everything about it is.
    """
    if data.startswith(_HEAD):
        if data.endswith(_USUAL_TAIL):  # as every program writes it, whose lines are joined in one go
            text = data[len(_HEAD) : -len(_USUAL_TAIL)].replace(b"\n", b"")
        else:
            finish = data.find(_TAIL)
            if finish < 0 or data[finish + len(_TAIL) :].strip():
                return None
            text = b"".join(data[len(_HEAD) : finish].split())
        try:
            der = binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error:
            return None
    elif data[:1] == b"\x30":
        der = data
    else:
        return None
    try:
        held = x509.load_der_x509_certificate(der)
        _, not_after = held.not_valid_before_utc, held.not_valid_after_utc
        if _P256 not in der and _P384 not in der:
            held.public_key()
    except Exception:  # noqa: BLE001 - whatever ails it, the careful way finds the words
        return None
    return hashlib.sha256(der).digest(), seconds(not_after)


def seconds(moment: datetime) -> int:
    """Seconds since 1970; 0 for what was before."""
    return max(0, int(moment.timestamp()))


def leaves(certificates: Sequence[Certificate]) -> list[Certificate]:
    """The certificates that issued none of the others: of a chain the leaf, of independent ones all.

    A pin is for a leaf. A file with a whole chain in it (fullchain.pem) must not pin the authority as well.
    """
    if len(certificates) == 1:
        return list(certificates)
    kept = [c for c in certificates if not any(c is not other and c.issued(other) for other in certificates)]
    return kept or list(certificates)


def holds_private_key(data: bytes) -> bool:
    """Whether PEM or PKCS8/PKCS1 text in `data` announces a private key."""
    return b"PRIVATE KEY-----" in data or data.lstrip().startswith(b"AGE-SECRET-KEY-")


def _private_key() -> BadInput:
    return BadInput(
        "private-key",
        "it holds a private key, which must never leave its machine; nothing was read from it or copied",
        "hand over the certificate (NAME.crt) alone; if the key has travelled, make a new one: peerauth keygen --force",
    )


def _pem_certificates(data: bytes) -> Iterator[bytes]:
    if holds_private_key(data):
        raise _private_key()
    position = 0
    while (start := data.find(_BEGIN, position)) >= 0:
        label_end = data.find(_DASHES, start + len(_BEGIN))
        label = data[start + len(_BEGIN) : label_end] if 0 < label_end - start < 80 else b""
        finish = data.find(_END + label + _DASHES, label_end) if label else -1
        if finish < 0:
            raise BadInput("malformed", "a PEM block in it is cut off: it begins and does not end", "copy the file again")
        position = finish + len(_END)
        if label not in _CERTIFICATE_LABELS:
            if label.endswith(b"CERTIFICATE REQUEST"):
                raise BadInput("not-a-certificate", "it is a certificate request (CSR), not a certificate")
            if label.endswith(b"PUBLIC KEY"):
                raise BadInput("not-a-certificate", "it is a bare public key, not a certificate")
            continue
        try:
            yield base64.b64decode(b"".join(data[label_end + len(_DASHES) : finish].split()), validate=True)
        except binascii.Error:
            raise BadInput("malformed", "a PEM block in it is damaged: it is not base64", "copy the file again") from None


def _from_der(data: bytes, password: bytes | None) -> list[Certificate]:
    try:
        return [Certificate(data)]
    except BadInput as broken:
        if not _looks_like_pkcs12(data):
            if _looks_like_key(data):
                raise _private_key() from None
            raise broken from None
    try:
        store = pkcs12.load_pkcs12(data, password)
    except Exception as error:
        if password is None:
            raise BadInput(
                "password-needed",
                "it is a PKCS12 file with a password",
                "pass it with --passphrase-file FILE, or type it when asked",
            ) from error
        raise BadInput("password-wrong", "this password does not open the PKCS12 file") from error
    held = [store.cert] if store.cert is not None else []
    return [Certificate(item.certificate.public_bytes(Encoding.DER)) for item in (*held, *store.additional_certs)]


def _inner(data: bytes) -> bytes:
    """What follows the header of the outermost DER SEQUENCE."""
    return data[2 + (data[1] & 0x7F) if len(data) > 1 and data[1] & 0x80 else 2 :]


def _looks_like_pkcs12(data: bytes) -> bool:
    return _inner(data).startswith(b"\x02\x01\x03")  # PFX version v3, RFC 7292 section 4


def _looks_like_key(data: bytes) -> bool:
    # PKCS1, SEC1 and PKCS8 keys all begin with a small version INTEGER; an encrypted PKCS8 with an AlgorithmIdentifier
    # of PBES2, whose object identifier is 1.2.840.113549.1.5.13.
    inner = _inner(data)
    return inner[:3] in (b"\x02\x01\x00", b"\x02\x01\x01") or b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d" in inner[:20]


def _not_a_certificate(data: bytes) -> BadInput:
    if holds_private_key(data):
        return _private_key()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return BadInput(
            "not-a-certificate", "it is UTF-16 text", "save it as plain text (PowerShell: Set-Content -Encoding ascii)"
        )
    if data[:4] in (b"ssh-", b"ecds"):
        return BadInput(
            "not-a-certificate", "it is an SSH public key, not a certificate", "on that machine type: peerauth keygen"
        )
    return BadInput("not-a-certificate", "there is no certificate in it", "PEM, DER and PKCS12 are understood")

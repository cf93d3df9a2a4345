"""Certificates of every odd shape, made with `cryptography` directly: what strangers bring."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Made = tuple[Key, x509.Certificate]
DAY = timedelta(days=1)


def make(
    name: str = "alice",
    *,
    ca: bool = False,
    san: bool = True,
    start: timedelta = -DAY,
    end: timedelta = 365 * DAY,
    key: Key | None = None,
    issuer: Made | None = None,
) -> Made:
    """A certificate; self-signed unless there is an issuer. The defaults have nothing unusual about them."""
    now = datetime.now(UTC)
    own = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[1].subject if issuer else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + start)
        .not_valid_after(now + end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if san:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("host.example")]), critical=False)
    return own, builder.sign(issuer[0] if issuer else own, hashes.SHA256())


def pem(*made: Made) -> bytes:
    """Their certificates, one PEM block after another."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for _, certificate in made)


def der(made: Made) -> bytes:
    """The certificate as DER."""
    return made[1].public_bytes(Encoding.DER)


def key_pem(made: Made) -> bytes:
    """The private key as PKCS8 PEM."""
    return made[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def archive(made: Made, password: bytes) -> bytes:
    """Key and certificate as PKCS12."""
    return pkcs12.serialize_key_and_certificates(b"it", made[0], made[1], None, BestAvailableEncryption(password))


def fingerprint(made: Made) -> str:
    """As `openssl x509 -fingerprint -sha256` prints it."""
    return made[1].fingerprint(hashes.SHA256()).hex(":").upper()


def write(path: Path, data: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(data)
    return path

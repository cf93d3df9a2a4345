"""Keys and certificates: the servers', the clients', and pools of up to 100 000 peers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Kind = Literal["rsa4096", "p256", "ed25519"]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_DIGITS = 8  # of the number in the name of a peer in a pool


@dataclass(frozen=True)
class Identity:
    """A certificate and its private key, both PEM files."""

    certificate: Path
    key: Path


def identity(directory: Path, name: str, kind: Kind) -> Identity:
    """Return the identity of that name, made when it is not there yet."""
    made = Identity(directory / f"{name}.crt", directory / f"{name}.key")
    if not (made.certificate.exists() and made.key.exists()):
        key = _new_key(kind)
        made.key.touch(mode=0o600)
        made.key.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        made.certificate.write_bytes(_self_signed(key, name).public_bytes(serialization.Encoding.PEM))
    return made


def pool(directory: Path, count: int) -> list[Path]:
    """Return `count` certificates that differ in name, serial number and bytes, made when they are not there yet.

    They are one P-256 certificate with other digits in its name and serial number. Its signature fits none of them, which
    nobody checks of a certificate that is trusted by itself, and which makes 100 000 of them in seconds.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"peer-{number:0{_DIGITS}}.crt" for number in range(count)]
    done = directory / "whole"
    if not done.exists():
        for path, pem in zip(paths, _variations(count), strict=True):
            path.write_bytes(pem)
        done.touch()
    return paths


def _variations(count: int) -> Iterator[bytes]:
    template = _self_signed(ec.generate_private_key(ec.SECP256R1()), f"peer-{0:0{_DIGITS}}", serial=0x4000000000000000)
    der = template.public_bytes(serialization.Encoding.DER)
    for number in range(count):
        name = f"peer-{number:0{_DIGITS}}".encode()
        varied = der.replace(f"peer-{0:0{_DIGITS}}".encode(), name)
        varied = varied.replace((0x4000000000000000).to_bytes(8), (0x4000000000000000 + number).to_bytes(8), 1)
        yield x509.load_der_x509_certificate(varied).public_bytes(serialization.Encoding.PEM)


def _new_key(kind: Kind) -> PrivateKey:
    if kind == "rsa4096":
        return rsa.generate_private_key(65537, 4096)
    if kind == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def _self_signed(key: PrivateKey, name: str, serial: int | None = None) -> x509.Certificate:
    """A certificate that every contender takes as a server, as a client, and as its own authority."""
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), serial or x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())

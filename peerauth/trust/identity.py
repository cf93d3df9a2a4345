"""A node's identity: a private key and a self-signed certificate of the profile that every TLS stack accepts.

The profile (RFC 5280 throughout): version 3, SHA-256, subject = issuer = CN + serialNumber (unique although names repeat),
CA:FALSE critical, keyUsage critical, serverAuth and clientAuth, subject and authority key identifiers, subjectAltName.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from peerauth.errors import BadInput, printable
from peerauth.trust.certificate import Certificate
from peerauth.trust.reading import read_certificates

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
MAXIMUM_DAYS = 36_500
_ANEW = "put the right pair back, or make a new one beside the old: peerauth keygen --force"
_DNS = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?")


class KeyType(StrEnum):
    """The kinds of key that keygen makes."""

    RSA4096 = "rsa4096"
    RSA3072 = "rsa3072"
    P256 = "p256"
    ED25519 = "ed25519"


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key with its certificate. The key is never part of the representation."""

    key: PrivateKey
    certificate: Certificate

    def __repr__(self) -> str:
        return f"<Identity {self.certificate!r}>"

    def key_pem(self, passphrase: bytes | None = None) -> bytes:
        """The private key as PKCS8 PEM (RFC 5958), encrypted when there is a passphrase."""
        encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    def pkcs12(self, name: str, password: bytes) -> bytes:
        """Key and certificate as PKCS12 (RFC 7292), in the form that curl, Java, Node and NSS all read."""
        encryption = (
            PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(50_000)
            .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
            .hmac_hash(hashes.SHA256())
            .build(password)
        )
        certificate = x509.load_der_x509_certificate(self.certificate.der)
        return pkcs12.serialize_key_and_certificates(name.encode(), self.key, certificate, None, encryption)


def load_identity(key_pem: bytes, certificate_pem: bytes, passphrase: bytes | None = None) -> Identity:
    """Join a key and its certificate.

    Raises BadInput: `passphrase-needed`, `passphrase-wrong`, `bad-key`, `key-mismatch`, or what reading the
    certificate raises.
    """
    certificate = read_certificates(certificate_pem)[0]
    try:
        key = _load_key(key_pem, passphrase)
    except TypeError as error:
        if passphrase is None:
            raise BadInput("passphrase-needed", "the private key is encrypted and no passphrase was given") from error
        key = _load_key(key_pem, None)
    except ValueError as error:
        if b"ENCRYPTED" in key_pem and passphrase is not None:
            raise BadInput("passphrase-wrong", "this passphrase does not open the private key") from error
        raise BadInput("bad-key", "the private key cannot be read: it is not a PEM private key", _ANEW) from error
    if not isinstance(key, PrivateKey):
        raise BadInput("bad-key", "the private key is of a kind that TLS 1.3 cannot use", _ANEW)
    if isinstance(key, rsa.RSAPrivateKey) and not _works(key):
        raise BadInput("bad-key", "the private key is damaged: its numbers do not fit together", _ANEW)
    public = key.public_key().public_bytes(Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if certificate.key_fingerprint != certificate.key_fingerprint.of(public):
        raise BadInput("key-mismatch", "the private key and the certificate do not belong together", _ANEW)
    return Identity(key, certificate)


def _load_key(pem: bytes, passphrase: bytes | None) -> PrivateKeyTypes:
    # OpenSSL would prove again that the primes of an RSA key are prime: 0.3 s for 4096 bits, in which nothing else runs.
    return serialization.load_pem_private_key(pem, passphrase, unsafe_skip_rsa_key_validation=True)


def _works(key: rsa.RSAPrivateKey) -> bool:
    """Whether an RSA key is whole: its numbers are related as RFC 8017 section 3.2 has them, and it signs.

    That is all of OpenSSL's check but the proof that its primes are prime. Where two numbers are not, and fit together all
    the same, signatures do not verify.
    """
    held, public = key.private_numbers(), key.public_key()
    n, e = held.public_numbers.n, held.public_numbers.e
    p, q, d = held.p, held.q, held.d
    if p * q != n or p < 3 or q < 3 or n % 2 == 0 or held.iqmp * q % p != 1:
        return False
    if (held.dmp1, held.dmq1) != (d % (p - 1), d % (q - 1)) or e * d % (p - 1) != 1 or e * d % (q - 1) != 1:
        return False
    try:
        signature = key.sign(b"", padding.PKCS1v15(), hashes.SHA256())
        public.verify(signature, b"", padding.PKCS1v15(), hashes.SHA256())
    except Exception:  # noqa: BLE001 - whatever OpenSSL says of such a key, it is of no use
        return False
    return True


def new_key(kind: KeyType) -> PrivateKey:
    """A fresh private key; RSA 4096 takes seconds."""
    match kind:
        case KeyType.RSA4096:
            return rsa.generate_private_key(65537, 4096)
        case KeyType.RSA3072:
            return rsa.generate_private_key(65537, 3072)
        case KeyType.P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.ED25519:
            return ed25519.Ed25519PrivateKey.generate()


def self_signed(key: PrivateKey, name: str, now: datetime, *, days: int = 365, names: tuple[str, ...] = ()) -> Identity:
    """An identity over `key`, valid from a day before `now` for `days` days after it.

    `names` are further DNS names, IP addresses or URIs for the subjectAltName, which always has the node's name,
    `localhost`, 127.0.0.1 and ::1. Raises BadInput("bad-days") or BadInput("bad-san").
    """
    if not 1 <= days <= MAXIMUM_DAYS:
        raise BadInput("bad-days", f"a certificate can be valid for 1 to {MAXIMUM_DAYS} days, not {days}")
    alternatives = dict.fromkeys(general_name(text) for text in (name, *names, "localhost", "127.0.0.1", "::1"))
    key_identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, key_identifier.digest.hex()[:16]),
        ]
    )
    start = now.replace(microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - timedelta(days=1))
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(encipherment=isinstance(key, rsa.RSAPrivateKey)), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(key_identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_identifier), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    return Identity(key, Certificate(certificate.public_bytes(Encoding.DER)))


def successor(
    before: Identity,
    name: str,
    now: datetime,
    *,
    kind: KeyType | None = None,
    days: int | None = None,
    names: tuple[str, ...] = (),
) -> Identity:
    """What comes after an identity: with its names and `names`, of its kind and lifetime unless others are asked for.

    Raises as `self_signed` does.
    """
    old = before.certificate
    kept = tuple(text for text in old.alternative_names if _is_general_name(text))
    lifetime = (old.not_after - old.not_before).days - 1  # it begins a day before it is made
    wanted = min(max(lifetime, 1), MAXIMUM_DAYS) if days is None else days
    return self_signed(new_key(kind or kind_of(before.key)), name, now, days=wanted, names=(*kept, *names))


def kind_of(key: PrivateKey) -> KeyType:
    """The kind that keygen makes which is nearest to this key."""
    match key:
        case rsa.RSAPrivateKey():
            return KeyType.RSA3072 if key.key_size <= 3072 else KeyType.RSA4096
        case ec.EllipticCurvePrivateKey():
            return KeyType.P256
        case _:
            return KeyType.ED25519


def _is_general_name(text: str) -> bool:
    try:
        general_name(text)
    except BadInput:
        return False
    return True


def general_name(text: str) -> x509.GeneralName:
    """A subjectAltName entry: an IP address, a URI or a DNS name. Raises BadInput("bad-san")."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    if "://" in text and text.isascii() and text.isprintable():
        return x509.UniformResourceIdentifier(text)
    if len(text) <= 253 and _DNS.fullmatch(text):
        return x509.DNSName(text)
    raise BadInput(
        "bad-san",
        f"'{printable(text, 80)}' is no DNS name, IP address or URI",
        "write names with other letters in their xn-- form",
    )


def _key_usage(*, encipherment: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )

"""Certificates as facts: what a DER says, read once, and what is unusual about it.

Nothing here decides who is trusted. Text taken from a certificate is escaped as it is read, because strangers write it.
"""

from __future__ import annotations

import re
import warnings
from datetime import datetime
from functools import cached_property
from typing import Literal, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from peerauth.errors import BadInput, printable
from peerauth.trust import expiry
from peerauth.trust.fingerprint import Fingerprint

MINIMUM_RSA_BITS = 2048  # NIST SP 800-57 part 1, table 2: 112 bits of security; OpenSSL's security level 2
MINIMUM_EC_BITS = 256
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

# cryptography warns of names that are longer than X.520 allows, once for each length; strangers would write the log.
warnings.filterwarnings("ignore", category=UserWarning, module=re.escape(__name__))

_ISSUED = "it was issued by a certificate authority: "
_ISSUED_AND_PINNED = (
    "only this exact certificate is pinned, not its issuer; if its software renews it over the same key "
    "(certbot: --reuse-key), pin that with --pin key"
)
_NOT_PLAIN = re.compile(r"\\([\"\\])|[^ !#-~]")  # an escaped quote or backslash, and what is no plain ASCII
_SHORT = {
    NameOID.COMMON_NAME: "CN",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COUNTRY_NAME: "C",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.EMAIL_ADDRESS: "emailAddress",
}


class Certificate:
    """One X.509 certificate (RFC 5280), by its exact DER bytes.

    Raises BadInput("malformed") when the DER is no certificate or its key or dates cannot be read.
    """

    def __init__(self, der: bytes) -> None:
        self.der = der
        self.fingerprint = Fingerprint.of(der)
        try:
            self._x509 = x509.load_der_x509_certificate(der)
            self.not_before: datetime = self._x509.not_valid_before_utc
            self.not_after: datetime = self._x509.not_valid_after_utc
            self._key = self._x509.public_key()
        except Exception as error:  # cryptography raises ValueError, TypeError, UnsupportedAlgorithm and its own kinds
            raise BadInput("malformed", f"this is not a certificate that can be read: {printable(str(error))}") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and other.der == self.der

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        return f"<Certificate {self.subject} {self.fingerprint}>"

    @property
    def pem(self) -> str:
        """The certificate as one PEM block (RFC 7468)."""
        return self._x509.public_bytes(Encoding.PEM).decode("ascii")

    @property
    def public_key(self) -> CertificatePublicKeyTypes:
        """The public key, for checking what its holder signed."""
        return self._key

    @cached_property
    def key_fingerprint(self) -> Fingerprint:
        """The SHA-256 of the SubjectPublicKeyInfo, as in RFC 7469 section 2.4."""
        return Fingerprint.of(self._key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    @cached_property
    def key_type(self) -> str:
        """For people: `RSA 4096`, `EC P-256`, `Ed25519`."""
        match self._key:
            case rsa.RSAPublicKey():
                return f"RSA {self._key.key_size}"
            case ec.EllipticCurvePublicKey():
                name = self._key.curve.name
                return f"EC {'P-' + name[4:-2] if name.startswith('secp') and name.endswith('r1') else name}"
            case ed25519.Ed25519PublicKey():
                return "Ed25519"
            case ed448.Ed448PublicKey():
                return "Ed448"
            case other:
                return type(other).__name__.strip("_").removesuffix("PublicKey")

    @cached_property
    def weak_key(self) -> bool:
        """True for RSA under 2048 bits, curves under 256 bits, and kinds of key that TLS 1.3 cannot use."""
        match self._key:
            case rsa.RSAPublicKey():
                return self._key.key_size < MINIMUM_RSA_BITS
            case ec.EllipticCurvePublicKey():
                return self._key.curve.key_size < MINIMUM_EC_BITS
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                return False
            case _:
                return True

    @cached_property
    def subject(self) -> str:
        """The subject for people, in the order of the certificate, escaped."""
        return _name_text(self._x509, "subject")

    @cached_property
    def distinguished_name(self) -> str | None:
        """The subject as RFC 4514 writes it, for programs; None when it cannot be read."""
        try:
            return self._x509.subject.rfc4514_string(_SHORT)
        except ValueError:
            return None

    @cached_property
    def issuer(self) -> str:
        """The issuer for people, escaped."""
        return _name_text(self._x509, "issuer")

    @cached_property
    def common_name(self) -> str:
        """The subject's first CN, escaped; empty when there is none."""
        try:
            found = self._x509.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        except ValueError:
            return ""
        return printable(str(found[0].value), 64) if found else ""

    @property
    def serial(self) -> int:
        """The serial number."""
        return self._x509.serial_number

    @cached_property
    def self_signed(self) -> bool:
        """Whether the certificate's own key made its signature."""
        return self.issued(self)

    def issued(self, other: Certificate) -> bool:
        """Whether this certificate's key signed `other` under this certificate's subject."""
        try:
            other._x509.verify_directly_issued_by(self._x509)
        except (InvalidSignature, ValueError, TypeError):
            return False
        return True

    @cached_property
    def alternative_names(self) -> tuple[str, ...]:
        """DNS names and IP addresses of the subjectAltName, escaped."""
        extension = self._extension(x509.SubjectAlternativeName)
        if extension is None:
            return ()
        return tuple(
            printable(str(name.value))
            for name in extension
            if isinstance(name, x509.DNSName | x509.IPAddress | x509.UniformResourceIdentifier)
        )

    @cached_property
    def rfc4514_subject(self) -> str:
        """The subject for programs (RFC 4514), in printable ASCII without a quote: other bytes are escaped as hex."""
        try:
            text = self._x509.subject.rfc4514_string(
                {NameOID.SERIAL_NUMBER: "serialNumber", NameOID.EMAIL_ADDRESS: "emailAddress"}
            )
        except ValueError:
            return ""
        return _NOT_PLAIN.sub(lambda found: "".join(f"\\{byte:02X}" for byte in (found[1] or found[0]).encode()), text)

    @cached_property
    def dns_names(self) -> tuple[str, ...]:
        """The DNS names of the subjectAltName, as they are there."""
        return self._alternative(x509.DNSName)

    @cached_property
    def uris(self) -> tuple[str, ...]:
        """The URIs of the subjectAltName, as they are there."""
        return self._alternative(x509.UniformResourceIdentifier)

    @cached_property
    def is_ca(self) -> bool:
        """Whether software that trusts by chain would let this certificate issue others (CA:TRUE, or X.509 v1)."""
        constraints = self._extension(x509.BasicConstraints)
        return bool(constraints and constraints.ca)

    @cached_property
    def signs_nothing(self) -> bool:
        """Whether, as a root of OpenSSL's or BoringSSL's, it admits itself alone, and nothing that its key signs.

        CA:FALSE keeps OpenSSL from taking it for an issuer (RFC 5280 section 4.2.1.9), and a keyUsage without keyCertSign
        (section 4.2.1.3) keeps BoringSSL, which does not look at the basicConstraints of a root. Both must be there.
        """
        constraints, usage = self._extension(x509.BasicConstraints), self._extension(x509.KeyUsage)
        return constraints is not None and not constraints.ca and usage is not None and not usage.key_cert_sign

    def unusual(self, now: datetime, *, by_key: bool = False) -> list[str]:
        """What a careful person would want to know before pinning this certificate, one sentence each.

        `by_key`: its key is pinned. Then its own end is none of the peer's, who may have a newer one already.
        """
        found = []
        if self.is_ca:
            what = "its own key" if by_key else "this exact certificate"
            found.append(
                f"it says CA:TRUE: peerauth admits {what} only, but software that trusts by chain would also admit "
                "whatever it signs, and rustls refuses it"
            )
        if self.weak_key:
            found.append(f"its key is weak ({self.key_type}): it will be refused (weak-key)")
        if not by_key and expiry.level(self.not_after, now) is not None:
            found.append(f"it {expiry.sentence(self.not_after, now)}")
        if now < self.not_before:
            found.append(f"it is not valid before {self.not_before:%Y-%m-%d %H:%M} UTC (not-yet-valid)")
        if not self.alternative_names:
            found.append("it has no subjectAltName: Go, browsers and requests refuse it as a server, though not as a client")
        usages = self._extension(x509.ExtendedKeyUsage)
        if usages is not None and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usages:
            both = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
            if not both <= set(usages):
                found.append("its extendedKeyUsage names one role only: other TLS stacks refuse it in the other role")
        if not self.self_signed:
            found.append(_ISSUED + ("its key is pinned, not its issuer" if by_key else _ISSUED_AND_PINNED))
        return found

    def _alternative(self, kind: type[x509.DNSName | x509.UniformResourceIdentifier]) -> tuple[str, ...]:
        extension = self._extension(x509.SubjectAlternativeName)
        return () if extension is None else tuple(name.value for name in extension if isinstance(name, kind))

    def _extension(self, kind: type[_Extension]) -> _Extension | None:
        try:
            return self._x509.extensions.get_extension_for_class(kind).value
        except (x509.ExtensionNotFound, ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            return None


def _name_text(certificate: x509.Certificate, which: Literal["subject", "issuer"]) -> str:
    try:
        name = certificate.subject if which == "subject" else certificate.issuer
        parts = [f"{_SHORT.get(a.oid, a.oid.dotted_string)}={printable(str(a.value), 80)}" for a in name]
    except ValueError:
        return "(unreadable)"
    return ", ".join(parts[:20]) or "(empty)"

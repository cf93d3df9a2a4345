"""Certificates made to order, and a plain Python client that presents them."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.seeds.actors import DEADLINE_S, Pair

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Mint:
    """A certificate to make; every field has an ordinary value, a test changes the one that it is about."""

    subject: str = "alice"
    serial: int = 4711
    since: dt.datetime = NOW - DAY
    until: dt.datetime = NOW + DAY
    ca: bool = False
    issuer: Pair | None = None
    key_identifiers: bool = True

    def make(self, place: Path, name: str) -> Pair:
        """Write `name.crt` (followed by its issuer, as a minter would send it) and `name.key`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.subject)])
        issuer, signer, chain = subject, key, b""
        if self.issuer is not None:
            chain = self.issuer.cert.read_bytes()
            issuer = x509.load_pem_x509_certificate(chain).subject
            loaded = serialization.load_pem_private_key(self.issuer.key.read_bytes(), None)
            assert isinstance(loaded, ec.EllipticCurvePrivateKey)
            signer = loaded
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(self.serial)
            .not_valid_before(self.since)
            .not_valid_after(self.until)
            .add_extension(x509.BasicConstraints(ca=self.ca, path_length=None), critical=True)
        )
        if self.key_identifiers:
            own, above = key.public_key(), signer.public_key()
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(own), critical=False)
            builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above), critical=False)
        pem = builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        pair = Pair(place / f"{name}.crt", place / f"{name}.key")
        pair.cert.write_bytes(pem + chain)
        pair.key.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return pair


@dataclass(frozen=True)
class Answer:
    """What came of one call: a body, or the reason why there is none."""

    body: str
    refusal: str = ""
    resumed: bool = False
    session: ssl.SSLSession | None = None


class Caller:
    """A TLS client of the standard library, with one certificate and one context (so that it can resume)."""

    def __init__(self, pair: Pair, server: Path) -> None:
        """Present `pair`; accept the server whose certificate is in the file `server`."""
        self._context = ssl.create_default_context(cafile=server)
        self._context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self._context.load_cert_chain(pair.cert, pair.key)

    def connect(self, port: int, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        """Shake hands; in TLS 1.3 the server has not judged us yet when this returns."""
        plain = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        return self._context.wrap_socket(plain, server_hostname="localhost", session=session)

    def ask(self, port: int, session: ssl.SSLSession | None = None) -> Answer:
        """GET /hello on a connection of its own."""
        try:
            with self.connect(port, session) as secure:
                return converse(secure)
        except ssl.SSLError as error:
            return Answer("", refusal=error.reason or str(error))
        except ConnectionError as error:
            return Answer("", refusal=str(error))


def converse(secure: ssl.SSLSocket, *, close: bool = True) -> Answer:
    """GET /hello on this connection; read to the end of it, or (`close=False`) of the answer."""
    ending = "Connection: close\r\n" if close else ""
    secure.sendall(f"GET /hello HTTP/1.1\r\nHost: localhost\r\n{ending}\r\n".encode())
    with secure.makefile("rb") as stream:
        status = stream.readline()
        length = 0
        while (line := stream.readline()) not in (b"\r\n", b""):
            header, _, value = line.partition(b":")
            if header.lower() == b"content-length":
                length = int(value)
        body = stream.read(length).decode()
    if not status.startswith(b"HTTP/1.1 200 "):
        return Answer("", refusal=status.decode() or "closed without an answer")
    return Answer(body, resumed=bool(secure.session_reused), session=secure.session)

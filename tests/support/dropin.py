"""Nodes, odd certificates and meetings on loopback, for tests of the drop-in `ssl.SSLContext`."""

from __future__ import annotations

import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from peerauth.store.peerdir import PeerDirectory
from peerauth.tls.stdlib import PeerRefused, client_context, peer_of, server_context
from peerauth.trust.certificate import Certificate
from peerauth.trust.decision import Code
from peerauth.trust.identity import Identity, KeyType, new_key, self_signed

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
DEADLINE_S = 20.0  # longer than anything here takes: reached only by a test that has failed


@dataclass(frozen=True)
class Node:
    """One machine: its identity on disk and its peers directory."""

    home: Path
    name: str
    identity: Identity
    directory: PeerDirectory = field(init=False)

    def __post_init__(self) -> None:
        (self.home / "peers").mkdir(parents=True)
        object.__setattr__(self, "directory", PeerDirectory(self.home / "peers"))
        self.cert.write_text(self.identity.certificate.pem)
        self.key.write_bytes(self.identity.key_pem())

    @property
    def cert(self) -> Path:
        return self.home / "self.crt"

    @property
    def key(self) -> Path:
        return self.home / "self.key"

    @property
    def pin(self) -> str:
        return str(self.identity.certificate.fingerprint)

    def knows(self, *others: Node, settings: str = "") -> Node:
        for other in others:
            (self.directory.path / f"{other.name}.crt").write_text(other.identity.certificate.pem)
            if settings:
                (self.directory.path / f"{other.name}.toml").write_text(settings)
        return self

    def forgets(self, other: Node) -> Node:
        (self.directory.path / f"{other.name}.crt").unlink()
        return self

    def certificates(self) -> Iterator[Certificate]:
        for name in self.directory.current.peers:
            yield from self.directory.certificates(name)

    def server(self, **options: Any) -> ssl.SSLContext:  # noqa: ANN401 - those of the factory
        sources = {"peers": self.directory.refresh, "certificates": self.certificates}
        return server_context(self.cert, self.key, **{**sources, **options})

    def client(self, peer: Node | str, **options: Any) -> ssl.SSLContext:  # noqa: ANN401 - as above
        sources = {"peers": self.directory.refresh, "certificates": self.certificates}
        name = peer if isinstance(peer, str) else peer.name
        return client_context(self.cert, self.key, peer=name, **{**sources, **options})


class Nodes:
    """Makes nodes below a directory."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __call__(self, name: str, identity: Identity | None = None) -> Node:
        fresh = identity or self_signed(new_key(KeyType.P256), name, NOW)
        place = self._place / name
        while place.exists():  # two machines may go by the same name
            place = place.with_name(place.name + "-")
        return Node(place, name, fresh)


def mint(
    subject: str,
    *,
    issuer: Identity | None = None,
    ca: bool | None = False,
    usage: x509.KeyUsage | None = None,
    extended: list[x509.ObjectIdentifier] | None = None,
    since: datetime = NOW - DAY,
    until: datetime = NOW + DAY,
) -> Identity:
    """A P-256 certificate of any shape, self-signed unless there is an issuer; `ca` None is no basicConstraints."""
    key = ec.generate_private_key(ec.SECP256R1())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # strangers keep to no limit
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject, _validate=False)])
    above, signer = name, key
    if issuer is not None:
        above = x509.load_der_x509_certificate(issuer.certificate.der).subject
        assert isinstance(issuer.key, ec.EllipticCurvePrivateKey)
        signer = issuer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(above)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    if extended is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    made = builder.sign(signer, hashes.SHA256())
    return Identity(key, Certificate(made.public_bytes(Encoding.DER)))


def version_one(subject: str) -> Identity:
    """A self-signed X.509 v1 certificate: a v3 one without its version and extensions, signed again."""
    plain = mint(subject, ca=None)
    assert isinstance(plain.key, ec.EllipticCurvePrivateKey)
    body, algorithm, _ = _parts(plain.certificate.der)
    body = _sequence([part for part in _parts(body) if part[0] not in {0xA0, 0xA3}])
    signature = plain.key.sign(body, ec.ECDSA(hashes.SHA256()))
    der = _sequence([body, algorithm, _tlv(0x03, b"\0" + signature)])
    assert x509.load_der_x509_certificate(der).version is x509.Version.v1
    return Identity(plain.key, Certificate(der))


def _parts(sequence: bytes) -> list[bytes]:
    """What a DER SEQUENCE holds, each with its header."""
    found, at = [], _header(sequence)
    while at < len(sequence):
        end = at + _header(sequence[at:]) + _length(sequence[at:])
        found.append(sequence[at:end])
        at = end
    return found


def _length(der: bytes) -> int:
    return int.from_bytes(der[2 : 2 + (der[1] & 0x7F)]) if der[1] & 0x80 else der[1]


def _header(der: bytes) -> int:
    return 2 + (der[1] & 0x7F if der[1] & 0x80 else 0)


def _tlv(tag: int, content: bytes) -> bytes:
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    size = (len(content).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(content).to_bytes(size) + content


def _sequence(parts: list[bytes]) -> bytes:
    return _tlv(0x30, b"".join(parts))


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection on loopback: the accepted one and the connecting one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname(), timeout=DEADLINE_S)
        far, _ = listener.accept()
    far.settimeout(DEADLINE_S)
    return far, near


def hear_and_name(tls: ssl.SSLSocket) -> bytes:
    """The server of most meetings: hears the client out and says its name; returns what it heard."""
    heard = tls.recv(100)
    peer = peer_of(tls)
    tls.sendall(peer.name.encode() if peer else b"nobody")
    return heard


def ask(tls: ssl.SSLSocket) -> bytes:
    """The client of most meetings: says something and returns the answer."""
    tls.sendall(b"hello")
    return tls.recv(100)


Outcome = Any  # what one side returned, or the exception that it ended with


def meet(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    serve: Callable[[ssl.SSLSocket], Any] = hear_and_name,
    call: Callable[[ssl.SSLSocket], Any] = ask,
    *,
    session: ssl.SSLSession | None = None,
    on_connect: bool = True,
) -> tuple[Outcome, Outcome]:
    """One connection between two contexts: how it ended for the server and for the client."""
    far, near = tcp_pair()
    outcomes: dict[str, Outcome] = {}

    def run(side: str, wrap: Callable[[], ssl.SSLSocket], behave: Callable[[ssl.SSLSocket], Any]) -> None:
        try:
            with wrap() as tls:
                outcomes[side] = behave(tls)
        except (OSError, ValueError) as error:
            outcomes[side] = error

    def accept() -> ssl.SSLSocket:
        return server.wrap_socket(far, server_side=True, do_handshake_on_connect=on_connect)

    thread = threading.Thread(target=run, args=("server", accept, serve))
    thread.start()
    run("client", lambda: client.wrap_socket(near, server_hostname="example.test", session=session), call)
    thread.join(DEADLINE_S)
    for end in (far, near):
        with suppress(OSError):
            end.close()
    return outcomes["server"], outcomes["client"]


class Bio:
    """Two contexts that talk through memory, step by step, as asyncio and uvloop have them do."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server.wrap_bio(there, back, server_side=True)
        self.client = client.wrap_bio(back, there)

    def shake(self) -> tuple[Outcome, Outcome]:
        """Let both sides shake hands as far as it goes: None or the error for either."""
        ends: dict[ssl.SSLObject, Outcome] = {}
        for _ in range(8):
            for side in (self.client, self.server):
                if side not in ends:
                    with suppress(ssl.SSLWantReadError):
                        try:
                            side.do_handshake()
                            ends[side] = None
                        except ssl.SSLWantReadError:
                            raise
                        except ssl.SSLError as error:
                            ends[side] = error
        return ends.get(self.server), ends.get(self.client)


def admitted(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> bool:
    return meet(server, client) == (b"hello", name.encode())


def refusal(outcome: object, code: Code) -> str:
    """The text of a refusal, after checking that it is one, of this code."""
    assert isinstance(outcome, PeerRefused), outcome
    assert outcome.decision.code is code
    return str(outcome)

"""An invitation's token: a secret and whom it is for, by which a new node becomes known in one step.

Out of the secret comes an Ed25519 key (RFC 8032). The node that invites keeps its public half alone, the verifier: whoever
reads that can tell the right token from others and cannot use it. What the key signs is bound to one TLS channel and to
both certificates, so a proof is worth nothing anywhere else. The format, and why it is so, are in docs/protocol.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from peerauth.address import Address, parse_address
from peerauth.errors import BadInput
from peerauth.trust.fingerprint import Fingerprint

PREFIX = "peerauth1-"
SECRET = 16  # bytes: 128 bits
ID = 8  # bytes
MOST_ADDRESSES = 8
LONGEST = 4096  # characters of a token
_PIN, _MOMENT, _SUM = 32, 5, 4  # bytes
_FIXED = SECRET + _PIN + _MOMENT
_CONTEXT = b"peerauth join 1\0"
_TOKEN = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_OTHER_VERSION = re.compile(r"peerauth[0-9]+-", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """What an invitation hands over. `pin`: of the node that invites; `expires`: aware, to the second."""

    secret: bytes
    pin: Fingerprint
    expires: datetime
    addresses: tuple[Address, ...]

    def __repr__(self) -> str:
        return f"Token({self.id.hex()})"  # the secret stays out of every log

    @property
    def id(self) -> bytes:
        """What the invitation is called; says nothing of the secret."""
        return _derived(self.secret, b"peerauth invitation 1 id", ID)

    @property
    def verifier(self) -> bytes:
        """The public key (RFC 8032 section 5.1.5) that proofs are checked with."""
        return self._key.public_key().public_bytes_raw()

    @property
    def text(self) -> str:
        """The token as it travels: one word without a character that a shell would touch."""
        moment = int(self.expires.timestamp()).to_bytes(_MOMENT, "big")
        body = self.secret + self.pin.digest + moment + " ".join(map(str, self.addresses)).encode("ascii")
        return PREFIX + base64.urlsafe_b64encode(body + _checksum(body)).rstrip(b"=").decode("ascii")

    def prove(self, channel: bytes, joiner: Fingerprint) -> bytes:
        """The proof that who presents the certificate `joiner` on this channel (RFC 9266) has the token."""
        return self._key.sign(statement(channel, joiner, self.pin, self.id))

    @property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(_derived(self.secret, b"peerauth invitation 1 key", 32))


def make_token(secret: bytes, pin: Fingerprint, expires: datetime, addresses: Sequence[Address]) -> Token:
    """The token of a new invitation. Raises BadInput("bad-address") for addresses that it cannot carry."""
    if len(secret) != SECRET:
        raise ValueError("the secret of an invitation has 16 bytes")
    for address in addresses:
        if address.path is not None or not address.host or not address.port:
            raise BadInput("bad-address", f"{address} is nothing that another machine could reach", "say HOST:PORT")
    if not 1 <= len(addresses) <= MOST_ADDRESSES:
        raise BadInput("bad-address", f"an invitation carries 1 to {MOST_ADDRESSES} addresses, not {len(addresses)}")
    return Token(secret, pin, expires.astimezone(UTC).replace(microsecond=0), tuple(addresses))


def read_token(text: str) -> Token:
    """The token that this is. Raises BadInput("bad-token"), and quotes nothing of it: it may be a secret."""
    text = text.strip()
    if not text.startswith(PREFIX):
        if _OTHER_VERSION.match(text):
            raise _bad("it was made by another version of peerauth", "upgrade the older of the two")
        raise _bad(f"it does not begin with {PREFIX}", "it is what `peerauth invite` printed, in one piece")
    encoded = text.removeprefix(PREFIX)
    if len(text) > LONGEST or _TOKEN.fullmatch(encoded) is None:
        raise _damaged()
    try:
        data = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except binascii.Error:
        raise _damaged() from None
    body, checksum = data[:-_SUM], data[-_SUM:]
    if len(body) <= _FIXED or checksum != _checksum(body):
        raise _damaged()
    try:
        expires = datetime.fromtimestamp(int.from_bytes(body[SECRET + _PIN : _FIXED], "big"), UTC)
        addresses = [parse_address(address) for address in body[_FIXED:].decode("ascii").split(" ")]
        token = make_token(body[:SECRET], Fingerprint(body[SECRET : SECRET + _PIN]), expires, addresses)
    except (ValueError, OverflowError, OSError, BadInput) as error:  # its sum is right: nobody's slip of the pen
        raise _bad("what is in it makes no sense", "ask for a new one, there: peerauth invite") from error
    if token.text != text:
        raise _damaged()
    return token


def is_proof(proof: bytes, verifier: bytes, said: bytes) -> bool:
    """Whether `proof` was made with the token that has this verifier, about this `statement`."""
    try:
        Ed25519PublicKey.from_public_bytes(verifier).verify(proof, said)
    except (InvalidSignature, ValueError):
        return False
    return True


def statement(channel: bytes, joiner: Fingerprint, inviter: Fingerprint, id_: bytes) -> bytes:
    """What a proof is about: one channel (32 bytes, RFC 9266), the certificates of both sides, and one invitation."""
    return _CONTEXT + channel + joiner.digest + inviter.digest + id_  # each of a fixed length


def _derived(secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF with SHA-256, without a salt (RFC 5869); one secret, and one `info` for each purpose (section 3.2)."""
    return HKDF(hashes.SHA256(), length, None, info).derive(secret)


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(b"peerauth invitation 1\0" + body).digest()[:_SUM]


def _damaged() -> BadInput:
    return _bad("it was cut off, or a character of it is wrong", "copy it again, in one piece")


def _bad(reason: str, hint: str) -> BadInput:
    return BadInput("bad-token", f"this is not the token of an invitation: {reason}", hint)

"""SPAKE2 as docs/protocol.md describes it, written from that page alone: what our side has to agree with.

Slow, and in no way a secret-keeping implementation.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
M = bytes.fromhex("15cfd18e385952982b6a8f8c7854963b58e34388c8e6dae891db756481a02312")
N = bytes.fromhex("f04f2e7eb734b2a8f8b472eaf9c3c632576ac64aea650b496a8a20ff00e583c3")
Point = tuple[int, int]
IDENTITY: Point = (0, 1)


def add(one: Point, other: Point) -> Point:
    """RFC 8032 section 5.1.4, in affine coordinates."""
    (x1, y1), (x2, y2) = one, other
    k = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def times(number: int, point: Point) -> Point:
    """A point so many times."""
    total = IDENTITY
    for bit in f"{number % (8 * L):b}":
        total = add(total, total)
        if bit == "1":
            total = add(total, point)
    return total


def encode(point: Point) -> bytes:
    """RFC 8032 section 5.1.2."""
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def decode(data: bytes) -> Point:
    """RFC 8032 section 5.1.3."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert not (x * x - square) % P, "no point of the curve"
    return (P - x if x & 1 != sign else x), y


BASE = decode((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def scalar(code: str) -> int:
    """The code as w."""
    return int.from_bytes(HKDF(SHA256(), 48, b"", b"SPAKE2 pw").derive(code.encode()), "big") % L


class Other:
    """The other side of an exchange, initiator or server, with the random number `own`."""

    def __init__(self, side: str, code: str, own: int) -> None:
        self.side, self.code, self.own, self.w = side, code, own, scalar(code)
        self.blind, self.unblind = (M, N) if side == "initiator" else (N, M)
        self.point = encode(add(times(own, BASE), times(self.w, decode(self.blind))))
        self.element = (b"A" if side == "initiator" else b"B") + self.point

    def keys(self, element: bytes, a: bytes, b: bytes, channel: bytes) -> tuple[bytes, bytes]:
        """The initiator's and the server's key; `a` and `b` are their fingerprints."""
        theirs = element[1:]
        shared = times(self.own, add(decode(theirs), times(-self.w, decode(self.unblind))))
        x, y = (self.point, theirs) if self.side == "initiator" else (theirs, self.point)
        parts = [hashlib.sha256(part).digest() for part in (self.code.encode(), a, b)]
        secret = hashlib.sha256(b"".join([*parts, x, y, encode(shared)])).digest()
        keys = HKDF(SHA256(), 64, channel, b"peerauth/1 pairing\0" + a + b).derive(secret)
        return keys[:32], keys[32:]


def proof(key: bytes, side: str, name: str) -> bytes:
    """What this side says last."""
    return hmac.digest(key, f"{side} {name}".encode(), "sha256")

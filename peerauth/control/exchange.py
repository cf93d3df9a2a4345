"""The proof that both sides know the code of pairing, bound to their certificates and to the connection between them.

SPAKE2 makes of a short code a long key, and gives whoever does not know the code one guess in each exchange. Three things
are proven at once: the code, both certificates (as the identities in SPAKE2), and that both ends are ends of the same TLS
connection (by its exporter). Somebody in the middle would have to guess the code, once. The format is in docs/protocol.md.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Literal

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from peerauth.errors import TrustRefused
from peerauth.trust.fingerprint import Fingerprint

if TYPE_CHECKING:
    from spake2.spake2 import _SPAKE2_Asymmetric  # type: ignore[import-untyped]

Side = Literal["initiator", "server"]
LENGTH = 33  # bytes of an element: the side's letter, and a point of Ed25519
_LETTER = {"initiator": b"A", "server": b"B"}
_INFO = b"peerauth/1 pairing\0"


class Exchange:
    """One side's part in one exchange: its element, then the other's, then the proofs.

    `code` in its one form; the fingerprints of both certificates as they were presented; the connection's channel binding.
    """

    def __init__(self, side: Side, code: str, initiator: Fingerprint, server: Fingerprint, channel: bytes) -> None:
        from spake2 import SPAKE2_A, SPAKE2_B  # type: ignore[import-untyped]  # noqa: PLC0415 - costs 40 ms, and most who serve never pair

        self.side: Side = side
        self._context = channel, _INFO + initiator.digest + server.digest
        kind = SPAKE2_A if side == "initiator" else SPAKE2_B
        self._spake: _SPAKE2_Asymmetric = kind(code.encode(), idA=initiator.digest, idB=server.digest)
        self.element: bytes = self._spake.start()
        self._keys: dict[Side, bytes] | None = None

    def hear(self, element: bytes) -> None:
        """Take the other side's element. Raises TrustRefused("wrong-code") for one that no honest side sends."""
        if len(element) != LENGTH or element[:1] == _LETTER[self.side]:
            raise wrong_code()
        try:
            secret = self._spake.finish(element)
        except Exception as error:  # of kinds without a common ancestor, for points that are none
            raise wrong_code() from error
        salt, info = self._context
        keys = HKDF(SHA256(), 64, salt, info).derive(secret)
        self._keys = {"initiator": keys[:32], "server": keys[32:]}

    def prove(self, name: str) -> bytes:
        """Our proof, with the name that goes with it. For the server: only when the initiator's was good."""
        return self._proof(self.side, name)

    def check(self, proof: bytes, name: str) -> None:
        """Whether the other side has proven to know the code. Raises TrustRefused("wrong-code")."""
        other: Side = "server" if self.side == "initiator" else "initiator"
        if not hmac.compare_digest(self._proof(other, name), proof):
            raise wrong_code()

    def _proof(self, side: Side, name: str) -> bytes:
        assert self._keys is not None
        return hmac.digest(self._keys[side], f"{side} {name}".encode(), hashlib.sha256)


def wrong_code() -> TrustRefused:
    """The two sides do not have the same code, or not the same connection."""
    text = "the two sides do not have the same code, or somebody stands in between; this guess is used up"
    return TrustRefused("wrong-code", text)

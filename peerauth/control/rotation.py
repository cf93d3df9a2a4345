"""The messages by which a certificate's successor is made known. The statements in them: `trust/continuity.py`."""

from __future__ import annotations

from dataclasses import dataclass

from peerauth.control.wire import Message, message
from peerauth.trust.fingerprint import Fingerprint


@message("rotate")
@dataclass(frozen=True, slots=True)
class Rotate(Message):
    """Brings statements, the oldest first, each about the certificate that the one before it calls new."""

    statements: tuple[bytes, ...]


@message("rotated")
@dataclass(frozen=True, slots=True)
class Rotated(Message):
    """What has come of it: `accepted` (also when it was known already), `asked` (a person will be), or `refused`."""

    outcome: str


@message("history")
@dataclass(frozen=True, slots=True)
class History(Message):
    """The question: what has become of the certificate of yours that I know."""

    known: Fingerprint


@message("statements")
@dataclass(frozen=True, slots=True)
class Statements(Message):
    """The answer: statements that lead from it to the present one and beyond, the oldest first; perhaps none."""

    statements: tuple[bytes, ...] = ()

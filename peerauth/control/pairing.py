"""The messages of pairing. The exchange that they carry: `control/exchange.py`."""

from __future__ import annotations

from dataclasses import dataclass

from peerauth.control.wire import Message, message


@message("pair")
@dataclass(frozen=True, slots=True)
class Pair(Message):
    """The initiator's element of SPAKE2: it wants to pair, and means to know the code."""

    element: bytes


@message("pairing")
@dataclass(frozen=True, slots=True)
class Element(Message):
    """The server's element of SPAKE2; nothing about the code can be learned from it."""

    element: bytes


@message("proof")
@dataclass(frozen=True, slots=True)
class Proof(Message):
    """That its sender knows the code, and the name that it proposes for itself. The initiator's comes first."""

    proof: bytes
    name: str


@message("pinned")
@dataclass(frozen=True, slots=True)
class Pinned(Message):
    """The initiator has pinned the server, which had pinned it before it gave its own proof."""


@message("paired")
@dataclass(frozen=True, slots=True)
class Paired(Message):
    """The server has heard that both have pinned each other."""

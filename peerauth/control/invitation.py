"""The messages by which whoever has an invitation's token becomes known. What the proof is: `trust/invitation.py`."""

from __future__ import annotations

from dataclasses import dataclass

from peerauth.control.wire import Message, message


@message("join")
@dataclass(frozen=True, slots=True)
class Join(Message):
    """Brings the proof of an invitation. `name`: what the joiner would be called; `address`: where it can be reached."""

    id: bytes
    proof: bytes
    name: str
    address: str | None = None


@message("joined")
@dataclass(frozen=True, slots=True)
class Joined(Message):
    """The answer: as which peer the joiner is known, what this node calls itself, and whether that was so before."""

    name: str
    node: str
    already: bool

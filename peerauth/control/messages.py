"""The messages of peerauth/1, as values. What they are for and who may say what when: docs/protocol.md."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from peerauth.control.wire import Message, message
from peerauth.trust.fingerprint import Fingerprint


@message("no")
@dataclass(frozen=True, slots=True)
class No(Message):
    """The answer to anything: it is not done, and why. `code` is stable; `reason` is a sentence in English."""

    code: str
    reason: str


@message("check")
@dataclass(frozen=True, slots=True)
class Check(Message):
    """The question: what am I to you."""


@message("checked")
@dataclass(frozen=True, slots=True)
class Checked(Message):
    """The answer: which certificate was presented, and what came of it.

    An admitted peer hears its name, what it may use, and the time by the server's clock; `code` is missing. Anybody else
    hears the code of the refusal and a sentence about it, and nothing of the server.
    """

    presented: Fingerprint
    code: str | None = None
    reason: str | None = None
    name: str | None = None
    services: tuple[str, ...] = ()
    time: datetime | None = None

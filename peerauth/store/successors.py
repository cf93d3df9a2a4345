"""Certificates that peers have put forward as their next, where a person is to say whether they are admitted.

They wait in `state/successors.json`, one for each peer, which admits nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from peerauth.store.state import State
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.succession import Question

_FILE = "successors"


def ask_person(state: State, question: Question, address: str) -> bool:
    """Note a question for a person; whether it is the first successor of this peer, or the one that waits already."""
    mine = {
        "fingerprint": question.certificate.fingerprint.digest.hex(),
        "certificate": question.certificate.pem,
        "old": question.old.pem,
        "retire": question.retire.isoformat(),
        "address": address,
    }
    known = _waits(state.read(_FILE), question.peer)
    if known is None:
        with state.changing(_FILE) as waiting:
            known = _waits(waiting, question.peer)
            if known is None:
                waiting[question.peer] = mine
    return known in (None, mine["fingerprint"])


def forget_questions(state: State, peer: str, certificates: Iterable[Fingerprint]) -> None:
    """These certificates of a peer were withdrawn, or their key is in other hands: nobody is to be asked about them."""
    gone = {fingerprint.digest.hex() for fingerprint in certificates}
    if _waits(state.read(_FILE), peer) in gone:
        with state.changing(_FILE) as waiting:
            if _waits(waiting, peer) in gone:
                del waiting[peer]


def _waits(waiting: dict[str, Any], peer: str) -> str | None:
    """The fingerprint that waits for this peer."""
    entry = waiting.get(peer)
    found = entry.get("fingerprint") if isinstance(entry, dict) else None
    return found if isinstance(found, str) else None

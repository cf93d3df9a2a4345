"""Certificates that peers have put forward as their next, where a person is to say whether they are admitted.

They wait in `state/successors.json`, one for each peer, which admits nobody.
"""

from __future__ import annotations

from collections.abc import Iterable

from peerauth.store.state import State
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.succession import Question

_FILE = "successors"


def ask_person(state: State, question: Question, address: str) -> bool:
    """Note a question for a person; whether it is the first successor of this peer, or the one that waits already."""
    mine = {
        "fingerprint": question.certificate.fingerprint.digest.hex(),
        "certificate": question.certificate.pem,
        "retire": question.retire.isoformat(),
        "address": address,
    }
    with state.changing(_FILE) as waiting:
        other = waiting.get(question.peer)
        if isinstance(other, dict) and other.get("fingerprint") not in (None, mine["fingerprint"]):
            return False
        waiting[question.peer] = mine
    return True


def forget_questions(state: State, peer: str, certificates: Iterable[Fingerprint]) -> None:
    """These certificates of a peer were withdrawn, or their key is in other hands: nobody is to be asked about them."""
    gone = {fingerprint.digest.hex() for fingerprint in certificates}
    waits = state.read(_FILE).get(peer)
    if not isinstance(waits, dict) or waits.get("fingerprint") not in gone:
        return
    with state.changing(_FILE) as waiting:
        if waiting.get(peer) == waits:
            del waiting[peer]

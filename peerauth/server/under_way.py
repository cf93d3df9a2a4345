"""A peer that asks what has become of our certificate has heard of the rotation under way: that is noted."""

from __future__ import annotations

from datetime import UTC, datetime

from peerauth.server.desk import Visit
from peerauth.store.succession import note, read_succession
from peerauth.trust.decision import Admitted
from peerauth.trust.errands import Outcome, Reply
from peerauth.trust.fingerprint import Fingerprint


def note_asker(visit: Visit, known: Fingerprint) -> None:
    """Note what a peer of ours, who goes by the certificate `known`, has heard now; not for a loop's thread.

    Who asks about the old certificate has heard, and is not taken to have accepted; who knows the next one already has.
    """
    office, decision = visit.office, visit.decide()
    if not isinstance(decision, Admitted):
        return
    for errand in read_succession(office.home).errands:
        if known not in (errand.statement.old.fingerprint, errand.statement.new.fingerprint):
            continue
        if not errand.is_for(decision.peer):
            continue
        accepted = errand.only is None and known == errand.statement.new.fingerprint
        outcome = Outcome.ACCEPTED if accepted else Outcome.HEARD
        reply = Reply(outcome, datetime.now(UTC).replace(microsecond=0), visit.fingerprint)
        if errand.noted({decision.peer.name: reply}) != errand:
            note(office.home, {errand.statement.data: {decision.peer.name: reply}}, office.peers.current)

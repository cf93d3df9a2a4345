"""A peer that asks what has become of our certificate has heard of the rotation under way: that is noted."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from peerauth.errors import PeerAuthError
from peerauth.server.desk import Visit
from peerauth.store.config import Config
from peerauth.store.succession import note, read_succession
from peerauth.trust.decision import Admitted
from peerauth.trust.errands import Outcome, Reply
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import Peer, PeerSet


def note_asker(visit: Visit, known: Fingerprint) -> None:
    """Note what a peer of ours, who goes by the certificate `known`, has heard now; not for a loop's thread.

    Who asks about the old certificate has heard, and is not taken to have accepted; who knows the next one already has.
    """
    office, decision = visit.office, visit.decide()
    if not isinstance(decision, Admitted):
        return
    with contextlib.suppress(PeerAuthError):  # what is told does not depend on it
        _note(office.home, office.peers.current, decision.peer, known, visit.fingerprint)


def _note(config: Config, peers: PeerSet, peer: Peer, known: Fingerprint, presented: Fingerprint) -> None:
    for errand in read_succession(config).errands:
        old, new = errand.statement.old.fingerprint, errand.statement.new.fingerprint
        if known not in (old, new) or not errand.is_for(peer):
            continue
        outcome = Outcome.ACCEPTED if known == new and errand.only is None else Outcome.HEARD
        reply = Reply(outcome, datetime.now(UTC).replace(microsecond=0), presented)
        if errand.noted({peer.name: reply}) != errand:
            note(config, {errand.statement.data: {peer.name: reply}}, peers)

"""What a peer that asks for our history is told of a rotation that is not public yet, and that it has heard so."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from peerauth.server.desk import Visit
from peerauth.store.succession import note, read_succession
from peerauth.trust.decision import Admitted
from peerauth.trust.errands import Outcome, Reply
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import Peer


async def statements_under_way(visit: Visit, known: Fingerprint) -> tuple[bytes, ...]:
    """The statements under way that concern a peer of ours who goes by the certificate `known`; none for anybody else.

    Who asks has heard it, and is not taken to have accepted; who goes by the next certificate already has. Raises
    BadInput("not-offered") without a home.
    """
    decision = visit.decide()
    if not isinstance(decision, Admitted):
        return ()
    return await asyncio.to_thread(_answer, visit, decision.peer, known)


def _answer(visit: Visit, peer: Peer, known: Fingerprint) -> tuple[bytes, ...]:
    office = visit.office
    said: list[bytes] = []
    replies: dict[bytes, dict[str, Reply | None]] = {}
    for errand in read_succession(office.home).for_history(peer):
        old, new = errand.statement.old.fingerprint, errand.statement.new.fingerprint
        if known not in (old, new):
            continue
        outcome = Outcome.ACCEPTED if known == new and errand.only is None else Outcome.HEARD
        reply = Reply(outcome, datetime.now(UTC).replace(microsecond=0), visit.fingerprint)
        if errand.reply(peer) is None or errand.noted({peer.name: reply}) != errand:
            replies[errand.statement.data] = {peer.name: reply}
        if known == old or errand.only is not None:
            said.append(errand.statement.data)
    if replies:
        note(office.home, replies, office.peers.current)
    return tuple(said)

"""Telling peers of our next certificate: each over a connection of its own, to exactly its pins, in bounded time and number.

What is about to be said is written down before it is (store/succession.py), and what came of it after: whoever is killed in
between leaves "it may have heard" behind, and nobody is believed to have accepted what they did not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from peerauth.address import DEFAULT_PORT, parse_address
from peerauth.client.control import conversation
from peerauth.control.line import Declined
from peerauth.control.rotation import Rotate, Rotated
from peerauth.errors import PeerAuthError
from peerauth.store.own import Own
from peerauth.store.succession import note
from peerauth.tls.session import NotAdmitted
from peerauth.trust.decision import decide
from peerauth.trust.errands import ANSWERS, Errand, Outcome, Reply, Succession
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.identity import Identity
from peerauth.trust.peers import Peer, PeerSet

SECONDS = 10.0  # for telling one peer one thing
AT_ONCE = 32
PORTION = 256  # peers between two notes on the disk

Heard = Callable[[Peer, list[Errand], Reply], None]


async def tell(own: Identity, peer: Peer, peers: PeerSet, errands: list[Errand]) -> Reply:
    """Tell this peer, at its noted address, and what it says; it is believed only with one of its pins."""

    def reply(outcome: Outcome, code: str | None = None, pin: Fingerprint | None = None) -> Reply:
        return Reply(outcome, datetime.now(UTC).replace(microsecond=0), pin, code)

    pin: Fingerprint | None = None
    try:
        where = parse_address(peer.address or "", default_port=DEFAULT_PORT)
        only = peers.only(peer.name)
        async with conversation(own, where, lambda der: decide(der, only, now=datetime.now(UTC)), timeout=SECONDS) as line:
            pin = Fingerprint.of(line.session.certificate or b"")
            await line.send(Rotate(tuple(errand.statement.data for errand in errands)))
            outcome = (await line.receive(Rotated)).outcome
    except NotAdmitted as error:
        return reply(Outcome.UNREACHABLE, f"presents-{error.refused.code}")
    except Declined as no:
        return reply(Outcome.REFUSED, no.code, pin)
    except PeerAuthError as error:
        return reply(Outcome.UNANSWERED if pin else Outcome.UNREACHABLE, error.code, pin)
    if outcome not in ANSWERS:
        return reply(Outcome.UNANSWERED, "protocol", pin)
    return reply(Outcome(outcome), None, pin)


async def tell_all(own: Own, peers: PeerSet, succession: Succession, whom: Iterable[Peer], heard: Heard) -> Succession:
    """Tell these peers what is outstanding for each, some at a time; how it stands then. `heard` is told of each reply."""
    waiting, config, identity = list(whom), own.config, own.identity
    room = asyncio.Semaphore(AT_ONCE)

    async def one(peer: Peer, errands: list[Errand]) -> Reply:
        async with room:
            return await tell(identity, peer, peers, errands)

    for at in range(0, len(waiting), PORTION):
        some = [(peer, succession.outstanding(peer)) for peer in waiting[at : at + PORTION]]
        # From here on they may have heard it, whatever is noted about an earlier try.
        await asyncio.to_thread(note, config, _by_statement((peer, errands, None) for peer, errands in some), peers)
        answers = await asyncio.gather(*(one(peer, errands) for peer, errands in some))
        replies = [(*told, reply) for told, reply in zip(some, answers, strict=True)]
        for peer, errands, reply in replies:
            heard(peer, errands, reply)
        succession = await asyncio.to_thread(note, config, _by_statement(replies), peers)
    return succession


def _by_statement(told: Iterable[tuple[Peer, list[Errand], Reply | None]]) -> dict[bytes, dict[str, Reply | None]]:
    found: dict[bytes, dict[str, Reply | None]] = {}
    for peer, errands, reply in told:
        for errand in errands:
            found.setdefault(errand.statement.data, {})[peer.name] = reply
    return found

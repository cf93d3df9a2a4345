"""Being paired with: the server's side of it, while `peerauth pair` waits, in whichever process of this node.

A guess is counted before anything is computed for it. The initiator proves first: nobody can test a second code against what
we say. It is pinned when its proof is good, and only then do we prove that we know the code.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from peerauth.audit import Event
from peerauth.control.exchange import Exchange
from peerauth.control.pairing import Element, Pair, Paired, Pinned, Proof
from peerauth.errors import PeerAuthError
from peerauth.server.desk import SERVICE, Visit
from peerauth.store.pairing import Pairing, Turn
from peerauth.trust.certificate import Certificate
from peerauth.trust.pairing import Guess, Stage
from peerauth.trust.peers import PeerSettings, check_name


async def pair(visit: Visit, request: Pair) -> Paired:
    """Let the visitor guess at the code, once, and pin it when it knows it. Raises TrustRefused or BadInput."""
    certificate = Certificate(visit.certificate)
    guess = Guess(visit.shown, visit.fingerprint, time.time())
    turn = await asyncio.to_thread(Pairing(visit.office.home.path.parent).begin, guess)
    try:
        exchange = await asyncio.to_thread(_exchange, visit, turn.window.code, request.element)
        await visit.line.send(Element(exchange.element))
        proof = await visit.line.receive(Proof)
        exchange.check(proof.proof, proof.name)
        await asyncio.to_thread(turn.advance, Stage.PROVEN)
    except BaseException:  # cancelled, too: whatever it was, the guess is used up
        _report(visit)
        await _note(turn, Stage.WRONG)
        raise
    name = await _pin(visit, turn, certificate, proof.name)
    said = Stage.UNHEARD
    try:
        own = turn.window.own
        await visit.line.send(Proof(exchange.prove(own), own))
        await visit.line.receive(Pinned)
        said = Stage.PAIRED
    finally:
        await _note(turn, said, name)
    return Paired()


def _exchange(visit: Visit, code: str, element: bytes) -> Exchange:
    """Some 20 ms of computing."""
    exchange = Exchange("server", code, visit.fingerprint, visit.own, visit.channel)
    exchange.hear(element)
    return exchange


async def _pin(visit: Visit, turn: Turn, certificate: Certificate, proposed: str) -> str:
    """Pin the visitor under the name that a person of this node gave, or the one that it proposes."""
    given, tags = turn.window.name, turn.window.tags
    try:
        wanted = given or check_name(proposed)
        settings = PeerSettings(tags=tags) if tags else None
        name = await visit.office.enrol(wanted, certificate, settings, given=given is not None)
    except PeerAuthError as error:
        await _note(turn, Stage.REFUSED, reason=error.message)
        raise
    await _note(turn, Stage.PINNED, name)
    return name


async def _note(turn: Turn, stage: Stage, name: str = "", reason: str = "") -> None:
    """Tell `peerauth pair`, unless it is gone: what was done stays done. Noted also for who is cancelled meanwhile."""
    with contextlib.suppress(PeerAuthError):
        await asyncio.shield(asyncio.to_thread(turn.advance, stage, name, reason))


def _report(visit: Visit) -> None:
    text = f"a guess at the code of pairing was wrong, from {visit.shown}, who presents {visit.fingerprint}"
    event = Event("refused", text, None, SERVICE, visit.shown, fingerprint=str(visit.fingerprint), code="wrong-code")
    visit.office.audit.refused(event)

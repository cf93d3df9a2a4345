"""Rotation by continuity, as those hear of it who have the certificate pinned: `rotate`, and `history` of our own."""

from __future__ import annotations

import asyncio

from peerauth.audit import Event
from peerauth.control.rotation import History, Rotate, Rotated, Statements
from peerauth.control.wire import LONGEST
from peerauth.errors import PeerAuthError
from peerauth.server.desk import SERVICE, Visit
from peerauth.server.under_way import note_asker
from peerauth.store.config import Config
from peerauth.store.following import follow
from peerauth.store.rotations import MOST, own_statements
from peerauth.trust.continuity import Kind
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.succession import Bearer, Outcome, Step, Verdict, leading_from

_ROOM = (LONGEST - 256) * 3 // 4 - MOST * 4  # bytes of statements in one message


async def rotate(visit: Visit, request: Rotate) -> Rotated:
    """Do what statements about a peer's certificate say, where they are good and the peer's settings allow it."""
    visit.hears_the_end = True
    office, bearer = visit.office, Bearer(visit.certificate, remote=visit.remote)
    try:
        verdict = await asyncio.to_thread(follow, office.peers, request.statements, bearer, office.config, visit.shown)
    except PeerAuthError as error:
        if error.code == "bad-statement":
            raise
        raise _failed(visit, "a new certificate could not be noted", error) from error
    _report(visit, verdict)
    return Rotated(str(verdict.outcome))


async def history(visit: Visit, request: History) -> Statements:
    """What has become of a certificate of ours: told to anybody, because it is no secret."""
    config = visit.office.config
    if config is None:
        return Statements()
    try:
        return Statements(await asyncio.to_thread(_history, visit, config, request.known))
    except PeerAuthError as error:
        raise _failed(visit, "what became of this node's certificate could not be told", error) from error


def _history(visit: Visit, config: Config, known: Fingerprint) -> tuple[bytes, ...]:
    note_asker(visit, known)
    found = tuple(one.data for one in leading_from(own_statements(config), known))
    return found if sum(len(data) for data in found) <= _ROOM else ()


def _failed(visit: Visit, what: str, error: PeerAuthError) -> PeerAuthError:
    """What is wrong on this side is in our log, and not the visitor's business."""
    text = f"{what}: {error.message}"
    visit.office.audit.refused(Event("problem", text, error.hint, SERVICE, visit.shown, code="rotation-failed"))
    return PeerAuthError("failed", "something went wrong here, and is in the log")


def _report(visit: Visit, verdict: Verdict) -> None:
    audit, shown = visit.office.audit, visit.shown
    for step in verdict.steps:
        audit.report(_event(step, shown))
    if verdict.question is not None:
        name, pin = verdict.question.peer, verdict.question.certificate.fingerprint
        text = f"{name} says that its next certificate is {pin}; nobody is admitted with it until a person says so"
        audit.refused(
            Event("rotated", text, "ask its owner: peerauth id --fingerprint", SERVICE, shown, name, str(pin), "asked")
        )
    elif verdict.conflict:
        text = f"of {verdict.peer}: {verdict.reason}; somebody else may have its key. {shown} said so, and was refused"
        audit.refused(
            Event("problem", text, _CONFLICT, SERVICE, shown, verdict.peer, str(visit.fingerprint), "two-successors")
        )
    elif verdict.outcome is Outcome.REFUSED:
        text = f"{shown} told of a new certificate in vain: {verdict.reason}"
        audit.refused(Event("refused", text, None, SERVICE, shown, verdict.peer, str(visit.fingerprint), "rotation-refused"))


_CONFLICT = "ask its owner, another way than this, which certificate is its next: peerauth id --fingerprint"


def _event(step: Step, shown: str) -> Event:
    """Something that was done, in words."""
    name, pin = step.peer, str(step.new.fingerprint)
    match step.kind:
        case Kind.NEXT:
            text = f"{name} has a new certificate; the old one is refused from {step.retire:%Y-%m-%d %H:%M} UTC on"
            return Event("rotated", text, None, SERVICE, shown, name, pin)
        case Kind.WITHDRAWN:
            text = f"{name} keeps its certificate: the next one was withdrawn"
            return Event("rotated", text, None, SERVICE, shown, name, pin, "withdrawn")
        case Kind.COMPROMISED:
            text = f"{name} says that its key is in other hands: what was pinned on the word of that key is pinned no more"
            return Event("problem", text, None, SERVICE, shown, name, str(step.old.fingerprint), "compromised")

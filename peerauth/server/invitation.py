"""`join`: whoever proves that it has the token of an invitation is pinned; each use is counted before that.

Strangers without one learn nothing: every wrong proof gets the same answer for the same work, whether or not there is such
an invitation, and a source may be wrong so often only. What is over is said to whoever has the right proof.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from peerauth.address import parse_address
from peerauth.audit import Event
from peerauth.control.invitation import Join, Joined
from peerauth.errors import BadInput, PeerAuthError
from peerauth.net.reach import leads_to
from peerauth.server.desk import SERVICE, Office, Visit
from peerauth.server.removals import removed_at
from peerauth.store.config import reserved_names
from peerauth.store.invitations import Invitation, Invitations
from peerauth.store.peerdir import PeerDirectory
from peerauth.trust.certificate import Certificate
from peerauth.trust.decision import Admitted, Code, Refused, decide
from peerauth.trust.invitation import is_proof, statement
from peerauth.trust.peers import Peer, PeerSet, PeerSettings, check_name

_ITS_OWN = {"invitation", "bad-name", "bad-address", "name-reserved", "name-taken", *Code}  # what a joiner can do about
FOLLOWED = 0.25  # seconds in which every worker has seen a change of the list (promise 2)
_NOBODYS = Ed25519PrivateKey.generate().public_key().public_bytes_raw()  # checked with where there is no invitation


@dataclass(frozen=True)
class Joiner:
    """Who would join, and as what."""

    certificate: Certificate
    name: str
    address: str | None  # where it has been seen to be
    claims: str | None = None  # where it says that it is
    reserved: frozenset[str] = frozenset()
    was_pinned: bool = False  # just now: if it is not any more, it was removed


async def join(visit: Visit, request: Join) -> Joined:
    """Pin the visitor, if it has proven an invitation that is good."""
    office = visit.office
    book = Invitations(office.state)
    decision = visit.decide()
    holder = decision.peer if isinstance(decision, Admitted) else None
    guesses = office.guesses.of(visit.source)
    if not guesses.take():
        raise BadInput("too-many-attempts", "too many wrong attempts came from this address", "try again in a minute")
    async with office.turn:
        right = await asyncio.to_thread(_proven, book, visit, request)
        if right or holder is not None:
            guesses.give_back()
        if not right and holder is not None:  # it has nothing to gain, and may be asking again, long after
            return Joined(holder.name, office.home.name, already=True)
    try:
        joiner = await asyncio.to_thread(_acceptable, visit, request, right=right)  # a resolver may take its time
        async with office.turn:
            name, already = await asyncio.to_thread(welcome, book, office.peers, request.id, joiner, datetime.now(UTC))
    except PeerAuthError as error:
        raise _reported(visit, error) from error
    if not already:
        _tell(visit, name, request.id)
        await asyncio.sleep(FOLLOWED)  # whoever hears that it has joined may come to any worker at once
    return Joined(name, office.home.name, already)


def _proven(book: Invitations, visit: Visit, request: Join) -> bool:
    verifier = book.verifier(request.id)
    said = statement(visit.channel, visit.fingerprint, visit.own, request.id)
    return is_proof(request.proof, verifier or _NOBODYS, said) and verifier is not None


def _acceptable(visit: Visit, request: Join, *, right: bool) -> Joiner:
    """The joiner, if its proof is right, it could be admitted at all, and it asks for what can be. Raises BadInput."""
    if not right:
        raise BadInput("invitation", "there is no such invitation, or this is no proof of it")
    known = visit.decide()
    if isinstance(known, Refused) and known.peer is not None:
        raise BadInput(str(known.code), f"this certificate is pinned already, and not admitted: {known.reason}")
    certificate = Certificate(visit.certificate)
    alone = PeerSet.of([Peer("joiner", (certificate.fingerprint,))])
    decision = decide(visit.certificate, alone, remote=visit.remote, now=datetime.now(UTC))
    if isinstance(decision, Refused):
        raise BadInput(str(decision.code), f"this certificate is admitted nowhere: {decision.reason}")
    address = claims = None
    if request.address is not None:
        parsed = parse_address(request.address)
        if parsed.path is not None or not parsed.host or not parsed.port:
            raise BadInput("bad-address", "the joiner's address is nothing that another machine could reach")
        if leads_to(parsed, visit.remote):
            address = str(parsed)
        else:
            claims = str(parsed)
    office: Office = visit.office
    reserved = reserved_names(office.home, office.policies)
    was_pinned = office.removals.noted.known(certificate) is not None
    return Joiner(certificate, check_name(request.name), address, claims, reserved, was_pinned)


def welcome(book: Invitations, peers: PeerDirectory, id_: bytes, joiner: Joiner, now: datetime) -> tuple[str, bool]:
    """Count the use, pin, and note that it is done; the name, and whether it had that before. Raises BadInput.

    Killed at any point, no use is lost or had twice, and whoever was counted can finish (docs/protocol.md).
    """
    who = joiner.certificate.fingerprint
    with book.in_turn():
        holder = peers.refresh().known(joiner.certificate)
        if holder is not None:
            book.settle(id_, who, holder.name)
            return holder.name, True
        if joiner.was_pinned:
            book.forget([who], removed_at(peers.path))
        invitation = book.count(id_, who, now)
        try:
            name = _pin(peers, invitation, joiner, now)
        except BadInput:
            book.give_back(id_, who)
            raise
        book.settle(id_, who, name)
    return name, False


def _pin(peers: PeerDirectory, invitation: Invitation, joiner: Joiner, now: datetime) -> str:
    # Whoever types an address means whoever is noted there: nobody is noted where they were not seen (promise 9).
    where = f"; says that it is at {joiner.claims}, and came from elsewhere" if joiner.claims else ""
    note = f"invited: {invitation.id.hex()}, {now:%Y-%m-%d}{where}"
    settings = PeerSettings(note=note, tags=invitation.tags, address=joiner.address)
    if invitation.name is None:
        return peers.enrol(joiner.name, joiner.certificate, settings, joiner.reserved)
    try:
        peers.add(invitation.name, [joiner.certificate], settings)  # a person gave this name, and no other
    except BadInput as error:
        if error.code == "name-taken":
            raise BadInput("name-taken", f"the invitation is for {invitation.name}, and somebody has that name") from error
        raise
    return invitation.name


def _tell(visit: Visit, name: str, id_: bytes) -> None:
    visit.office.audit.report(
        Event(
            "enrolled",
            f"{name} from {visit.shown}, by the invitation {id_.hex()}",
            service=SERVICE,
            address=visit.shown,
            peer=name,
            fingerprint=str(visit.fingerprint),
        )
    )


def _reported(visit: Visit, error: PeerAuthError) -> PeerAuthError:
    """Say in the log why nobody has joined; what the joiner is told of it: nothing of our own troubles and files."""
    if error.code not in _ITS_OWN:
        text = f"{visit.shown} has proven an invitation and could not be pinned: {error.message}"
        visit.office.audit.refused(Event("problem", text, error.hint, SERVICE, visit.shown, code="not-pinned"))
        return PeerAuthError("failed", "something went wrong here, and is in the log")
    visit.office.audit.refused(
        Event(
            "refused",
            f"a stranger who would join, and presents {visit.fingerprint}: {error.message}, from {visit.shown}",
            service=SERVICE,
            address=visit.shown,
            fingerprint=str(visit.fingerprint),
            code="invitation",
        )
    )
    return error

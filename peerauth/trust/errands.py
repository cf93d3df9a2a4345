"""Where a change of this node's identity stands: what is to be told, who has answered what, and what comes next. Pure.

An errand is one statement with what became of it. A rotation under way is the last errand; before it there may be others
with somebody who still has to hear of them: of an earlier rotation, or that one was withdrawn.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from peerauth.errors import BadInput, PeerAuthError, printable
from peerauth.trust.continuity import Kind, Statement, read_statement
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import Peer, PeerSet

MOST_ERRANDS = 8  # what has not been heard for that many changes is not said any more


class Outcome(StrEnum):
    """What has become of telling a peer."""

    ACCEPTED = "accepted"
    ASKED = "asked"  # a person there is asked
    REFUSED = "refused"
    HEARD = "heard"  # it has asked us, and has the statement; what it made of it is not known
    UNANSWERED = "unanswered"  # it was said, and no answer came
    UNREACHABLE = "unreachable"  # it was not said


ANSWERS = frozenset({Outcome.ACCEPTED, Outcome.ASKED, Outcome.REFUSED})  # what a peer itself can say
_REMEMBERED = timedelta(days=30)  # that a person was asked, whose answer we do not hear
_NOT_TAKEN = frozenset({Outcome.REFUSED, Outcome.UNREACHABLE})


class Phase(StrEnum):
    """How far it is."""

    MAKING = "making"  # the next identity may be half written: nobody has heard of it
    TELLING = "telling"  # the next identity is made; the old one is presented
    DONE = "done"  # switched, or withdrawn; somebody may still have to be told


@dataclass(frozen=True, slots=True)
class Reply:
    """What a peer said, or why it said nothing (`code`); `pin`: the certificate that it presented when it did."""

    outcome: Outcome
    when: datetime
    pin: Fingerprint | None = None
    code: str | None = None

    def counts_for(self, peer: Peer) -> bool:
        """Whether it is this peer, as it is pinned now, that said so: a name may have passed to another."""
        return self.pin is not None and (self.pin in peer.pins or bool(peer.keys))


@dataclass(frozen=True, slots=True)
class Errand:
    """A statement, and what has become of telling it; `only`: the names of those whom it is for, else everybody."""

    statement: Statement
    told: Mapping[str, Reply] = field(default_factory=dict)
    only: frozenset[str] | None = None

    def is_for(self, peer: Peer) -> bool:
        """Whether this peer is to hear it."""
        return self.only is None or peer.name in self.only

    def reply(self, peer: Peer) -> Reply | None:
        """What this peer, as it is pinned now, has to do with it; that it could not be reached always counts."""
        found = self.told.get(peer.name)
        if found is None or found.outcome is Outcome.UNREACHABLE or found.counts_for(peer):
            return found
        return None

    def accepted_by(self, peer: Peer) -> bool:
        """Whether this peer knows it and goes by it."""
        reply = self.reply(peer)
        return reply is not None and reply.outcome is Outcome.ACCEPTED

    def answered_by(self, peer: Peer) -> bool:
        """Whether this peer has said anything about it."""
        reply = self.reply(peer)
        return reply is not None and reply.outcome in ANSWERS

    def waits_for(self, peer: Peer) -> bool:
        """Whether this peer is still to hear it: at its address, or, of what is withdrawn, when it asks."""
        if not self.is_for(peer) or self.answered_by(peer):
            return False
        reply = self.reply(peer)
        return peer.address is not None or (self.only is not None and not (reply and reply.outcome is Outcome.HEARD))

    def is_open(self, peer: Peer, now: datetime) -> bool:
        """Whether there is something to see of this peer: it is still to hear it, or a person there was asked lately."""
        reply = self.reply(peer)
        asked = reply is not None and reply.outcome is Outcome.ASKED and now - reply.when < _REMEMBERED
        return self.waits_for(peer) or asked

    def noted(self, replies: Mapping[str, Reply | None]) -> Errand:
        """With these replies; None: whether this one has heard it is not known any more. What weighs more stays."""
        told = dict(self.told)
        for name, reply in replies.items():
            before = told.get(name)
            if reply is None:
                if before is not None and before.outcome is Outcome.UNREACHABLE:
                    del told[name]
            elif before is None or not _stays(before, reply):
                told[name] = reply
        return replace(self, told=told)


def _stays(before: Reply, reply: Reply) -> bool:
    """Whether what was known says more: that it was out of reach or has asked us does not undo what it knows already."""
    another = reply.pin is not None and reply.pin != before.pin
    if another or before.outcome is Outcome.UNREACHABLE:
        return False
    if before.outcome is Outcome.ACCEPTED or reply.outcome is Outcome.UNREACHABLE:
        return True
    return reply.outcome in (Outcome.HEARD, Outcome.UNANSWERED) and before.outcome in {*ANSWERS, Outcome.HEARD}


@dataclass(frozen=True, slots=True)
class Succession:
    """All that is under way. `deadline`: of a rotation in the phase TELLING."""

    phase: Phase
    errands: tuple[Errand, ...] = ()
    deadline: datetime | None = None

    @property
    def under_way(self) -> Errand | None:
        """The rotation whose next identity is not presented yet."""
        return self.errands[-1] if self.phase is Phase.TELLING else None

    def outstanding(self, peer: Peer) -> list[Errand]:
        """What this peer is to hear, the oldest first: each statement follows from the one before, so all from the first on.

        The one under way is to be accepted; what is over, to be answered.
        """
        mine = [errand for errand in self.errands if errand.is_for(peer)]
        for at, errand in enumerate(mine):
            if not (errand.accepted_by(peer) if errand is self.under_way else errand.answered_by(peer)):
                return mine[at:]
        return []

    def missing(self, peers: Iterable[Peer]) -> Iterator[Peer]:
        """Those with an address who still have to hear something."""
        return (peer for peer in peers if peer.address is not None and self.outstanding(peer))

    def due(self, peers: PeerSet, now: datetime) -> bool:
        """Whether to present the next identity: everybody has accepted it, or the time is up, or the old key is lost."""
        errand = self.under_way
        if errand is None or self.deadline is None:
            return False
        lost = errand.statement.kind is Kind.COMPROMISED
        return lost or now >= self.deadline or all(errand.accepted_by(peer) for peer in peers)

    def noted(self, replies: Mapping[bytes, Mapping[str, Reply | None]]) -> Succession:
        """With these replies, by the statement's data and by name; about what is not under way any more there are none."""
        return replace(self, errands=tuple(e.noted(replies.get(e.statement.data, {})) for e in self.errands))

    def trimmed(self, peers: PeerSet, now: datetime) -> Succession:
        """Without errands that nobody waits for any more, and of which no person was asked lately."""
        kept = [e for e in self.errands if e is self.under_way or any(e.is_open(peer, now) for peer in peers)]
        return replace(self, errands=tuple(kept[-MOST_ERRANDS:]))


def perhaps_heard(errand: Errand, peers: PeerSet) -> frozenset[str]:
    """Those who may go by this statement: all who were not found to be out of reach, and have not said no."""
    told = {name for name, reply in errand.told.items() if reply.outcome not in _NOT_TAKEN}
    untold = {peer.name for peer in peers if peer.address is not None and peer.name not in errand.told}
    return frozenset(told | untold)


def dump(succession: Succession) -> bytes:
    """As a file."""
    errands = [
        {
            "statement": errand.statement.data.decode(),
            "only": None if errand.only is None else sorted(errand.only),
            "told": {name: _reply_data(reply) for name, reply in errand.told.items()},
        }
        for errand in succession.errands
    ]
    deadline = _moment(succession.deadline) if succession.deadline else None
    return json.dumps({"phase": succession.phase, "deadline": deadline, "errands": errands}, indent=1).encode()


def load(data: bytes) -> Succession:
    """From a file. Raises BadInput("bad-rotation")."""
    try:
        fields = json.loads(data)
        errands = tuple(
            Errand(
                read_statement(one["statement"].encode()),
                {str(name): _reply(reply) for name, reply in one["told"].items()},
                None if one["only"] is None else frozenset(map(str, one["only"])),
            )
            for one in fields["errands"]
        )
        deadline = datetime.fromisoformat(fields["deadline"]) if fields["deadline"] else None
        found = Succession(Phase(fields["phase"]), errands, deadline)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, PeerAuthError) as error:
        raise BadInput("bad-rotation", f"it does not say where a rotation stands: {printable(str(error), 100)}") from error
    if found.phase is Phase.TELLING and (not errands or deadline is None or deadline.tzinfo is None):
        raise BadInput("bad-rotation", "it does not say what is to be told, or until when")
    return found


def _reply_data(reply: Reply) -> dict[str, Any]:
    pin = reply.pin.digest.hex() if reply.pin else None
    return {"outcome": reply.outcome, "when": _moment(reply.when), "pin": pin, "code": reply.code}


def _reply(data: dict[str, Any]) -> Reply:
    pin = Fingerprint(bytes.fromhex(data["pin"])) if data["pin"] else None
    return Reply(Outcome(data["outcome"]), datetime.fromisoformat(data["when"]), pin, data["code"])


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")

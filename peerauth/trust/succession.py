"""What comes of statements about a peer's certificate: a pure rule, from what is pinned and said to what is to be done.

1. Statements are a chain, the oldest first: each is about the certificate that the one before it leaves in force. What is
   pinned here says where we are in it.
2. A certificate speaks for its successor while it is pinned and admitted, and for one only: of two different successors the
   first counts, and the second is reported, because somebody else may hold the key.
3. Nothing goes back: a statement that is older than the newest that was followed counts no more.
4. Whoever brings statements holds a key of theirs, or is admitted as that peer. `compromised` may come from anybody: it only
   takes away. The certificate that it puts in place of the old one is a person's to admit, whatever the settings: its
   endorsement is by a key that others have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from peerauth.trust.certificate import Certificate
from peerauth.trust.continuity import Kind, Statement
from peerauth.trust.decision import Address, Admitted, Refused, decide
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import Acceptance, Peer, PeerSet

MOST = 16  # statements at a time
MOST_PINS = 32  # of a peer that are not retired, before it is given another on its own word
LONGEST_OVERLAP = timedelta(days=90)
AHEAD = timedelta(hours=1)  # by so much the clock of whoever issued a statement may be before ours


class Outcome(StrEnum):
    """What the one who brought the statements hears."""

    ACCEPTED = "accepted"
    ASKED = "asked"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Step:
    """One change to the pins of a peer, as a statement of this kind says."""

    peer: str
    kind: Kind
    old: Certificate
    new: Certificate
    retire: datetime
    issued: datetime


@dataclass(frozen=True, slots=True)
class Question:
    """Whether a person admits this certificate as the peer's next, after `old`, which is then to be retired at `retire`."""

    peer: str
    certificate: Certificate
    old: Certificate
    retire: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """The steps to take, whatever the outcome, and whom to ask. `reason`: why it was refused, a sentence without names."""

    outcome: Outcome
    steps: tuple[Step, ...] = ()
    question: Question | None = None
    reason: str = ""
    peer: str | None = None
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who brings statements: the certificate (DER) whose key the other side has proven.

    Either `meant` is the peer that we wanted to reach, or `remote` is where it comes from.
    """

    certificate: bytes
    meant: str | None = None
    remote: Address | None = None


class _No(Exception):
    def __init__(self, reason: str, *, conflict: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.conflict = conflict


def leading_from(said: Sequence[Statement], known: Fingerprint) -> tuple[Statement, ...]:
    """Of all that a node has said about its certificates, what leads from a known one of them to now; perhaps nothing."""
    for at, one in enumerate(said):
        if known == one.old.fingerprint or (one.kind is Kind.WITHDRAWN and known == one.new.fingerprint):
            return tuple(said[at:])
    return ()


def judge(said: Sequence[Statement], peers: PeerSet, bearer: Bearer, accept: Acceptance, now: datetime) -> Verdict:
    """What is to be done about statements, whose signatures are good, that `bearer` brings.

    `accept` is what the node does where the peer's notes do not say; `now` is aware.
    """
    drops = tuple(_drops(said, peers, now))
    name = drops[0].peer if drops else None
    try:
        walk = _Walk(said, peers, bearer, accept, now)
        name = walk.peer.name
        question = walk.to_its_end()
    except _No as no:
        return Verdict(Outcome.REFUSED, drops, None, no.reason, name, no.conflict)
    outcome = Outcome.ASKED if question else Outcome.ACCEPTED
    return Verdict(outcome, (*drops, *walk.steps), question, peer=name)


def _drops(said: Sequence[Statement], peers: PeerSet, now: datetime) -> Iterator[Step]:
    """Rule 4: keys that are in other hands count no more, in whatever order and company we hear of them.

    One that is over already has no say: it lies on an old disk, and whoever finds it would take the peer out.
    """
    for one in said:
        holder = peers.holder(one.old.fingerprint) or peers.key_holder(one.old)
        if one.kind is Kind.COMPROMISED and holder is not None and not _is_over(one.old, holder, now):
            yield Step(holder.name, one.kind, one.old, one.new, one.retire, min(one.issued, now))


def _is_over(old: Certificate, holder: Peer, now: datetime) -> bool:
    """Whether this certificate is refused for good."""
    retires = holder.settings.retires(old)
    return now > old.not_after or (retires is not None and now >= retires)


def _check_order(said: Sequence[Statement], now: datetime) -> None:
    """Rule 1, as far as it does not depend on what is pinned."""
    if not said:
        raise _No("there is no statement")
    if len(said) > MOST:
        raise _No(f"there are more than {MOST} statements")
    seen = {said[0].old}
    current = None
    for before, one in zip((None, *said), said, strict=False):
        linked = one.old == current or (one.kind is Kind.WITHDRAWN and one.new == current)
        if before is not None and not linked:
            raise _No("the statements do not follow from one another")
        if before is not None and (one.issued < before.issued or (one.kind is Kind.NEXT and one.issued == before.issued)):
            raise _No("the statements are not in the order in which they were made")
        if one.kind is not Kind.WITHDRAWN and one.new in seen:
            raise _No("the statements lead back to a certificate from before")
        seen.add(one.new)
        current = one.old if one.kind is Kind.WITHDRAWN else one.new
    if said[-1].issued > now + AHEAD:
        raise _No("the newest statement was made in the future, by this clock")


class _Walk:
    """Along a chain, from what is pinned now."""

    def __init__(self, said: Sequence[Statement], peers: PeerSet, bearer: Bearer, accept: Acceptance, now: datetime) -> None:
        _check_order(said, now)
        self._said, self._peers, self._now, self._remote = said, peers, now, bearer.remote
        self._among = peers if bearer.meant is None else peers.only(bearer.meant)
        self.peer = self._find(bearer.meant)
        self._accept = self.peer.settings.rotation or accept
        self.steps: list[Step] = []
        self._pins = set(self.peer.pins)
        self._keys = dict(zip(self.peer.pins, self.peer.keys, strict=False))
        self._follows = dict(self.peer.settings.follows)
        self._rotated = self.peer.settings.rotated
        self._asked: list[Statement] = []
        self._fallen = {one.new for one in said if one.kind is Kind.WITHDRAWN}
        self._fallen |= {one.old for one in said if one.kind is Kind.COMPROMISED}
        self._check_bearer(bearer.certificate)

    def to_its_end(self) -> Question | None:
        """Gather the steps; what a person is to be asked. Raises _No."""
        begun = False
        for one in self._said:
            begun = begun or self._holds(one.old) or self._holds(one.new)
            if begun:
                {Kind.NEXT: self._next, Kind.WITHDRAWN: self._withdrawn, Kind.COMPROMISED: self._compromised}[one.kind](one)
        if not self._asked:
            return None
        first, last = self._asked[0], self._asked[-1]
        retire = self._date(first) if first.kind is Kind.NEXT else self._now
        return Question(self.peer.name, last.new, first.old, retire)

    def _find(self, meant: str | None) -> Peer:
        """Whose certificates these are: all of them that are pinned here are one peer's."""
        holders = {}
        for one in self._said:
            for certificate in (one.old, one.new):
                holder = self._peers.holder(certificate.fingerprint) or self._peers.key_holder(certificate)
                if holder is not None:
                    holders[holder.name] = holder
        if not holders:
            raise _No("no statement is about a certificate that is pinned here")
        if len(holders) > 1 or meant not in (None, *holders):
            raise _No("the statements are about certificates of another peer")
        return next(iter(holders.values()))

    def _check_bearer(self, bearer: bytes) -> None:
        """Rule 4."""
        if all(one.kind is Kind.COMPROMISED for one in self._said):
            return
        theirs = {one.old for one in self._said} | {one.new for one in self._said}
        if any(bearer == certificate.der for certificate in theirs - self._fallen):
            return
        decision = decide(bearer, self._among, remote=self._remote, now=self._now)
        if not isinstance(decision, Admitted) or decision.peer.name != self.peer.name:
            raise _No("whoever brings the statements is none of those whom they are about")

    def _next(self, one: Statement) -> None:
        if one.new in self._fallen:
            return
        known = one.new.fingerprint in self._pins
        if known and self._is_old(one):
            return
        if not self._holds(one.old):
            if not known:
                raise _No("the old certificate is not pinned here any more")
            return
        if self._has_another_successor(one):
            raise _No("another certificate was put forward as its successor already", conflict=True)
        if self._is_old(one):
            raise _No("a newer statement was followed already")
        self._check_admitted(one.old)
        self._check_new(one.new, last=one is self._said[-1])
        if self._accept == "never":
            if known:
                return
            raise _No("this peer's certificate is not changed on its own word")
        if self._asked or (self._accept == "ask" and not known):
            self._asked.append(one)
        else:
            self._step(one)
        self._pins.add(one.new.fingerprint)
        self._keys[one.new.fingerprint] = one.new.key_fingerprint
        self._follows[one.new.fingerprint] = one.old.fingerprint

    def _withdrawn(self, one: Statement) -> None:
        new = one.new.fingerprint
        followed = new in self._follows
        if not followed and new not in self._pins and self._rotated is not None and one.issued <= self._rotated:
            return
        if self._rotated is not None and one.issued < self._rotated:
            raise _No("a newer statement was followed already")
        if not followed and new in self._pins:
            raise _No("a person has pinned the certificate that is withdrawn")
        if new in self._follows.values():
            raise _No("the certificate that is withdrawn has a successor")
        if self._accept == "never":
            raise _No("this peer's certificate is not changed on its own word")
        self._check_admitted(one.old)
        self._step(one)
        self._pins.discard(new)
        self._follows.pop(new, None)

    def _compromised(self, one: Statement) -> None:
        """That the old one goes is settled already (`_drops`); here, that its endorsement is worth a question."""
        if self._holds(one.old) and _is_over(one.old, self.peer, self._now):
            raise _No("the old certificate does not count any more")
        if not self._holds(one.old) and not self._is_old(one):
            self._step(one)  # what was said before about it counts no more
        self._pins.discard(one.old.fingerprint)
        if one.new.fingerprint in self._pins:
            return
        self._check_new(one.new, last=one is self._said[-1])
        if self._accept == "never":
            raise _No("this peer's certificate is not changed on its own word")
        self._asked.append(one)
        self._pins.add(one.new.fingerprint)

    def _step(self, one: Statement) -> None:
        issued = min(one.issued, self._now) if one.kind is Kind.COMPROMISED else one.issued
        self.steps.append(Step(self.peer.name, one.kind, one.old, one.new, self._date(one), issued))
        self._rotated = issued

    def _date(self, one: Statement) -> datetime:
        """When the old one is retired: a date that is over means at once, one that is too far off is drawn near."""
        return min(one.retire, self._now + LONGEST_OVERLAP)

    def _is_old(self, one: Statement) -> bool:
        """Rule 3."""
        return self._rotated is not None and one.issued <= self._rotated

    def _holds(self, certificate: Certificate) -> bool:
        keys = self.peer.keys
        return certificate.fingerprint in self._pins or bool(keys and certificate.key_fingerprint in keys)

    def _count(self) -> int:
        """How many pins there would be that are not retired."""
        retire = dict(self.peer.settings.retire)
        over = {one.old.fingerprint for one in self.steps if one.retire <= self._now}
        over |= {pin for pin, date in retire.items() if date <= self._now}
        return len(self._pins - over)

    def _has_another_successor(self, one: Statement) -> bool:
        """Rule 2; a certificate that is pinned by its key shares the successor, over another key, of the others over it."""
        pin, key = one.old.fingerprint, one.old.key_fingerprint
        return any(
            new != one.new.fingerprint and (old == pin or (self._keys.get(old) == key != self._keys.get(new)))
            for new, old in self._follows.items()
        )

    def _check_admitted(self, old: Certificate) -> None:
        """Rule 2; what this chain itself has put in its place was found good before."""
        if old.fingerprint not in self._pins - set(self.peer.pins):
            decision = decide(old.der, self._among, remote=self._remote, now=self._now)
            if isinstance(decision, Refused):
                raise _No(f"the old certificate does not count any more: {decision.reason}")

    def _check_new(self, new: Certificate, *, last: bool) -> None:
        holder = self._peers.holder(new.fingerprint) or self._peers.key_holder(new)
        if holder is not None and holder.name != self.peer.name:
            raise _No("the new certificate is another peer's")
        if last and self._now > new.not_after:
            raise _No("the new certificate has expired")
        if new.fingerprint not in self._pins and self._count() >= MOST_PINS:
            raise _No("the peer has too many certificates already")

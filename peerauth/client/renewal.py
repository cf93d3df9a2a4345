"""What a client does when a pin does not fit any more because of a rotation: ours of the server, or the server's of us.

A server that presents another certificate than the pinned one is asked, as nobody in particular, how the one led to the
other. A server that refuses us is told how the certificate that it may know led to ours. Either once, and for peers alone;
then the command tries once more. Without good statements everything stays as it was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from peerauth.client.control import anyone, conversation
from peerauth.client.target import Target
from peerauth.control.rotation import History, Rotate, Rotated, Statements
from peerauth.errors import BadInput, PeerAuthError, TrustRefused
from peerauth.store.config import Config
from peerauth.store.following import follow
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.rotations import own_statements
from peerauth.tls.session import NotAdmitted
from peerauth.trust.continuity import Kind, Statement
from peerauth.trust.decision import Admitted, Code, Decision, decide
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.identity import Identity, KeyType, new_key, self_signed
from peerauth.trust.peers import Peer
from peerauth.trust.succession import LONGEST_OVERLAP, MOST, Bearer, Outcome, Verdict

SECONDS = 10.0  # for all of it
_PAUSE = 60.0  # seconds until a command that stays tries it with the same peer again
_MOST_PINS = 4  # that the server is asked about
_ROOM = 23 << 10  # bytes of statements that somebody unknown can bring: three quarters of what a server hears of one
_NOTICED = 0.3  # seconds until every worker of a server has seen a change of its peers, and a little more

Tell = Callable[[str, str | None], None]


class Renewal:
    """The two ways for one node. `tell` hears (sentence, hint) about what came of it."""

    def __init__(self, config: Config, directory: PeerDirectory, identity: Identity, tell: Tell) -> None:
        self._config, self._directory, self.identity, self._tell = config, directory, identity, tell
        self._tried: dict[tuple[str, bool], float] = {}
        self._said = _said_about(config, identity)

    def of(self, identity: Identity) -> Renewal:
        """The same for another identity of the node."""
        return Renewal(self._config, self._directory, identity, self._tell)

    @property
    def expects_doubt(self) -> bool:
        """Whether our certificate is so new that a server may not know it yet."""
        issued = [one.issued for one in self._said if one.new == self.identity.certificate]
        return bool(issued) and datetime.now(UTC) - issued[-1] < LONGEST_OVERLAP

    async def mends(self, error: Exception, target: Target) -> bool:
        """Do what can be done about this failure to connect; whether it is worth another try."""
        by_us = isinstance(error, NotAdmitted) and error.refused.code in (Code.UNKNOWN, Code.RETIRED)
        by_it = isinstance(error, TrustRefused) and error.side == "peer" and bool(self._said)
        if not by_us and not by_it:
            return False
        attempt, now = (target.peer.name, by_us), time.monotonic()
        if now - self._tried.get(attempt, -_PAUSE) < _PAUSE:
            return False
        self._tried[attempt] = now
        try:
            async with asyncio.timeout(SECONDS):
                return await (self._learn(target) if by_us else self._introduce(target))
        except (OSError, PeerAuthError, NotAdmitted):
            return False  # what went wrong in the first place says more

    async def _learn(self, target: Target) -> bool:
        """Ask the server what has become of the certificate that we have pinned."""
        peer = self._directory.current.get(target.peer.name)
        for known in _newest_first(peer)[:_MOST_PINS] if peer else ():
            # As nobody: it is not settled who that is there, and to whom we belong is none of their business.
            nobody = await asyncio.to_thread(lambda: self_signed(new_key(KeyType.P256), "nobody", datetime.now(UTC)))
            async with conversation(nobody, target.address, anyone, hear_anyone=True) as line:
                presented = line.session.certificate
                await line.send(History(known))
                heard = (await line.receive(Statements)).statements
            if heard and presented is not None:
                return await self._take_in(target, heard, presented)
        return False

    async def _take_in(self, target: Target, heard: tuple[bytes, ...], presented: bytes) -> bool:
        name = target.peer.name
        bearer = Bearer(presented, meant=name)
        try:
            verdict = await asyncio.to_thread(follow, self._directory, heard, bearer, self._config, str(target.address))
        except PeerAuthError as error:
            if error.code != "bad-statement":  # which says nothing about this node
                self._tell(f"{name} has a new certificate, which could not be noted: {error.message}", error.hint)
            return False
        self._say(verdict, name, presented)
        decision = decide(presented, self._directory.current.only(name), now=datetime.now(UTC))
        return isinstance(decision, Admitted)

    def _say(self, verdict: Verdict, name: str, presented: bytes) -> None:
        for step in verdict.steps:
            if step.kind is Kind.COMPROMISED:
                self._tell(
                    f"{step.peer} says that its key is in other hands: what that key has endorsed is pinned no more", None
                )
        if verdict.question is not None:
            pin = verdict.question.certificate.fingerprint
            text = f"{name} says that its next certificate is {pin}; nobody is reached with it until a person says so"
            self._tell(text, "ask its owner: peerauth id --fingerprint")
        elif verdict.outcome is Outcome.REFUSED:
            self._tell(f"what the server says of {name}'s next certificate does not count here: {verdict.reason}", None)
        elif verdict.steps:
            text = f"{name} has a new certificate, endorsed by the one that was pinned: {Fingerprint.of(presented)}"
            self._tell(text, None)

    async def _introduce(self, target: Target) -> bool:
        """Tell the server how the certificate that it may know led to ours."""
        peers = self._directory.current.only(target.peer.name)

        def judge(der: bytes | None) -> Decision:
            return decide(der, peers, now=datetime.now(UTC))

        async with conversation(self.identity, target.address, judge) as line:
            await line.send(Rotate(_newest(self._said)))
            outcome = (await line.receive(Rotated)).outcome
        if outcome == Outcome.ASKED:
            text = f"{target.peer.name} was told of our new certificate; a person there is to say whether it counts"
            self._tell(text, f"there: peerauth peer approve {self.identity.certificate.fingerprint}")
        if outcome != Outcome.ACCEPTED:
            return False
        await asyncio.sleep(_NOTICED)
        return True


def _said_about(config: Config, identity: Identity) -> tuple[Statement, ...]:
    """What this node has said, if it led to the certificate that it presents."""
    try:
        said = own_statements(config)
    except BadInput:
        return ()
    ours = identity.certificate
    return said if any(one.new == ours and one.kind is not Kind.WITHDRAWN for one in said) else ()


def _newest(said: tuple[Statement, ...]) -> tuple[bytes, ...]:
    """The newest statements, as many as a server hears of somebody unknown."""
    chosen: list[bytes] = []
    room = _ROOM
    for one in reversed(said[-MOST:]):
        room -= len(one.data) + 4
        if room < 0:
            break
        chosen.insert(0, one.data)
    return tuple(chosen)


def _newest_first(peer: Peer) -> list[Fingerprint]:
    """The pins of a peer; those that have no successor first."""
    followed = {old for _, old in peer.settings.follows}
    return [pin for pin in reversed(peer.pins) if pin not in followed] + [pin for pin in peer.pins if pin in followed]

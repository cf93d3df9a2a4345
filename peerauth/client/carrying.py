"""Carrying a rotation forward in the background: telling those who do not know yet, and switching when it is time.

One process of a node does it, the one that has the lock; it is bounded in connections, and in how often it tries a peer that
is away. Everything it knows is on disk, so whoever takes its place goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from peerauth.client.telling import PORTION, tell_all
from peerauth.errors import PeerAuthError
from peerauth.store import files
from peerauth.store.config import AutoRotation
from peerauth.store.own import Own, rotation_path
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.state import DIRECTORY
from peerauth.store.succession import NOTHING, Terms, begin, note, recover, switch
from peerauth.trust.certificate import Certificate
from peerauth.trust.continuity import Kind
from peerauth.trust.errands import Errand, Outcome, Phase, Reply, Succession
from peerauth.trust.identity import successor
from peerauth.trust.peers import Peer

LOOK = 1.0  # seconds between looks at what is under way, and at the lock
FIRST_PAUSE, LONGEST_PAUSE = 60.0, 3600.0  # seconds until a peer is tried again; twice as long each time


@dataclass(frozen=True, slots=True)
class News:
    """Something that has come of it. `problem`: it is not as it should be."""

    text: str
    peer: str | None = None
    code: str | None = None
    problem: bool = False


Say = Callable[[News], None]


async def carry_on(own: Own, directory: PeerDirectory, say: Say, automatic: AutoRotation | None = None) -> None:
    """Carry on what is under way as long as this runs, whenever no other process of the node does."""
    place = own.config.path.parent / DIRECTORY
    while True:
        if automatic is not None or rotation_path(own.config).exists():
            # A home that cannot be written to has nothing in it that could be carried on.
            with contextlib.suppress(PeerAuthError, OSError):
                files.make_directory(place, 0o700)
                with files.held(place / "rotation.lock") as ours:
                    if ours:
                        await Carrier(own, directory, say, automatic).run()
        await asyncio.sleep(LOOK)


class Carrier:
    """One process's hand on the rotation of its node; `now` counts seconds."""

    def __init__(
        self,
        own: Own,
        directory: PeerDirectory,
        say: Say,
        automatic: AutoRotation | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._own = own
        self._directory = directory
        self._say = say
        self._automatic = automatic
        self._read: tuple[int, int, int] | None = None  # the signs of the file when it was read
        self.succession = NOTHING
        self.last = NOTHING  # how it stood before the switch
        self._pauses: dict[tuple[str, bytes], tuple[float, float]] = {}  # by peer and statement: next try, pause after it
        self._automatic_again = 0.0
        self._trouble = ""

    async def run(self) -> None:
        """Go on for ever. What goes wrong is said once."""
        while True:
            try:
                await self.step()
                self._trouble = ""
            except (PeerAuthError, OSError) as error:
                text = f"the rotation under way cannot go on: {error}"
                if text != self._trouble:
                    self._say(News(text, code=getattr(error, "code", "system"), problem=True))
                self._trouble = text
            await asyncio.sleep(LOOK)

    async def step(self) -> None:
        """Do what is to be done now, if anything: switch, begin, tell a few."""
        self.succession = await self._fresh()
        peers, now = self._directory.current, datetime.now(UTC)
        if self.succession.due(peers, now):
            await self._switch()
        elif self.succession.under_way is None and self._automatic is not None:
            await self._begin_if_old(self._automatic)
        if self.succession.phase is Phase.DONE and self.succession.trimmed(peers, now) != self.succession:
            self.succession = await asyncio.to_thread(note, self._own.config, {}, peers)  # who was waited for has left
        whom = [peer for peer in self.succession.missing(peers) if self._is_time(peer)]
        if whom:
            self.succession = await tell_all(self._own, peers, self.succession, whom[:PORTION], self._heard)
            if self.succession.due(peers, datetime.now(UTC)):
                await self._switch()
        if self.succession.under_way is not None:
            self.last = self.succession

    async def _fresh(self) -> Succession:
        try:
            status = rotation_path(self._own.config).stat()
            signs = (status.st_ino, status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            self._pauses.clear()
            self._read = None
            return NOTHING
        if signs == self._read:
            return self.succession
        found = await asyncio.to_thread(recover, self._own.config)
        self._read = signs
        return found

    async def _switch(self) -> None:
        errand, self.last = self.succession.under_way, self.succession
        kept = await asyncio.to_thread(switch, self._own.config, self._directory.current)
        await asyncio.to_thread(self._own.look)
        self._pauses.clear()
        self.succession = await self._fresh()
        if errand is not None:
            names = ", ".join(files.shown(path.name) for path in kept)
            self._say(News(f"the identity is now {errand.statement.new.fingerprint}; the old one is kept as {names}"))

    async def _begin_if_old(self, automatic: AutoRotation) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        if self._own.stirred:
            await asyncio.to_thread(self._own.look)
        current = self._own.identity
        if now - made(current.certificate) < automatic.every or self._now() < self._automatic_again:
            return
        self._automatic_again = self._now() + LONGEST_PAUSE  # making a key takes seconds
        new = await asyncio.to_thread(successor, current, self._own.config.name, now)
        terms = terms_of(Kind.NEXT, current.certificate, now, automatic.deadline, automatic.overlap)
        self.succession = await asyncio.to_thread(begin, self._own.config, current, new, self._own.passphrase, terms)
        text = f"the certificate is {automatic.every.days} days old; the next one is {new.certificate.fingerprint}"
        self._say(News(f"{text}, presented when every peer has accepted it, at the latest on {terms.deadline:%Y-%m-%d}"))

    def _is_time(self, peer: Peer) -> bool:
        return self._pauses.get(_key(peer, self.succession.outstanding(peer)), (0.0, 0.0))[0] <= self._now()

    def _heard(self, peer: Peer, errands: list[Errand], reply: Reply) -> None:
        key = _key(peer, errands)
        again = key in self._pauses
        _, pause = self._pauses.get(key, (0.0, FIRST_PAUSE))
        self._pauses[key] = self._now() + pause, min(2 * pause, LONGEST_PAUSE)
        if not again or reply.outcome is Outcome.ACCEPTED:
            self._say(News(f"{peer.name} was told: {reply.outcome}", peer.name, reply.code or str(reply.outcome)))


def _key(peer: Peer, errands: list[Errand]) -> tuple[str, bytes]:
    return peer.name, errands[-1].statement.data


def made(certificate: Certificate) -> datetime:
    """When keygen made this certificate, which is valid from a day before."""
    return certificate.not_before + timedelta(days=1)


def terms_of(kind: Kind, current: Certificate, now: datetime, deadline: timedelta, overlap: timedelta) -> Terms:
    """A rotation that ends before the present certificate does. `deadline` and `overlap` from now, and from the deadline."""
    latest = max(now, min(now + deadline, current.not_after))
    return Terms(kind, now, latest, latest + overlap)

"""Who was refused: said in the log, at a bounded rate, and remembered, within bounds, until somebody asks why.

The loop only notes what happened. Finding words (which reads the certificate that a stranger sent) is done for what the log
has room for, and beside the loop for what is remembered; so is the writing, at once when it was quiet, and else once in
PAUSE_S. What cannot be written stays in memory, no more than MOST of it, and is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from peerauth.audit import Audit, Event
from peerauth.errors import PeerAuthError
from peerauth.store.pending import remember
from peerauth.store.refusals import Refusal, Table
from peerauth.store.state import State
from peerauth.trust.decision import Address, Code, Refused
from peerauth.trust.explain import LARGEST, Scene, Told, refused_client
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import PeerSet

MOST: Final = 100  # refusals that wait to be written
PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0  # between attempts, while nothing can be written
LAST_WORDS_S: Final = 2.0  # that the last writing may take when the server stops


class Knock(NamedTuple):
    """Who was at which door. `proven`: whether they have shown that they hold the key of their certificate (DER)."""

    service: str
    shown: str
    source: str
    remote: Address | None = None
    certificate: bytes | None = None
    proven: bool = False


class Refusals:
    """Those of one server. Without `state` nothing is remembered. `reserved`: names not to be suggested for strangers."""

    def __init__(self, audit: Audit, state: State | None, reserved: Callable[[], frozenset[str]]) -> None:
        self._audit = audit
        self._state = state
        self._reserved = reserved
        self._news = Table(MOST)
        self._writing: asyncio.Task[None] | None = None
        self._pause = PAUSE_S
        self._closing = asyncio.Event()

    def refused(self, refused: Refused, knock: Knock, peers: PeerSet) -> None:
        """Somebody was refused by decision, when these were the peers."""
        unknown = knock.certificate if refused.code is Code.UNKNOWN else None
        kept = unknown if unknown is not None and len(unknown) <= LARGEST else None

        def find_words() -> Told:
            remembered = kept is not None and self._state is not None
            return refused_client(refused, Scene(peers, unknown, knock.remote, self._reserved(), remembered))

        fingerprint, peer = refused.fingerprint, refused.peer.name if refused.peer else None
        self._tell(_noted(str(refused.code), _Once(find_words), knock, fingerprint)._replace(peer=peer, certificate=kept))

    def failed(self, code: str, message: str, hint: str | None, knock: Knock, *, telling: bool = True) -> None:
        """Somebody did not come in for another reason; where it is not a `telling` one, it is not remembered."""
        self._tell(_noted(code, lambda: (message, hint), knock), remembered=telling)

    def _tell(self, refusal: Refusal, *, remembered: bool = True) -> None:
        self._audit.refused(functools.partial(_event, refusal))
        if self._state is None or not remembered:
            return
        self._news.note(refusal)
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write(self._state))

    async def _write(self, state: State) -> None:
        """Write what there is until there is nothing more."""
        try:
            while len(self._news):
                written = await self._write_once(state)
                if self._closing.is_set() and not written:
                    break
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause):
                        await self._closing.wait()
        finally:
            self._writing = None

    async def _write_once(self, state: State) -> bool:
        news, self._news = self._news, Table(MOST)
        try:
            await asyncio.to_thread(remember, state, news)
        except (PeerAuthError, OSError) as error:
            later, self._news = self._news, news
            for refusal in later:
                self._news.note(refusal)
            if self._pause == PAUSE_S:
                text = f"who was refused cannot be remembered: {error}"
                self._audit.common(Event("problem", text, code="not-remembered"))
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
            return False
        self._pause = PAUSE_S
        return True

    async def close(self) -> None:
        """Write what is left, if it can be done soon."""
        self._closing.set()
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=LAST_WORDS_S)


class _Once:
    """The words about one refusal, found when they are wanted first: for the log, or for what is remembered."""

    __slots__ = ("_find", "_found")

    def __init__(self, find: Callable[[], Told]) -> None:
        self._find = find
        self._found: Told | None = None

    def __call__(self) -> Told:
        if self._found is None:
            self._found = self._find()
        return self._found


def _noted(code: str, told: Callable[[], Told], knock: Knock, fingerprint: Fingerprint | None = None) -> Refusal:
    where = knock.source, knock.service, knock.shown
    return Refusal(code, fingerprint, *where, datetime.now(UTC), told, proven=knock.proven)


def _event(refusal: Refusal) -> Event:
    message, hint = refusal.told()
    pin = str(refusal.fingerprint) if refusal.fingerprint else None
    where = refusal.service, refusal.address
    return Event("refused", f"{message}, from {refusal.address}", hint, *where, refusal.peer, pin, refusal.code)

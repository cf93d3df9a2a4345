"""Whoever leaves the list while the server runs, by a command or by a file that is deleted, does not come back by a token.

`peer remove` notes in the book of invitations who was removed; a person who deletes a file notes nothing, so the server
does. `noted` is the list whose removals are all in the book: until the latest are written down, whoever is in it and in the
list no more was removed, too. What is deleted while no server runs is noted by nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from peerauth.audit import Audit, Event
from peerauth.errors import PeerAuthError
from peerauth.store.invitations import Invitations
from peerauth.store.state import State
from peerauth.store.watch import Change
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import PeerSet

TICK: Final = 0.02  # seconds: by so much the clock of a file system may be behind
_SEEN_BY = 10.0  # seconds in which a change is seen, also where the directory is looked at now and then


class Removals:
    """What one process has seen leave the list."""

    def __init__(self, peers: PeerSet, directory: Path, audit: Audit) -> None:
        self.noted = peers
        self._directory = directory
        self._audit = audit
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def see(self, change: Change, state: State) -> None:
        """Have it written down, beside the loop, which pins are gone."""
        if not (change.removed or change.changed or self._tasks):
            self.noted = change.after
            return
        task = asyncio.create_task(self._note(change, state))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait until all of it is written down."""
        await asyncio.gather(*self._tasks)

    async def _note(self, change: Change, state: State) -> None:
        async with self._turn:
            before = self.noted
            try:
                await asyncio.to_thread(_write, state, before, change, self._directory)
            except PeerAuthError as error:  # `noted` stays as it is, so nobody comes back while this process lives
                text = f"it could not be noted who was removed: {error.message}"
                self._audit.common(Event("problem", text, error.hint, code="not-noted"))
            else:
                self.noted = change.after


def removed_at(directory: Path) -> datetime:
    """When the list was changed last, by its directory: an invitation made after that is good for who was removed.

    Now, where that was too long ago to be what was just seen: another directory has come to be in its place.
    """
    now = time.time()
    with contextlib.suppress(OSError):
        looks = directory.stat(), directory.lstat()
        changed = max(max(look.st_mtime, look.st_ctime) for look in looks) + TICK
        if now - _SEEN_BY < changed < now:
            return datetime.fromtimestamp(changed, UTC)
    return datetime.fromtimestamp(now, UTC)


def _write(state: State, before: PeerSet, change: Change, directory: Path) -> None:
    gone = list(_gone(before, change.after))
    if gone:
        Invitations(state).forget(gone, removed_at(directory))


def _gone(before: PeerSet, after: PeerSet) -> Iterator[Fingerprint]:
    """The pins that nobody has any more."""
    for _, old, _ in before.differences(after):
        yield from (pin for pin in (old.pins if old else ()) if after.holder(pin) is None)

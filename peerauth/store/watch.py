"""Following the peers directory while a server runs: inotify where it speaks, a slow poll beside it where it does not.

A change settles before it counts, because editors delete and create and mounts swap links; it never waits longer than a
moment, so that a removal acts within 250 ms (promises 2 and 3) even while the directory never rests.

Two things go on at once. What is noticed is looked at by name, and costs what changed. The whole directory is looked through
now and then, in small steps, and soon where a notice may not have said everything; that only finds what to look at.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from peerauth.store.notifier import SETTLE, Notifier, Stopped, identities
from peerauth.store.peerfiles import PeerFiles
from peerauth.store.records import Problem
from peerauth.trust.peers import PeerSet

POLL = 2.0
_POLL_UNNOTIFIED = 0.2
_REST, _SHORT_REST = 20, 4  # times what a look at the whole directory took: until the next one, and the least until then
_FEW = 512  # known files that are looked through as quickly as one, at every notice
_PORTION = 5000  # files whose changes are taken over in one go
_TOO_MANY_TO_SORT = 10_000


@dataclass(frozen=True, slots=True)
class Change:
    """The peer set before and after, with the names that differ (in their order, unless there are very many)."""

    before: PeerSet
    after: PeerSet
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    problems: tuple[Problem, ...]
    """What in the directory cannot be used, and could be before."""

    @classmethod
    def between(cls, before: PeerSet, after: PeerSet, problems: tuple[Problem, ...] = ()) -> Change:
        """What differs between these sets."""
        found: tuple[list[str], list[str], list[str]] = ([], [], [])
        for name, old, new in before.differences(after):
            found[0 if old is None else 1 if new is None else 2].append(name)
        for names in found:
            if len(names) <= _TOO_MANY_TO_SORT:  # sorting lets nobody else run
                names.sort()
        added, removed, changed = map(tuple, found)
        return cls(before, after, added, removed, changed, problems)


async def watch(directory: PeerFiles, on_change: Callable[[Change], None], *, poll: float = POLL) -> None:
    """Keep `directory` fresh and call `on_change` in this loop for every difference, until cancelled."""
    follower = _Follower(directory, on_change, poll)
    while True:
        await follower.follow()


class _Follower:
    """What was last reported, and what has to be looked at."""

    def __init__(self, directory: PeerFiles, on_change: Callable[[Change], None], poll: float) -> None:
        self._directory, self._on_change, self._poll = directory, on_change, poll
        # Not `directory.current` later on: others may refresh it meanwhile.
        self._seen, self._reported = directory.current, directory.problems
        self._busy = asyncio.Lock()
        self._asked = asyncio.Event()  # for a look at the whole directory

    async def follow(self) -> None:
        """Follow the directories as they are now, until one of them is another one."""
        places = identities(self._directory)
        notifier = Notifier(self._directory, places)
        noticing = asyncio.create_task(self._notice(notifier, places))
        noticing.add_done_callback(lambda _: notifier.stop())
        noticing.add_done_callback(lambda _: self._asked.set())
        try:
            while not noticing.done():
                self._asked.clear()
                cost = await self._look_through(notifier)
                if not noticing.done() and identities(self._directory) != places:
                    return
                await asyncio.wait([noticing], timeout=_SHORT_REST * cost)
                rest = _POLL_UNNOTIFIED if notifier.blind else max(self._poll, _REST * cost)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(rest):
                        await self._asked.wait()
            await noticing
        finally:
            notifier.stop()
            noticing.cancel()
            await asyncio.gather(noticing, return_exceptions=True)

    async def _notice(self, notifier: Notifier, places: dict[Path, tuple[int, int]]) -> None:
        """Look at what is noticed, until a directory is another one."""
        loop = asyncio.get_running_loop()
        while True:
            notice = await loop.run_in_executor(None, notifier.wait, self._poll)
            if notice is None:
                continue
            another = notifier.broken or identities(self._directory) != places
            few = self._directory.count <= _FEW
            await self._take_over(None if another or few else notice.names)
            if another or identities(self._directory) != places:  # or a new link leads elsewhere
                return
            if notice.more and not few:
                self._asked.set()

    async def _look_through(self, notifier: Notifier) -> float:
        """Find out which files look different, and look at these; how long finding out took, in seconds.

        What nobody had noticed settles first, and is looked for once more: a look in the middle of a change sees half of it.
        """
        started = time.monotonic()
        try:
            suspects = await self._suspects(notifier)
            cost = time.monotonic() - started
            if suspects is None or suspects:
                await asyncio.sleep(SETTLE)
                suspects = await self._suspects(notifier)
        except Stopped:
            return 0.0
        await self._take_over(suspects)
        return cost

    async def _suspects(self, notifier: Notifier) -> list[str] | None:
        """The files that look different; None when it is the directory itself."""
        with contextlib.suppress(OSError):
            found = await asyncio.get_running_loop().run_in_executor(None, self._directory.suspects, notifier.breathe)
            return found if self._directory.readable else None
        return None

    async def _take_over(self, names: Sequence[str] | None) -> None:
        """Bring the directory up to date with these files, or with all, and report what differs from what was known."""
        loop = asyncio.get_running_loop()
        for at in range(0, len(names or ()) or 1, _PORTION):  # with no names: others may have refreshed it
            async with self._busy:
                portion = None if names is None else names[at : at + _PORTION]
                change, problems = await loop.run_in_executor(None, self._refreshed, portion)
                self._seen, self._reported = change.after, problems
                if change.added or change.removed or change.changed or change.problems:
                    self._on_change(change)

    def _refreshed(self, names: Sequence[str] | None) -> tuple[Change, tuple[Problem, ...]]:
        peers = self._directory.refresh(names) if names or names is None else self._directory.current
        problems = self._directory.problems
        known = frozenset() if problems is self._reported else frozenset(self._reported)
        fresh = () if problems is self._reported else tuple(problem for problem in problems if problem not in known)
        return Change.between(self._seen, peers, fresh), problems

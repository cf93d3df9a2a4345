"""Following the peers directory while a server runs: inotify where it speaks, a slow poll beside it where it does not.

A change settles before it counts, because editors delete and create and mounts swap links; it never waits longer than
`_PATIENCE`, so that a removal acts within 250 ms (promises 2 and 3) even while the directory never rests.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from watchfiles._rust_notify import RustNotify

from peerauth.store.peerfiles import PeerFiles, Problem
from peerauth.trust.peers import PeerSet

SETTLE = 0.1
POLL = 2.0
_PATIENCE = 0.16
_STEP_MS = 20
_POLL_UNNOTIFIED = 0.2


@dataclass(frozen=True, slots=True)
class Change:
    """The peer set before and after, and what in the directory could not be used."""

    before: PeerSet
    after: PeerSet
    problems: tuple[Problem, ...]

    @property
    def added(self) -> list[str]:
        """Names that are new."""
        return sorted(set(self.after.peers) - set(self.before.peers))

    @property
    def removed(self) -> list[str]:
        """Names that are gone."""
        return sorted(set(self.before.peers) - set(self.after.peers))

    @property
    def changed(self) -> list[str]:
        """Names whose pins or settings changed."""
        both = set(self.before.peers) & set(self.after.peers)
        return sorted(name for name in both if self.before.peers[name] != self.after.peers[name])


async def watch(directory: PeerFiles, on_change: Callable[[Change], None], *, poll: float = POLL) -> None:
    """Keep `directory` fresh and call `on_change` in this loop for every difference, until cancelled."""
    loop = asyncio.get_running_loop()
    seen, reported = directory.current, directory.problems  # not `current` later on: others may refresh it meanwhile

    async def look(notifier: _Notifier, *, settled: bool) -> float:
        nonlocal seen, reported
        started = time.monotonic()
        found = await loop.run_in_executor(None, directory.examine)
        cost = time.monotonic() - started
        if not settled and seen.narrowed_by(found.peers):
            await loop.run_in_executor(None, notifier.settle)
            found = await loop.run_in_executor(None, directory.examine)
        directory.adopt(found)
        if found.peers != seen or found.problems != reported:
            before, seen, reported = seen, found.peers, found.problems
            on_change(Change(before, found.peers, found.problems))
        return cost

    while True:
        places = _identities(directory)
        notifier = _Notifier(places)
        try:
            cost = await look(notifier, settled=False)
            while _identities(directory) == places:
                noticed = await loop.run_in_executor(None, notifier.wait, max(poll, 20 * cost))
                if noticed:
                    await loop.run_in_executor(None, notifier.settle)
                cost = await look(notifier, settled=noticed)
        finally:
            notifier.stop()


def _identities(directory: PeerFiles) -> dict[Path, tuple[int, int]]:
    """The directories to watch with what they are now; a directory that was made anew is another one."""
    found: dict[Path, tuple[int, int]] = {}
    for path in directory.places():
        try:
            status = path.stat()
        except OSError:
            continue
        found[path] = (status.st_dev, status.st_ino)
    return found


class _Notifier:
    """inotify (or what the system has) for some directories, waited for in a thread."""

    def __init__(self, places: dict[Path, tuple[int, int]]) -> None:
        self._stop = threading.Event()
        self._notify: RustNotify | None = None
        try:
            if places:
                self._notify = RustNotify([str(path) for path in places], False, False, 0, False, True)
        except (OSError, RuntimeError):  # no inotify, or its limit of watches is reached: poll
            self._notify = None

    def wait(self, seconds: float) -> bool:
        """Wait for a change; False when the time is over."""
        if self._notify is None:
            self._stop.wait(min(seconds, _POLL_UNNOTIFIED))
            return False
        seen = self._notify.watch(_STEP_MS, _STEP_MS, int(seconds * 1000), self._stop)
        return isinstance(seen, set)

    def settle(self) -> None:
        """Return when nothing has changed for SETTLE seconds, or after _PATIENCE."""
        if self._notify is None:
            self._stop.wait(SETTLE)
            return
        deadline = time.monotonic() + _PATIENCE
        while not self._stop.is_set() and (left := deadline - time.monotonic()) > 0:
            quiet = min(left, SETTLE)
            if not isinstance(self._notify.watch(_STEP_MS, _STEP_MS, max(1, int(quiet * 1000)), self._stop), set):
                return

    def stop(self) -> None:
        """End a wait that is under way."""
        self._stop.set()
        if self._notify is not None:
            self._notify.close()

"""What the system says of changes in some directories: which files, and whether more than these may have changed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from watchfiles._rust_notify import RustNotify

from peerauth.store.peerfiles import PeerFiles
from peerauth.store.records import is_ours

SETTLE = 0.1
_PATIENCE = 0.16
_BREATH = 0.001
_STEP_MS = 20
_MANY = 256  # changes in one go: some may have been lost, the kernel's queue is bounded


class Stopped(Exception):
    """Nobody waits for this any more."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something has changed: these files of the peers directory, and with `more` perhaps others as well."""

    names: tuple[str, ...]
    more: bool


class Notifier:
    """inotify (or what the system has) for some directories, waited for in a thread."""

    def __init__(self, directory: PeerFiles, places: Iterable[Path]) -> None:
        self._directory = directory
        self._stop = threading.Event()
        self._notify: RustNotify | None = None
        self.broken = False
        watched = [str(path) for path in places]
        try:
            if watched:
                self._notify = RustNotify(watched, False, False, 0, False, True)
        except (OSError, RuntimeError):  # no inotify, or its limit of watches is reached: poll
            self._notify = None

    @property
    def blind(self) -> bool:
        """Whether there is nothing that notices changes."""
        return self._notify is None

    def wait(self, seconds: float) -> Notice | None:
        """Wait for a change and until it has settled; None when the time is over.

        Settled: nothing has changed for SETTLE seconds, or _PATIENCE is over.
        """
        if self._notify is None:
            self._stop.wait(seconds)
            return None
        seen = self._changes(seconds)
        if not seen:
            return None
        deadline = time.monotonic() + _PATIENCE
        rests = False
        while not (rests or self._stop.is_set() or self.broken) and (left := deadline - time.monotonic()) > 0:
            more = self._changes(min(left, SETTLE))
            rests = not more
            seen |= more
        return self._notice(seen, restless=not rests)

    def _changes(self, seconds: float) -> set[str]:
        """The paths that have changed when something has, within this time."""
        assert self._notify is not None
        try:
            seen = self._notify.watch(_STEP_MS, _STEP_MS, max(1, int(seconds * 1000)), self._stop)
        except RuntimeError:  # a name that is no text, for instance; it does not recover
            self.broken = True
            return {os.fspath(self._directory.path)}
        return {path for _, path in seen} if isinstance(seen, set) else set()

    def _notice(self, paths: set[str], *, restless: bool) -> Notice:
        """What these paths mean for the files of the peers directory.

        A change beside the directory is of no account where no symbolic link leads there: that the directory itself is
        another one is seen by looking at it.
        """
        directory = self._directory
        here, parent = os.path.abspath(directory.path), os.path.abspath(directory.path.parent)  # noqa: PTH100 - links stay
        names = []
        more = restless or self.broken or len(paths) >= _MANY
        for path in paths:
            place, name = os.path.split(path)
            if place == here and is_ours(name):
                names.append(name)
            elif place not in {here, parent} or path == here or directory.linked:
                more = True
        return Notice(tuple(names), more)

    def stop(self) -> None:
        """End a wait that is under way."""
        self._stop.set()
        if self._notify is not None:
            self._notify.close()

    def breathe(self) -> None:
        """Leave the machine to others for a moment. Raises Stopped when it is time to stop."""
        if self._stop.wait(_BREATH):
            raise Stopped


def identities(directory: PeerFiles) -> dict[Path, tuple[int, int]]:
    """The directories to watch with what they are now; a directory that was made anew is another one."""
    found: dict[Path, tuple[int, int]] = {}
    for path in directory.places():
        try:
            status = path.stat()
        except OSError:
            continue
        found[path] = (status.st_dev, status.st_ino)
    return found

"""The window of pairing on disk, where every process of a node finds it: `state/pairing.json`.

It counts only while the process that opened it lives: killed at any moment, it leaves no open window behind.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from peerauth.errors import BadInput
from peerauth.store.state import State
from peerauth.trust.pairing import SECONDS, Guess, Stage, Window, not_pairing
from peerauth.trust.words import OF_A_CODE, word_list

_NAME = "pairing"
_TRIES = 20  # against somebody who just looks whether the window is open


class Pairing:
    """What the processes of the node that lives in `home` know about its window."""

    def __init__(self, home: Path) -> None:
        self._state = State(home)

    @contextlib.contextmanager
    def opened(self, own: str, name: str | None, tags: tuple[str, ...]) -> Iterator[Window]:
        """A window with a new code, closed with the block. Raises BadInput("already-pairing")."""
        with self._alone():
            now = time.time()
            code = "-".join(secrets.choice(word_list()) for _ in range(OF_A_CODE))
            window = Window(secrets.token_hex(8), code, now + SECONDS, own, name, tags)
            with self._state.changing(_NAME) as noted:
                noted.clear()
                noted.update(window.as_data())
            try:
                yield window
            finally:
                self.close()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        for left in reversed(range(_TRIES)):
            with self._state.alive(_NAME) as so:
                if so:
                    yield
                    return
            if left:
                time.sleep(0.01)
        raise BadInput("already-pairing", "this node is pairing already, in another `peerauth pair`", "end that one first")

    def close(self) -> Window | None:
        """Close the window; what it was at that moment, after which no guess is proven any more."""
        with self._state.changing(_NAME) as noted:
            window = Window.from_data(noted)
            noted.clear()
        return window

    def look(self) -> Window | None:
        """The window as it is now; None when there is none, or its process is gone."""
        if not self._state.is_alive(_NAME):
            return None
        return Window.from_data(self._state.read(_NAME))

    def begin(self, guess: Guess) -> Turn:
        """Let somebody guess: durably noted before this returns. Raises TrustRefused("not-pairing")."""
        window = Window.from_data(self._state.read(_NAME))
        # A stranger who knocks in vain makes no file, and nobody wait for the lock.
        if window is None or not window.is_open(guess.begun) or not self._state.is_alive(_NAME):
            raise not_pairing()
        window = self.change(None, lambda window: window.begin(guess))
        return Turn(self, window, len(window.guesses) - 1)

    def change(self, which: str | None, change: Callable[[Window], Window], *, look: bool = True) -> Window:
        """Change the window durably, while no other process does. Raises TrustRefused("not-pairing") when it is closed.

        `look`: also when its process is gone, which takes some 50 ms to see.
        """
        with self._state.changing(_NAME) as noted:
            window = Window.from_data(noted) if not look or self._state.is_alive(_NAME) else None
            if window is None or which not in (None, window.id):
                raise not_pairing()
            after = change(window)
            noted.update(after.as_data())
            return after


@dataclass(frozen=True, slots=True)
class Turn:
    """One guess that was let to begin. `window`: as it was then."""

    pairing: Pairing
    window: Window
    _number: int

    def advance(self, stage: Stage, name: str = "", reason: str = "") -> None:
        """Note durably what became of it. Raises TrustRefused("not-pairing") when the window is closed to it."""
        now = time.time()
        look = stage is Stage.PROVEN  # of what is done already nothing is lost where nobody is left to read it
        self.pairing.change(self.window.id, lambda window: window.advance(self._number, stage, now, name, reason), look=look)

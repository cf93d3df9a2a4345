"""The window in which this node lets itself be paired with: one code, three guesses, two minutes. Pure.

The rules:
1. Whoever begins to guess has guessed: a guess counts from its beginning, whatever becomes of it. Three are let to begin.
2. A guess ends one way: wrong, or proven. One that is proven ends the window, so one window makes one peer.
3. A guess that is not proven when the two minutes are over is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from peerauth.errors import BadInput, TrustRefused
from peerauth.trust.fingerprint import Fingerprint

SECONDS = 120.0
GUESSES = 3
PATIENCE = 15.0  # seconds after which nothing more is heard of a guess: a visit takes less


class Stage(StrEnum):
    """How far a guess has come."""

    BEGUN = "begun"
    WRONG = "wrong"  # or left, or did not keep to the protocol: from outside these look alike
    PROVEN = "proven"  # the other side knows the code; it is being pinned
    REFUSED = "refused"  # it knows the code, and could not be pinned: `reason` says why
    PINNED = "pinned"  # by us; what the other side has done is not known
    PAIRED = "paired"  # the other side has said that it pinned us, too
    UNHEARD = "unheard"  # it has left without saying so


_NEXT = {
    Stage.BEGUN: {Stage.WRONG, Stage.PROVEN},
    Stage.PROVEN: {Stage.REFUSED, Stage.PINNED},
    Stage.PINNED: {Stage.PAIRED, Stage.UNHEARD},
}


@dataclass(frozen=True, slots=True)
class Guess:
    """Somebody who came to pair: from where, with which certificate, when (seconds of the clock), and what came of it."""

    address: str
    fingerprint: Fingerprint
    begun: float
    stage: Stage = Stage.BEGUN
    name: str = ""  # under which it was pinned
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """One offer to pair. `id` tells it from others; `until` is when it closes, in seconds of the clock."""

    id: str
    code: str
    until: float
    own: str  # what we propose to be called
    name: str | None = None  # what a person of this node calls whoever comes
    tags: tuple[str, ...] = ()
    guesses: tuple[Guess, ...] = ()

    def begin(self, guess: Guess) -> Window:
        """Let somebody guess, who is then the last of `guesses`. Raises TrustRefused("not-pairing")."""
        if not self.is_open(guess.begun):
            raise not_pairing()
        return replace(self, guesses=(*self.guesses, guess))

    def advance(self, number: int, stage: Stage, now: float, name: str = "", reason: str = "") -> Window:
        """Note what became of a guess. Raises TrustRefused("not-pairing") for what is not to come next."""
        guess = self.guesses[number]
        late = stage is Stage.PROVEN and (now >= self.until or self.proven is not None)
        if late or stage not in _NEXT.get(guess.stage, ()):
            raise not_pairing()
        after = replace(guess, stage=stage, name=name or guess.name, reason=reason)
        return replace(self, guesses=(*self.guesses[:number], after, *self.guesses[number + 1 :]))

    def is_open(self, now: float) -> bool:
        """Whether somebody may still begin."""
        return now < self.until and len(self.guesses) < GUESSES and self.proven is None

    def is_settled(self, now: float) -> bool:
        """Whether nothing more can come of it: time or guesses are used up, or all is known of the one that was proven."""
        if self.proven is not None:
            return self.proven.stage not in {Stage.PROVEN, Stage.PINNED} or now >= self.proven.begun + PATIENCE
        return now >= self.until or len(self.wrong(now)) >= GUESSES

    def wrong(self, now: float) -> list[Guess]:
        """The guesses of which nothing comes; of whom nothing is heard for long has left, or the process that heard it."""
        return [
            guess
            for guess in self.guesses
            if guess.stage is Stage.WRONG or (guess.stage is Stage.BEGUN and now >= guess.begun + PATIENCE)
        ]

    @property
    def proven(self) -> Guess | None:
        """Who has shown to know the code."""
        return next((guess for guess in self.guesses if guess.stage not in {Stage.BEGUN, Stage.WRONG}), None)

    def as_data(self) -> dict[str, Any]:
        """The window as JSON has it."""
        guesses = [{**asdict(guess), "fingerprint": guess.fingerprint.digest.hex()} for guess in self.guesses]
        return {**asdict(self), "guesses": guesses}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Window | None:
        """The window in `as_data`; None in anything else."""
        try:
            guesses = tuple(
                Guess(
                    str(one["address"]),
                    Fingerprint.parse(one["fingerprint"]),
                    float(one["begun"]),
                    Stage(one["stage"]),
                    str(one["name"]),
                    str(one["reason"]),
                )
                for one in data["guesses"]
            )
            name, tags = data["name"], tuple(map(str, data["tags"]))
            window, code, own = str(data["id"]), str(data["code"]), str(data["own"])
            return cls(window, code, float(data["until"]), own, name, tags, guesses)
        except (KeyError, TypeError, ValueError, BadInput):
            return None


def not_pairing() -> TrustRefused:
    """The answer to whoever comes when no window is open, or not for them."""
    text = "this node is not pairing now: nobody asked it to, or the time or the guesses are used up"
    return TrustRefused("not-pairing", text, "there: peerauth pair")

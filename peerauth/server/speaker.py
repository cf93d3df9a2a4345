"""What the parent of several workers says: in order, whole lines, at the pace at which it is taken.

Events of the workers are gathered here: what each of them sees for itself is said once, and refusals are bounded over all of
them together as they are for one. While nobody takes what is said, the workers are not listened to, and little waits here.
"""

from __future__ import annotations

import logging
import select
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from peerauth.address import Address
from peerauth.audit import Audit, Event
from peerauth.errors import counted
from peerauth.server.channel import as_event
from peerauth.server.once import Once
from peerauth.server.tally import Totals
from peerauth.store.config import Service
from peerauth.store.tunnels import Tunnel

_TICK = 0.5  # seconds between counts of refusals that were left out
_MOST_UNSAID = 1000

_log = logging.getLogger("peerauth")


class Voice(Protocol):
    """How the parent speaks to people and programs."""

    @property
    def outlet(self) -> int | None:
        """The descriptor that takes what is said, to see whether it would; None where saying never has to wait."""

    def event(self, event: Event) -> None:
        """Something happened."""

    def log(self, text: str) -> None:
        """A library has something to say."""

    def listening(self, what: Service | Tunnel, address: Address) -> None:
        """A service or a tunnel is ready in all workers."""

    def stopping(self, connections: int, drain: float) -> None:
        """So many connections are open and get so many seconds to end."""

    def status(self, totals: Totals) -> None:
        """Somebody asked."""

    def hung_up(self) -> bool:
        """Whether SIGHUP came because the terminal is gone."""


class Speaker:
    """Speaks through a voice, when it is heard."""

    def __init__(self, voice: Voice) -> None:
        self.voice = voice
        self.once = Once(time.monotonic)
        self.due: float | None = None  # when to say how many refusals were left out
        self._unsaid: deque[Callable[[], None]] = deque()
        self._unlisted = 0
        self._audit = Audit(self.say, time.monotonic)

    @property
    def waits(self) -> bool:
        """Whether something is not said yet."""
        return bool(self._unsaid)

    def say(self, event: Event) -> None:
        """Say an event when its turn comes."""
        self.later(lambda: self.voice.event(event))

    def later(self, speech: Callable[[], None]) -> None:
        """Say something when its turn comes, unless too much waits."""
        if len(self._unsaid) < _MOST_UNSAID:
            self._unsaid.append(speech)
        else:
            self._unlisted += 1

    def speak(self) -> None:
        """Say what is heard without waiting."""
        while self._unsaid and self._is_heard():
            try:
                self._unsaid.popleft()()
            except Exception:  # noqa: BLE001 - a closed pipe, a full disk: nobody who comes or goes is to suffer from it
                _log.debug("something could not be said", exc_info=True)
            if not self._unsaid and self._unlisted:
                text = f"{counted(self._unlisted, 'event')} not listed: more came than was read"
                self._unlisted = 0
                self.say(Event("left-out", text))

    def keep_time(self, now: float) -> None:
        """Say how many refusals were left out, when it is time to."""
        if self.due is not None and now >= self.due:
            self.due = None
            self._audit.flush()

    def end(self) -> None:
        """Say what is left to be said, as far as it is heard."""
        self._audit.flush()
        self.speak()

    def pass_on(self, number: int, kind: str, value: Any) -> None:  # noqa: ANN401 - as the worker of this number said it
        """Say what a worker reports."""
        if kind == "log":
            self.later(lambda: self.voice.log(str(value)))
        elif kind == "dropped" and isinstance(value, int):
            text = f"{counted(value, 'event')} of worker {number} not listed: more came than was read"
            self.say(Event("left-out", text, worker=number))
        elif kind == "left_out" and isinstance(value, int):
            self._audit.left_out(value)
            self.due = self.due or time.monotonic() + _TICK
        elif (event := as_event(value, number)) is not None:
            self._pass_on(number, kind, event)

    def _pass_on(self, number: int, kind: str, event: Event) -> None:
        if kind == "event":
            self.say(event)
        elif kind == "refused":
            self._audit.refused(event)
            self.due = self.due or time.monotonic() + _TICK
        elif kind == "common" and self.once.is_news(number, (event.event, event.peer or event.message, event.code)):
            self.say(replace(event, worker=None))

    def _is_heard(self) -> bool:
        if self.voice.outlet is None:
            return True
        poll = select.poll()
        poll.register(self.voice.outlet, select.POLLOUT)
        return bool(poll.poll(0))

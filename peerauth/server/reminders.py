"""Reminders: certificates that end soon are spoken of in time, our own and those of the peers.

The rules:
1. Once for each certificate and level (30, 14, 7, 1 days, expired), restarts included: what was said is noted in `state/`.
   Where nothing can be noted, the next process says it again. Our own certificate that has expired is named at every start.
2. Twenty at a time, those that end first; of the others it is said how many there are. Of more than can be noted it is said
   once a day.
3. A look opens no file and takes no time of the loop: when certificates end is known since their files were read. A thread
   goes through that once a day; and when peers come, through these alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from typing import Any, Final

from peerauth.audit import Event
from peerauth.errors import PeerAuthError, counted
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.state import State
from peerauth.trust import expiry
from peerauth.trust.certificate import Certificate
from peerauth.trust.expiry import Ending

NOTED: Final = "expiry"  # the file in state/: by the beginning of a fingerprint, the lowest level that was spoken of
AT_ONCE: Final = 20
MOST_NOTED: Final = 2000
EVERY: Final = timedelta(days=1)
_NAP: Final = 900.0  # seconds between looks at the clock: a machine that slept misses nothing
_KEY: Final = 16  # hexadecimal digits of a fingerprint
_MORE: Final = "more"  # in the note: on which day there were more than can be noted
_US: Final = ""  # stands for this node among the names of peers, of which none is empty


class Reminders:
    """The reminders of one node. `own` gives its certificate; `state` is where it is noted what was said."""

    def __init__(
        self,
        own: Callable[[], Certificate],
        peers: PeerDirectory,
        state: State | None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._own, self._peers, self._state, self._now = own, peers, state, now
        self._said: dict[str, Any] = {}  # where there is no state
        self._started = False
        self._come: set[str] = set()
        self._asked = asyncio.Event()

    def look_at(self, names: Iterable[str]) -> None:
        """These peers have come, or changed."""
        self._come.update(names)
        self._asked.set()

    async def follow(self, say: Callable[[Event], None]) -> None:
        """Say in this loop what is to be said, until cancelled."""
        looked: datetime | None = None
        while True:
            names, self._come = self._come, set()
            self._asked.clear()
            now = self._now()
            if looked is None or not looked <= now < looked + EVERY:  # also where the clock was set back
                looked = now
                due = await asyncio.to_thread(self.due)
            else:
                due = await asyncio.to_thread(self.due, names) if names else []
            for event in due:
                say(event)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_NAP):  # wait_for may swallow a cancellation, until Python 3.12
                    await self._asked.wait()

    def due(self, names: Iterable[str] | None = None) -> list[Event]:
        """What is to be said now about these peers, or about everybody and ourselves. It counts as said."""
        now, everybody = self._now(), names is None
        count = itertools.count()
        endings = self._peers.endings(now + timedelta(days=max(expiry.LEVELS)), names)
        found = nsmallest(MOST_NOTED, (ending for ending, _ in zip(endings, count, strict=False)), key=_urgency)
        more = next(count) - len(found)
        found = [*(self._ourselves(now) if everybody else ()), *found]
        levels = {_key(ending): expiry.level(ending.not_after, now) for ending in found}
        near = {key: level for key, level in levels.items() if level is not None}
        news = self._noted(near, f"{now:%Y-%m-%d}" if more else None, everybody=everybody)
        if everybody and not self._started:
            self._started = True
            news |= {key for ending in found if ending.name == _US and levels[key := _key(ending)] == expiry.EXPIRED}
        return _events([ending for ending in found if _key(ending) in news], more if _MORE in news else 0, now)

    def _ourselves(self, now: datetime) -> list[Ending]:
        certificate = self._own()
        if expiry.level(certificate.not_after, now) is None:
            return []
        return [Ending(_US, certificate.fingerprint, int(certificate.not_after.timestamp()))]

    def _noted(self, levels: dict[str, int], crowded: str | None, *, everybody: bool) -> set[str]:
        """Those of these certificates that have a lower level than was spoken of; from now on it was.

        `crowded`: today, if there are more than can be noted; that is news once a day.
        """
        if self._state is not None:
            if not levels and not self._state.read(NOTED):
                return set()  # most nodes, most of the time: nothing is written
            with contextlib.suppress(PeerAuthError, OSError), self._state.changing(NOTED) as said:
                return _news(said, levels, crowded, everybody=everybody)
        return _news(self._said, levels, crowded, everybody=everybody)


def _news(said: dict[str, Any], levels: dict[str, int], crowded: str | None, *, everybody: bool) -> set[str]:
    news = {key for key, level in levels.items() if not isinstance(before := said.get(key), int) or level < before}
    if everybody:
        for key in said.keys() - levels.keys() - {_MORE}:  # gone, or renewed
            del said[key]
    said.update((key, levels[key]) for key in news)
    if crowded is not None and said.get(_MORE) != crowded:
        said[_MORE] = crowded
        news.add(_MORE)
    return news


def _urgency(ending: Ending) -> tuple[bool, int, str]:
    return ending.name != _US, ending.seconds, ending.name


def _key(ending: Ending) -> str:
    return ending.fingerprint.digest.hex()[:_KEY]


def _events(endings: list[Ending], more: int, now: datetime) -> list[Event]:
    events = [_event(ending, now) for ending in endings[:AT_ONCE]]
    more += max(0, len(endings) - AT_ONCE)
    if more:
        text = f"{counted(more, 'more certificate')} that {'ends' if more == 1 else 'end'} soon, or ended already"
        events.append(Event("expires", text, "to see them all: peerauth status", code="expires-soon"))
    return events


def _event(ending: Ending, now: datetime) -> Event:
    peer = None if ending.name == _US else ending.name
    whose = "this node's certificate" if peer is None else f"the certificate of {peer}"
    return Event(
        "expires",
        f"{whose} {expiry.sentence(ending.not_after, now)}",
        expiry.advice(peer, ending.not_after, now),
        peer=peer,
        fingerprint=str(ending.fingerprint),
        code="expired" if expiry.level(ending.not_after, now) == expiry.EXPIRED else "expires-soon",
        days_left=expiry.days_left(ending.not_after, now),
    )

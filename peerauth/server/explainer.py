"""Where somebody who is not admitted hears why, in HTTP: one request, whatever it is, has one answer, and that was all.

Only a service with `on_unknown = "explain"` has strangers sent here. Nothing leads from here to a service: there is no peer,
no guest and no handler, and what is read is looked at by `http/explanation.py` alone. A place is taken in the handshake,
when somebody is refused, for SECONDS, however soon its visitor leaves: this bounds how many are here at once, and how many
a second. Who finds no place is refused by TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from peerauth.errors import PeerAuthError
from peerauth.http.explanation import END_OF_HEAD, LONGEST_HEAD, explanation
from peerauth.server.arrivals import Arrival
from peerauth.tls.linger import linger
from peerauth.tls.session import RECORD, Session, Wait
from peerauth.tls.waiting import ready
from peerauth.trust.decision import Refused
from peerauth.trust.notice import Notice, notice

SECONDS: Final = 10.0  # for a whole visit, and for its place
MOST: Final = 256
MOST_OF_A_SOURCE: Final = 32


class _Places:
    """Those that are taken, by source. Safe in any thread: they are taken in the threads that shake hands."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: deque[tuple[float, str]] = deque()  # until when, and by which source; the first to be free comes first
        self._of_source: Counter[str] = Counter()

    def is_left(self, source: str) -> bool:
        """Whether there is one for this source."""
        with self._lock:
            return self._is_left(source, time.monotonic())

    def take(self, source: str) -> float | None:
        """Until when the place is taken; None if there was none left."""
        with self._lock:
            now = time.monotonic()
            if not self._is_left(source, now):
                return None
            ends = now + SECONDS
            self._taken.append((ends, source))
            self._of_source[source] += 1
            return ends

    def _is_left(self, source: str, now: float) -> bool:
        while self._taken and self._taken[0][0] <= now:
            left = self._taken.popleft()[1]
            self._of_source[left] -= 1
            if not self._of_source[left]:
                del self._of_source[left]
        return len(self._taken) < MOST and self._of_source.get(source, 0) < MOST_OF_A_SOURCE


class Place:
    """The place of one handshake, once it is taken."""

    __slots__ = ("_places", "_source", "ends")

    def __init__(self, places: _Places, source: str) -> None:
        self._places, self._source = places, source
        self.ends = 0.0

    def is_left(self) -> bool:
        """As Room.is_left."""
        return self._places.is_left(self._source)

    def take(self) -> bool:
        """As Room.take."""
        ends = self._places.take(self._source)
        if ends is not None:
            self.ends = ends
        return ends is not None


class Explainer:
    """The visitors of one server, in the running loop. `remembers`: strangers can be approved by their fingerprint."""

    def __init__(self, *, remembers: Callable[[], bool]) -> None:
        self._remembers = remembers
        self._loop = asyncio.get_running_loop()
        self._visits: set[asyncio.Task[None]] = set()
        self._places = _Places()

    def __len__(self) -> int:
        return len(self._visits)

    def has_room(self, source: str) -> bool:
        """Whether one more of this source would be told. May be asked in any thread."""
        return self._places.is_left(source)

    def place(self, source: str) -> Place:
        """Room for somebody of this source, which nobody has taken yet."""
        return Place(self._places, source)

    def receive(self, arrival: Arrival, session: Session, refused: Refused) -> None:
        """Take over a connection whose handshake is done, and which `refused` keeps out. Raises NotAdmitted."""
        certificate = session.dismiss()
        assert session.room is not None
        left = session.room.ends - time.monotonic()  # a handshake may have taken its time
        told = notice(refused, certificate, remembered=self._remembers())
        visit = self._loop.create_task(_Visit(self._loop, arrival.sock, session).tell(told, left))
        self._visits.add(visit)
        visit.add_done_callback(functools.partial(self._over, arrival.sock))

    def _over(self, sock: socket.socket, visit: asyncio.Task[None]) -> None:
        self._visits.discard(visit)
        if visit.cancelled():  # perhaps before it began
            sock.close()

    async def close(self) -> None:
        """End every visit."""
        visits = list(self._visits)
        for visit in visits:
            visit.cancel()
        await asyncio.gather(*visits, return_exceptions=True)


class _Visit:
    """One connection, of which as much is read as one answer needs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, session: Session) -> None:
        self._loop, self._sock, self._session = loop, sock, session

    async def tell(self, told: Notice, seconds: float) -> None:
        """Answer the first request, within so many seconds, and close."""
        try:
            async with asyncio.timeout(seconds):
                head = await self._head()
                await self._write(explanation(told, head, self._session.own_mark(), datetime.now(UTC)))
        except (OSError, PeerAuthError):  # it has left, or takes too long; TimeoutError is an OSError
            self._sock.close()
        except Exception:
            self._sock.close()
            raise
        else:
            with contextlib.suppress(PeerAuthError, OSError):
                self._session.say_goodbye()
            linger(self._loop, self._sock)

    async def _head(self) -> bytes:
        """The head of the first request, or as much of one as there is: who asks for nothing is told all the same."""
        head = b""
        while END_OF_HEAD not in head and len(head) < LONGEST_HEAD:
            piece = self._session.read(RECORD)
            if isinstance(piece, Wait):
                await ready(self._loop, self._sock, piece)
            elif piece:
                head += piece
            else:
                break
        return head.partition(END_OF_HEAD)[0]

    async def _write(self, answer: bytes) -> None:
        data = memoryview(answer)
        while data:
            taken = self._session.write(data[:RECORD])
            if isinstance(taken, Wait):
                await ready(self._loop, self._sock, taken)
            else:
                data = data[taken:]

"""Those who have connected and are not admitted yet: bounded in number, time and memory, whoever they are.

A socket that says nothing costs no TLS state. When there are too many, the source that has most loses its oldest, so that
one source's idle sockets never push out another's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from peerauth.tls.session import NotAdmitted, Session, Wait
from peerauth.trust.decision import Address, Admitted, Refused


class TurnedAway(Exception):
    """There was no room for this one."""


class Arrival:
    """One connection on its way through the handshake."""

    __slots__ = (
        "_at_work",
        "_hall",
        "_loop",
        "_timer",
        "_watched",
        "finished",
        "remote",
        "session",
        "shown",
        "sock",
        "source",
    )

    def __init__(self, hall: Arrivals, sock: socket.socket, remote: Address | None, shown: str) -> None:
        self._hall = hall
        self._loop = hall.loop
        self.sock = sock
        self.remote = remote
        self.shown = shown
        self.source = source_of(remote)
        self.session: Session | None = None
        self.finished = False
        self._at_work = False
        self._watched: Wait = Wait.NOTHING
        self._timer = self._loop.call_later(hall.timeout, self._too_slow)
        self._watch(Wait.READABLE)

    def _watch(self, wait: Wait) -> None:
        if self._watched is wait:
            return
        self._unwatch()
        self._watched = wait
        if wait is Wait.READABLE:
            self._loop.add_reader(self.sock.fileno(), self._step)
        elif wait is Wait.WRITABLE:
            self._loop.add_writer(self.sock.fileno(), self._step)

    def _unwatch(self) -> None:
        if self._watched is Wait.READABLE:
            self._loop.remove_reader(self.sock.fileno())
        elif self._watched is Wait.WRITABLE:
            self._loop.remove_writer(self.sock.fileno())
        self._watched = Wait.NOTHING

    def _step(self) -> None:
        self._unwatch()
        if self.session is None:
            self.session = self._hall.new_session(self)
        self._at_work = True
        self._hall.submit(self.source, self._work, self._dropped)

    def _work(self) -> None:
        """In a thread: one step of the handshake."""
        outcome: Wait | Exception
        try:
            outcome = Wait.NOTHING if self.session is None or self.finished else self.session.handshake()
        except Exception as error:  # noqa: BLE001 - carried to the loop, which tells the kinds apart
            outcome = error
        try:
            self._loop.call_soon_threadsafe(self._worked, outcome)
        except RuntimeError:  # the loop has ended meanwhile
            self.sock.close()

    def _worked(self, outcome: Wait | Exception) -> None:
        self._at_work = False
        if self.finished:  # it timed out while a thread had it
            self.sock.close()
        elif isinstance(outcome, Exception):
            self._end(outcome)
        elif outcome is not Wait.NOTHING:
            self._watch(outcome)
        else:
            assert self.session is not None
            try:
                admitted = self.session.confirm()
            except NotAdmitted as refused:
                self._end(refused)
            else:
                self._leave()
                self._hall.admitted(self, self.session, admitted)

    def _too_slow(self) -> None:
        began = self.session is not None
        self._end(
            TimeoutError(f"it did not finish the handshake in {self._hall.timeout:g} s" if began else "it said nothing")
        )

    def _dropped(self) -> None:
        self._loop.call_soon(self._worked, TurnedAway("too many handshakes from this address are waiting"))

    def review(self) -> None:
        """End the handshake of a peer that has shown its certificate and is not admitted any more (promise 2)."""
        if self.session is None or not isinstance(self.session.decision, Admitted):
            return
        decision = self.session.judge(self.session.certificate)
        if isinstance(decision, Refused):
            self._end(NotAdmitted(decision))

    def push_out(self) -> None:
        """Make room for somebody else."""
        self._end(TurnedAway("too many connections are waiting for a handshake"))

    def _end(self, error: Exception) -> None:
        if self.finished:
            return
        self._leave()
        self._hall.failed(self, error)
        if self._at_work:
            return  # a thread has it; it is closed when it comes back
        if isinstance(error, NotAdmitted):
            self._hall.linger(self.sock)
        else:
            self.sock.close()

    def _leave(self) -> None:
        self.finished = True
        self._timer.cancel()
        self._unwatch()
        self._hall.leave(self)


class Arrivals:
    """Everyone in the handshake, over all listeners of a server that share a service."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        limit: int,
        timeout: float,
        new_session: Callable[[Arrival], Session],
        submit: Callable[[str, Callable[[], None], Callable[[], None]], None],
        admitted: Callable[[Arrival, Session, Admitted], None],
        failed: Callable[[Arrival, Exception], None],
        linger: Callable[[socket.socket], None],
    ) -> None:
        self.loop = loop
        self.timeout = timeout
        self.new_session = new_session
        self.submit = submit
        self.admitted = admitted
        self.failed = failed
        self.linger = linger
        self._limit = limit
        self._count = 0
        self._by_source: dict[str, dict[Arrival, None]] = {}

    def __len__(self) -> int:
        return self._count

    def enter(self, sock: socket.socket, remote: Address | None, shown: str) -> None:
        """Take in a fresh non-blocking socket."""
        if self._count >= self._limit:
            self.make_room()
        arrival = Arrival(self, sock, remote, shown)
        self._by_source.setdefault(arrival.source, {})[arrival] = None
        self._count += 1

    def make_room(self) -> bool:
        """Push out the oldest of the source that has most; False when there is nobody."""
        if not self._by_source:
            return False
        fullest = max(self._by_source.values(), key=len)
        next(iter(fullest)).push_out()
        return True

    def review(self) -> None:
        """Decide again about everyone who has shown a certificate."""
        for of_source in list(self._by_source.values()):
            for arrival in list(of_source):
                arrival.review()

    def leave(self, arrival: Arrival) -> None:
        """Forget an arrival that is done."""
        of_source = self._by_source.get(arrival.source, {})
        if arrival in of_source:
            del of_source[arrival]
            self._count -= 1
            if not of_source:
                del self._by_source[arrival.source]

    def close(self) -> None:
        """Send everyone away."""
        for of_source in list(self._by_source.values()):
            for arrival in list(of_source):
                arrival.push_out()


def source_of(remote: Address | None) -> str:
    """What counts as one source: an IPv4 address, an IPv6 /64 (what one customer commonly has), or the Unix socket."""
    if remote is None:
        return "unix"
    if remote.version == 6 and remote.ipv4_mapped is None:
        return str(int(remote) >> 64)
    return str(remote)

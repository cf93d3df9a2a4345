"""Where strangers are met: threads beside the loop that accept, shake hands, and send away.

An RSA-4096 handshake takes a millisecond or two of computing that releases the interpreter, and before it is done nobody
knows who is there. So the loop hears of a connection when its handshake is done, and not before (decision 0004). Who is
ready to go on is served in turn by source. An arrival is one thread's alone; what others want of it goes through `call`.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from peerauth.net.reach import tune
from peerauth.net.readiness import readiness
from peerauth.net.sockets import remote_of
from peerauth.rate import Bucket
from peerauth.server.arrivals import Arrival, Arrivals, TurnedAway, source_of
from peerauth.server.fairness import FairQueue
from peerauth.tls.session import NotAdmitted, Wait
from peerauth.trust.decision import Admitted, Refused

if TYPE_CHECKING:
    from peerauth.server.listener import Listener

_ACCEPT_AT_ONCE: Final = 64
_log = logging.getLogger("peerauth")

_PER_SOURCE: Final = 256
_REST: Final = 0.05  # seconds without accepting when the process has no descriptors left
_GIVEN_UP: Final = 8  # arrivals of each porter that are sent away then
_MOST_THREADS: Final = 4
_TOGETHER: Final = 0.001  # seconds that one who is done may wait for the next who is

Tell = Callable[
    [list[tuple[Arrival, Exception | None]]], None
]  # who is done (None), or has failed; called in a porter's thread


class Porch:
    """A few porters; the first accepts, and hands out to all in turn.

    `limit` is how many may be in the handshake in all, `timeout` how many seconds each may take; the processors are for this
    many `workers` together. `tell` hears, in a porter's thread, of those who are through, and of those who have failed.
    """

    def __init__(self, limit: int, timeout: float, tell: Tell, workers: int = 1) -> None:
        count = max(1, min(_MOST_THREADS, processors() // workers, limit))
        self._porters = [Porter(self, number, -(-limit // count), timeout, tell) for number in range(count)]
        self._turns = itertools.cycle(self._porters)
        for porter in self._porters:
            porter.start()

    def __len__(self) -> int:
        return sum(len(porter.arrivals) for porter in self._porters)

    def __iter__(self) -> Iterator[Arrival]:
        """Everyone who is in the handshake."""
        return itertools.chain.from_iterable(porter.arrivals for porter in self._porters)

    def open(self, door: Listener, sockets: list[socket.socket]) -> None:
        """Begin to accept at these sockets, for this door."""
        first = self._porters[0]
        first.call(lambda: first.open(door, sockets))

    def leave(self, sockets: list[socket.socket]) -> None:
        """Accept at these sockets no more; returns when it is so. Who came in there goes on."""
        first = self._porters[0]
        first.call_and_wait(lambda: first.leave([sock.fileno() for sock in sockets]))

    def shut(self, door: Listener) -> None:
        """Accept no more there, and send away who waits; returns when it is so."""
        for porter in self._porters:
            porter.call_and_wait(lambda porter=porter: porter.shut(door))  # type: ignore[misc]

    def review(self) -> None:
        """Decide again about everyone who has shown a certificate (promise 2)."""
        for porter in self._porters:
            porter.call(porter.review)

    def bound(self, limit: int, timeout: float) -> None:
        """So many may be in the handshake from now on, and whoever comes from now on may take so long."""
        each = -(-limit // len(self._porters))
        for porter in self._porters:
            porter.call(lambda porter=porter: porter.bound(each, timeout))  # type: ignore[misc]

    def next_porter(self) -> Porter:
        """Whose turn it is to take somebody in."""
        return next(self._turns)

    def make_room(self) -> None:
        """Have every porter send some away: the process has no descriptors left."""
        for porter in self._porters:
            porter.call(lambda porter=porter: porter.make_room(_GIVEN_UP))  # type: ignore[misc]

    def close(self) -> None:
        """End the threads."""
        for porter in self._porters:
            porter.close()


class Porter(threading.Thread):
    """One thread, its arrivals, and what it waits for."""

    def __init__(self, porch: Porch, number: int, limit: int, timeout: float, tell: Tell) -> None:
        super().__init__(name=f"handshake-{number}", daemon=True)
        self._porch = porch
        self.arrivals = Arrivals(limit)
        self._timeout = timeout
        self._tell = tell
        self._ready: FairQueue[Arrival] = FairQueue(_PER_SOURCE)
        self._readiness = readiness()
        self._doors: dict[int, tuple[Listener, socket.socket]] = {}
        self._resting: deque[tuple[float, socket.socket]] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._readiness.always(self._woken.fileno())
        self._finished: list[tuple[Arrival, Exception | None]] = []
        self._hand_over_by = 0.0
        self._troubles = Bucket(3, 0.1, time.monotonic)
        self._closed = False

    # From other threads

    def call(self, what: Callable[[], None]) -> None:
        """Have this done in the thread, soon."""
        self._calls.append(what)
        with contextlib.suppress(OSError):  # it will wake up from what is there already, or has ended
            self._wake.send(b"\0")

    def call_and_wait(self, what: Callable[[], None]) -> None:
        """Have this done in the thread, and wait for it, if it has not ended."""
        if not self.is_alive():
            return
        done = threading.Event()

        def both() -> None:
            what()
            done.set()

        self.call(both)
        done.wait(5.0)

    def close(self) -> None:
        """End the thread."""
        self.call(self._close)
        self.join(5.0)

    # In the thread

    def run(self) -> None:
        """Serve until closed."""
        with contextlib.suppress(AttributeError, OSError):  # Linux only, and only where it is allowed
            # Whoever is in comes first: a handshake that can go on does not interrupt the loop (sched(7)).
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_BATCH, os.sched_param(0))
        while not self._closed:
            try:
                self._turn()
            except Exception:  # noqa: BLE001 - a door without its porter would be shut, and nobody would know
                if self._troubles.take():
                    _log.exception("a porter failed, and goes on")
                time.sleep(_REST)
        self._hand_over()
        self._readiness.close()
        self._wake.close()
        self._woken.close()

    def _turn(self) -> None:
        for fd in self._readiness.wait(self._patience()):
            self._on_ready(fd)
        while self._calls:
            self._calls.popleft()()
        self._send_away_the_late()
        arrival = self._ready.pop()
        if arrival is not None:
            self._step(arrival)
        if self._finished and (not self._ready or time.monotonic() >= self._hand_over_by):
            self._hand_over()

    def open(self, door: Listener, sockets: list[socket.socket]) -> None:
        """Accept at these sockets, for this door."""
        for sock in sockets:
            self._doors[sock.fileno()] = door, sock
            self._readiness.always(sock.fileno())

    def leave(self, listening: list[int]) -> None:
        """Accept at these descriptors no more."""
        for fd in listening:
            if self._doors.pop(fd, None) is not None:
                self._readiness.forget(fd)

    def shut(self, door: Listener) -> None:
        """Do not accept there any more, and send away who came in there."""
        self.leave([fd for fd, (its, _) in self._doors.items() if its is door])
        for arrival in self.arrivals:
            if arrival.door is door:
                self._fail(arrival, TurnedAway("this server stops"))

    def review(self) -> None:
        """Decide again about everyone who has shown a certificate."""
        for arrival in self.arrivals:
            session = arrival.session
            if session is not None and isinstance(session.decision, Admitted):
                decision = session.judge(session.certificate)
                if isinstance(decision, Refused):
                    self._fail(arrival, NotAdmitted(decision))

    def _close(self) -> None:
        self._closed = True

    def _patience(self) -> float | None:
        if self._ready or self._calls:
            return 0
        oldest = self.arrivals.oldest
        moments = [moment for moment, _ in self._resting]
        if oldest is not None:
            moments.append(oldest.deadline)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _on_ready(self, fd: int) -> None:
        arrival = self.arrivals.at(fd)
        if arrival is not None:
            fallen = self._ready.push(arrival.source, arrival)
            if fallen is not None:
                self._fail(fallen, TurnedAway("too many handshakes from this address are waiting"))
        elif fd in self._doors:
            self._accept(*self._doors[fd])
        elif fd == self._woken.fileno():
            with contextlib.suppress(BlockingIOError):
                while self._woken.recv(4096):
                    pass

    def _accept(self, door: Listener, listening: socket.socket) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                sock, where = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptors left: rest instead of spinning, and let the fullest sources give some up
                self._readiness.forget(listening.fileno())
                self._resting.append((time.monotonic() + _REST, listening))
                self._porch.make_room()
                return
            sock.setblocking(False)
            tune(sock)
            remote, shown = remote_of(where)
            arrival = Arrival(door, sock, remote, shown, source_of(remote), time.monotonic() + self._timeout)
            porter = self._porch.next_porter()
            if porter is self:
                self.take_in(arrival)
            else:
                porter.call(lambda porter=porter, arrival=arrival: porter.take_in(arrival))  # type: ignore[misc]

    def bound(self, limit: int, timeout: float) -> None:
        """See Porch.bound."""
        self.arrivals.limit, self._timeout = limit, timeout

    def take_in(self, arrival: Arrival) -> None:
        """Begin with a fresh connection."""
        if self.arrivals.is_full:
            self.make_room()
        self.arrivals.enter(arrival)
        self._readiness.once(arrival.sock.fileno())

    def make_room(self, count: int = 1) -> None:
        """The oldest of the source that has most must go; so many times."""
        for _ in range(count):
            unlucky = self.arrivals.dispensable()
            if unlucky is None:
                return
            self._fail(unlucky, TurnedAway("too many connections are waiting for a handshake"))

    def _send_away_the_late(self) -> None:
        now = time.monotonic()
        while self._resting and self._resting[0][0] <= now:
            _, listening = self._resting.popleft()
            if listening.fileno() in self._doors:
                self._readiness.forget(listening.fileno())  # it may have been left and opened again meanwhile
                self._readiness.always(listening.fileno())
        while (late := self.arrivals.oldest) is not None and late.deadline <= now:
            slow = f"it did not finish the handshake in {self._timeout:g} s"
            self._fail(late, TimeoutError(slow if late.session is not None else "it said nothing"))

    def _step(self, arrival: Arrival) -> None:
        if self.arrivals.at(arrival.sock.fileno()) is not arrival:
            return  # it has failed while it waited for its turn
        try:
            if arrival.session is None:
                arrival.session = arrival.door.new_session(arrival)
            wait = arrival.session.handshake()
        except Exception as error:  # noqa: BLE001 - carried to the loop, which tells the kinds apart
            self._fail(arrival, error)
            return
        if wait is Wait.NOTHING:
            self._finish(arrival, None)
        else:
            self._readiness.once(arrival.sock.fileno(), writable=wait is Wait.WRITABLE, again=True)

    def _fail(self, arrival: Arrival, error: Exception) -> None:
        self._readiness.forget(arrival.sock.fileno())
        self._finish(arrival, error)

    def _finish(self, arrival: Arrival, error: Exception | None) -> None:
        self.arrivals.leave(arrival)
        if not self._finished:
            self._hand_over_by = time.monotonic() + _TOGETHER
        self._finished.append((arrival, error))

    def _hand_over(self) -> None:
        """Tell the loop, of several at once where there are several: to wake it costs as much as a small handshake."""
        finished, self._finished = self._finished, []
        if finished:
            self._tell(finished)


def processors() -> int:
    """How many processors this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1

"""What goes out at an end, in order. What the end does not take waits; whoever sends holds back until it is free again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from peerauth.services.ends import End
from peerauth.tls.scratch import Scratch


class Outlet:
    """The way out of one end. `free` is called when nothing waits any more, `broken` when what waited could not go."""

    __slots__ = ("_broken", "_end", "_free", "_waiting")

    def __init__(self, end: End, free: Callable[[], None], broken: Callable[[Exception], None]) -> None:
        self._end = end
        self._free = free
        self._broken = broken
        self._waiting: deque[bytes] = deque()

    @property
    def busy(self) -> bool:
        """Whether something waits."""
        return bool(self._waiting)

    @property
    def waiting(self) -> int:
        """How many bytes wait."""
        return sum(map(len, self._waiting))

    def send(self, data: bytes) -> None:
        """Send this, now or when it goes. Raises what the end raises."""
        if not data:
            return
        if self._waiting:
            self._waiting.append(data)
            return
        taken = self._end.offer(data)
        if taken != len(data):
            self._wait(data[taken:])

    def pass_on(self, buffer: Scratch, size: int) -> None:
        """Send the first `size` bytes of `buffer`, as `send`."""
        if self._waiting:
            self._waiting.append(bytes(buffer.view[:size]))
            return
        taken = self._end.put(buffer, size)
        if taken != size:
            self._wait(bytes(buffer.view[taken:size]))

    def _wait(self, data: bytes) -> None:
        self._waiting.append(data)
        self._end.when_writable(self._writable)

    def _writable(self) -> None:
        waiting = self._waiting
        try:
            while waiting:
                taken = self._end.offer(waiting[0])
                if taken != len(waiting[0]):
                    waiting[0] = waiting[0][taken:]
                    self._end.when_writable(self._writable)
                    return
                waiting.popleft()
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing goes out here any more
            self._broken(error)
            return
        self._free()

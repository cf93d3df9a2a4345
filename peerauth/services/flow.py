"""One direction of a relay: what its source says goes to its sink, through memory that all relays of a loop share.

Backpressure: what the sink does not take at once (256 KB at most) waits, and until it is gone the source is not read. So a
direction costs a bounded amount of memory, and none while it keeps up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

from peerauth.services.ends import End
from peerauth.tls.scratch import Scratch
from peerauth.tls.session import RECORD, Goodbye, Stop, Wait

_LAST_FILLS = 16


class Owner(Protocol):
    """Whose flow it is, and who is told of its end: once, by one of these."""

    def ended(self, flow: Flow) -> None:
        """The source has said goodbye, and it was passed on."""

    def lost(self, flow: Flow, error: Exception) -> None:
        """The source broke."""

    def deaf(self, flow: Flow, error: Exception) -> None:
        """The sink broke."""


class Flow:
    """From `source` to `sink`. `passed` hears whose small message has gone through, by the owner's id."""

    __slots__ = ("_buffer", "_owner", "_passed", "_sink", "_source", "_stop", "_whose", "pending")

    def __init__(
        self, owner: Owner, buffer: Scratch, source: End, sink: End, passed: Callable[[int], None] = lambda _: None
    ) -> None:
        self._owner = owner
        self._buffer = buffer
        self._source = source
        self._sink = sink
        self._passed = passed
        self._whose = id(owner)
        self.pending = b""  # what the sink did not take
        self._stop: Stop = None  # what stopped the reading of what is pending

    def start(self, first: bytes = b"") -> None:
        """Listen to the source, once the sink has taken `first`."""
        if first:
            self.pending = first
            self._writable()
        else:
            self._source.when_readable(self._readable)

    def _readable(self) -> None:
        buffer = self._buffer
        size, stop = self._source.fill(buffer)
        if size:
            try:
                taken = self._sink.put(buffer, size)
            except Exception as error:  # noqa: BLE001 - whatever it is, this direction has ended
                self._owner.deaf(self, error)
                return
            if taken != size:
                self.pending = bytes(buffer.view[taken:size])
                self._stop = stop
                self._source.when_readable(None)
                self._sink.when_writable(self._writable)
                return
            if size < RECORD:
                self._passed(self._whose)
        if stop is not None:
            self._stopped(stop)

    def _writable(self) -> None:
        try:
            taken = self._sink.offer(self.pending)
        except Exception as error:  # noqa: BLE001 - as above
            self._owner.deaf(self, error)
            return
        self.pending = self.pending[taken:]
        if self.pending:
            self._sink.when_writable(self._writable)
            return
        stop, self._stop = self._stop, None
        if stop is None:
            self.start()
        else:
            self._stopped(stop)

    def _stopped(self, stop: Stop) -> None:
        if isinstance(stop, Goodbye):
            self._source.when_readable(None)
            self._pass_on_goodbye()
        elif isinstance(stop, Exception):
            self._owner.lost(self, stop)
        elif stop is Wait.WRITABLE:  # TLS has something of its own to send before it reads on
            self._source.when_readable(None)
            self._source.when_writable(self.start)
        else:
            self.start()

    def last_words(self) -> None:
        """Pass on at once what the source has said already; no more follows."""
        if self.pending:
            return  # it goes no further, and nothing goes around it
        with contextlib.suppress(Exception):
            for _ in range(_LAST_FILLS):
                size, stop = self._source.fill(self._buffer)
                if (size and self._sink.put(self._buffer, size) != size) or stop is not None:
                    return

    def _pass_on_goodbye(self) -> None:
        try:
            done = self._sink.end()
        except Exception as error:  # noqa: BLE001 - as above
            self._owner.deaf(self, error)
            return
        if done:
            self._owner.ended(self)
        else:
            self._sink.when_writable(self._pass_on_goodbye)

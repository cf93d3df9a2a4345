"""Between a worker and its parent: lines of JSON one way, words of command the other way.

A worker never waits for its parent: what the parent does not read in time is thrown away and counted, but for the few words
that it waits for. A line that is too long, or that nobody understands, is dropped where it is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from peerauth.audit import Audit, Event
from peerauth.errors import printable

LONGEST_LINE = 64 << 10  # bytes
_LONGEST_TEXT = 600  # characters of one field: an event then fits into a pipe whole, mostly (PIPE_BUF, pipe(7))
_LONGEST_LOG = 8000
_ASKED_FOR = {"ready", "failed", "prepared", "gone-over", "left"}
_WAITING = 256 << 10  # bytes that may wait for the parent
_LAST_WORDS = 1.0  # seconds that a worker gives its parent at the end


class Outbox:
    """A worker's end: messages to the parent, in the running loop. `post` may be called from any thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._watched = False

    def post(self, kind: str, value: object) -> None:
        """Send a message, or drop it when too many wait and this is none that the parent has asked for."""
        if threading.get_ident() != self._thread:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self.post, kind, value)
            return
        line = json.dumps({kind: value}).encode() + b"\n"
        if (self._bytes + len(line) > _WAITING and kind not in _ASKED_FOR) or len(line) > LONGEST_LINE:
            self._dropped += 1
            return
        self._push(line)
        self._send()

    def close(self) -> None:
        """Give the parent a moment to take what waits."""
        self._unwatch()
        self._sock.settimeout(_LAST_WORDS)
        with contextlib.suppress(OSError):
            self._sock.sendall(b"".join(self._waiting))
        self._sock.close()

    def _push(self, line: bytes) -> None:
        self._waiting.append(line)
        self._bytes += len(line)

    def _send(self) -> None:
        while self._waiting:
            try:
                sent = self._sock.send(self._waiting[0])
            except (BlockingIOError, InterruptedError):
                self._watch()
                return
            except OSError:  # the parent is dead; that is noticed where we listen to it
                self._waiting.clear()
                self._bytes = 0
                break
            self._bytes -= sent
            line = self._waiting.popleft()
            if sent < len(line):
                self._waiting.appendleft(line[sent:])
            elif not self._waiting and self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._push(json.dumps({"dropped": dropped}).encode() + b"\n")
        self._unwatch()

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            self._loop.add_writer(self._sock.fileno(), self._send)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_writer(self._sock.fileno())


class Reporter(Audit):
    """A worker's audit: everything goes to the parent, which bounds the refusals of all workers together."""

    def __init__(self, post: Callable[[str, object], None], now: Callable[[], float]) -> None:
        super().__init__(lambda event: post("refused", _short(event)), now)
        self._post = post

    def report(self, event: Event) -> None:
        """As of any audit."""
        self._post("event", _short(event))

    def common(self, event: Event) -> None:
        """As of any audit."""
        self._post("common", _short(event))

    def _say_left_out(self, count: int) -> None:
        self._post("left_out", count)


class LogHandler(logging.Handler):
    """What libraries log in a worker; the parent alone writes."""

    def __init__(self, post: Callable[[str, object], None]) -> None:
        super().__init__(logging.WARNING)
        self._post = post

    def emit(self, record: logging.LogRecord) -> None:
        """As of any handler."""
        with contextlib.suppress(Exception):
            self._post("log", self.format(record)[-_LONGEST_LOG:])


def _short(event: Event) -> dict[str, Any]:
    data = event.as_data()
    return {key: printable(value, _LONGEST_TEXT) if isinstance(value, str) else value for key, value in data.items()}


class Inbox:
    """The parent's end: what a worker says, line by line."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._rest = b""
        self.ended = False

    def read(self) -> Iterator[tuple[str, Any]]:
        """The messages that have come, (kind, value); bounded, so that no worker keeps the parent busy."""
        try:
            data = self._sock.recv(LONGEST_LINE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            self._rest = b""
        for line in lines:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict) and len(message) == 1:
                    yield from message.items()


def as_event(value: object, worker: int) -> Event | None:
    """The event that a worker reports; None when it is none."""
    if not isinstance(value, dict):
        return None
    try:
        return Event(**{**value, "worker": worker})
    except TypeError:
        return None

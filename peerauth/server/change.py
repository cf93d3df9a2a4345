"""Another configuration on its way from the parent to a worker: through their channel, with the sockets of what is new.

The parent says `change` with a number; for each service and tunnel that is new, `door` or `way` with its sockets beside the
word (SCM_RIGHTS, unix(7)); then `prepare` with a file that holds the bytes of config.toml, and where commands serve. Both
then know the same plan, by the same rule, from the same bytes. The worker answers when it has done what may fail, and the
parent says `go-over`, or `abandon`.
"""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from peerauth.server.plan import Plan

LONGEST_WORDS: Final = 4096
MOST_AT_ONCE: Final = 253  # descriptors that one message carries (SCM_MAX_FD, unix(7))
T = TypeVar("T")
Sockets = list[socket.socket]
Rows = list[Sockets]  # by worker, the sockets of one service


class Words:
    """A worker's end of the channel: the words that its parent says, and the descriptors that come with them."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._rest = b""
        self._descriptors: deque[int] = deque()

    def read(self) -> list[list[str]] | None:
        """The words that have come, each with what it is about; None when the parent is dead."""
        try:
            data, descriptors, _flags, _where = socket.recv_fds(self._channel, LONGEST_WORDS, MOST_AT_ONCE)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            return None
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
            self._descriptors.append(descriptor)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line.decode().split() for line in lines]

    def sockets(self, count: int) -> Sockets:
        """The next of the descriptors that have come, which are listening sockets."""
        found = [socket.socket(fileno=self._descriptors.popleft()) for _ in range(count)]
        for sock in found:
            sock.setblocking(False)
        return found

    def config(self) -> tuple[bytes, list[str | None]]:
        """What `send_config` has sent next."""
        descriptor = self._descriptors.popleft()
        try:
            backends, _, data = os.pread(descriptor, os.fstat(descriptor).st_size, 0).partition(b"\n")
        finally:
            os.close(descriptor)
        return data, json.loads(backends)


@dataclass
class Coming:
    """What a worker has been sent of a configuration that it is to go over to."""

    number: int = 0
    doors: list[Rows] = field(default_factory=list)
    ways: list[Sockets] = field(default_factory=list)
    plan: Plan | None = None

    def placed(self) -> tuple[list[Rows | None], list[Sockets | None]]:
        """The sockets by service and by tunnel of the plan; None for those whose door is there."""
        assert self.plan is not None
        return _placed(self.plan.services, self.doors), _placed(self.plan.tunnels, self.ways)

    def close(self) -> None:
        """Nothing comes of it."""
        for sockets in (*(row for rows in self.doors for row in rows), *self.ways):
            for sock in sockets:
                sock.close()


def _placed(kept: Sequence[int | None], new: Sequence[T]) -> list[T | None]:
    coming: Iterator[T] = iter(new)
    return [next(coming) if number is None else None for number in kept]


def send_number(channel: socket.socket, number: int) -> None:
    """Tell a worker that a change begins. Raises OSError."""
    _send_line(channel, f"change {number}\n".encode(), [])


def send_rows(channel: socket.socket, rows: Rows) -> None:
    """Send a worker the sockets of a new service: those of every worker, for it may have to stand in. Raises OSError."""
    different = rows if len({id(row) for row in rows}) > 1 else rows[:1]
    _send(channel, f"door {len(different)} {len(rows)}", [sock.fileno() for row in different for sock in row])


def received_rows(words: Words, different: int, workers: int, count: int) -> Rows:
    """The same at the other end; `count`: of descriptors."""
    each = count // different
    rows = [words.sockets(each) for _ in range(different)]
    return rows if different > 1 else rows * workers


def send_way(channel: socket.socket, sockets: Sockets) -> None:
    """Send a worker the sockets of a new tunnel. Raises OSError."""
    _send(channel, "way", [sock.fileno() for sock in sockets])


def send_config(channel: socket.socket, data: bytes, backends: list[str | None]) -> None:
    """Send a worker what to prepare for: the bytes of config.toml, and where commands serve, by service. Raises OSError."""
    descriptor = _nameless()
    try:
        os.pwrite(descriptor, json.dumps(backends).encode() + b"\n" + data, 0)
        _send(channel, "prepare", [descriptor])
    finally:
        os.close(descriptor)


def _send(channel: socket.socket, word: str, descriptors: list[int]) -> None:
    _send_line(channel, f"{word} {len(descriptors)}\n".encode(), descriptors)


def _send_line(channel: socket.socket, line: bytes, descriptors: list[int]) -> None:
    if socket.send_fds(channel, [line], descriptors) < len(line):
        raise BlockingIOError("the worker does not listen")


def _nameless() -> int:
    """A file without a name."""
    make = getattr(os, "memfd_create", None)  # Linux, FreeBSD
    if make is not None:
        return int(make("peerauth-config"))
    import tempfile  # noqa: PLC0415 - Linux does without

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())

"""A small window in `state/`: who may read this home sees how a running server stands.

Whoever connects to the Unix socket gets one JSON object, is heard about nothing, and the connection ends. So it costs no
thread and no task: it works on a loop as well as in the parent of several workers, which has none. The directory and the
socket are for this user alone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from peerauth.address import Address
from peerauth.errors import PeerAuthError
from peerauth.server.tally import Tally
from peerauth.store import files
from peerauth.store.config import Service
from peerauth.store.state import DIRECTORY
from peerauth.store.tunnels import Tunnel

if TYPE_CHECKING:
    from peerauth.server.job import Job

LARGEST: Final = 64 << 10  # bytes of an answer; a socket takes so much at once (wmem_default, socket(7))
PATIENCE_S: Final = 2.0
_SUFFIX: Final = ".window"
_FRESH: Final = ".new"  # behind it, until somebody listens
NODE: Final = ("name", "key", "certificate", "peers")  # settings of [node], which are the same until a restart
_MOST: Final = 64  # windows in one home that are looked at
_BACKLOG: Final = 8
_GONE: Final = {errno.ECONNREFUSED, errno.ENOENT}


class Window:
    """A window of this home. `facts` says how things stand, whenever somebody looks.

    It stays shut, and `fd` None, where there can be none: a home that cannot be written to, a system without Unix sockets.
    """

    def __init__(self, home: Path, facts: Callable[[], dict[str, Any]]) -> None:
        self._directory, self._facts = home / DIRECTORY, facts
        self._name = ""
        self._sock: socket.socket | None = None

    @property
    def fd(self) -> int | None:
        """What becomes readable when somebody looks."""
        return None if self._sock is None else self._sock.fileno()

    def open(self) -> None:
        """Open it, if it can be opened."""
        if not hasattr(socket, "AF_UNIX"):
            return
        self._name = f"{os.getpid()}-{os.urandom(4).hex()}{_SUFFIX}"
        sock, fresh = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), self._name + _FRESH
        try:
            files.make_directory(self._directory, 0o700)
            _clear(self._directory)
            with _near(self._directory) as near:
                sock.bind(str(near / fresh))
            (self._directory / fresh).chmod(0o600)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
            files.replace(self._directory / fresh, self._directory / self._name)  # never there without a listener
        except (OSError, PeerAuthError):
            sock.close()
        else:
            self._sock = sock

    def show(self) -> None:
        """Answer one who looks; never waits."""
        with contextlib.suppress(OSError):
            assert self._sock is not None
            caller, _ = self._sock.accept()
            with caller:
                caller.setblocking(False)
                caller.send(json.dumps(self._facts()).encode()[:LARGEST])

    def leave(self) -> None:
        """Close this process's end alone."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def close(self) -> None:
        """Close it, and take the socket's file away."""
        if self._sock is not None:
            self.leave()
            with contextlib.suppress(PeerAuthError):
                files.remove(self._directory / self._name)


def look(home: Path) -> list[dict[str, Any]]:
    """How the servers of this home stand, in the order of their starts; one that does not answer in time is `{}`."""
    found = [facts for path in _windows(home / DIRECTORY) if (facts := _ask(path)) is not None]
    return sorted(found, key=lambda facts: str(facts.get("started", "")))


@dataclass(frozen=True)
class Standing:
    """How a server stands. `job`: what it does now; `places`: its services and tunnels, and where each listens now."""

    job: Callable[[], Job]
    places: Callable[[], Sequence[tuple[Service | Tunnel, Address]]]
    tally: Tally
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def facts(self, ready: int) -> dict[str, Any]:
        """It now, as JSON has it; so many of its workers are ready."""
        totals, places, job = self.tally.totals, self.places(), self.job()
        return {
            "node": {key: str(getattr(job.config, key)) for key in NODE},
            "config": None if job.choose is None else job.config.digest,
            "pid": os.getpid(),
            "started": f"{self.started:%Y-%m-%dT%H:%M:%SZ}",
            "workers": self.tally.workers,
            "workers_ready": ready,
            "services": [{"name": one.name, "address": str(at)} for one, at in places if not isinstance(one, Tunnel)],
            "tunnels": [
                {"name": one.name, "address": str(at), "peer": one.peer} for one, at in places if isinstance(one, Tunnel)
            ],
            "connections": totals.connections,
            "admitted": totals.admitted,
            "ended": totals.ended,
            "refused": totals.refused,
        }


def _windows(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == _SUFFIX)[:_MOST]
    except OSError:
        return []


def _ask(path: Path) -> dict[str, Any] | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(PATIENCE_S)
        try:
            with _near(path.parent) as near:
                sock.connect(str(near / path.name))
            heard = b""
            while len(heard) <= LARGEST and (piece := sock.recv(LARGEST)):
                heard += piece
            facts = json.loads(heard)
        except OSError as error:
            return None if error.errno in _GONE else {}
        except (ValueError, RecursionError):
            return {}
    return facts if isinstance(facts, dict) else {}


def _clear(directory: Path) -> None:
    """Take away what servers left that were killed."""
    for path in _windows(directory):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, _near(directory) as near:
            sock.setblocking(False)
            if sock.connect_ex(str(near / path.name)) == errno.ECONNREFUSED:
                files.remove(path)
    for path in directory.glob(f"*{_SUFFIX}{_FRESH}"):  # nobody listens there yet: only its maker's end tells
        if not _lives(path.name.partition("-")[0]):
            files.remove(path)


def _lives(pid: str) -> bool:
    """Whether there is such a process; what is no number is nobody's."""
    try:
        os.kill(int(pid), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except OSError:  # somebody else's
        return True
    return True


@contextlib.contextmanager
def _near(directory: Path) -> Iterator[Path]:
    """The directory under a short name where there is one: the path of a socket has 107 bytes (unix(7))."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield directory
        return
    try:
        short = Path(f"/proc/self/fd/{descriptor}")
        yield short if short.exists() else directory
    finally:
        os.close(descriptor)

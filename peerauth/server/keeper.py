"""The keeper: a small process that waits for the end of `serve`, and then ends the commands that it had started.

It is a Python of its own, which has nothing of ours: no key, no descriptor, a few megabytes. It hears on standard input
which process groups there are, and where their sockets; when one of them is to end, or when that input does, in whatever
way, it sends them SIGTERM, and SIGKILL to what is there GRACE_S later, and takes the directories of the sockets away.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from peerauth.store import files

GRACE_S: Final = 5.0
_LOOK_AGAIN_S: Final = 0.02
_PROGRAM: Final = "import sys; sys.path.insert(0, sys.argv[1]); from peerauth.server.keeper import keep; keep(sys.argv[2])"
_KEEP, _END = "keep", "end"
_LONGEST: Final = 65536  # bytes that are read at a time


class Keeper:
    """Our end of a keeper. Raises OSError where it cannot be started."""

    def __init__(self) -> None:
        words = [sys.executable, "-I", "-c", _PROGRAM, str(Path(__file__).parents[2]), str(GRACE_S)]
        nowhere = subprocess.DEVNULL
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, start_new_session=True, bufsize=0
        )

    @property
    def is_there(self) -> bool:
        """Whether nobody has killed it."""
        return self._process.poll() is None

    def keep(self, directory: Path, group: int = 0) -> None:
        """Take this directory away in the end, and end this process group; 0: there is none yet."""
        self._say(_KEEP, directory, group)

    def end(self, directory: Path) -> None:
        """Do so now."""
        self._say(_END, directory)

    def let_go(self) -> None:
        """Have it end all, and itself. It does so as well when we, and our workers, are dead."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        return self._process.wait()

    def _say(self, word: str, directory: Path, group: int = 0) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it was killed, and whoever ends us ends them without it
            self._process.stdin.write(os.fsencode(f"{word} {group} {directory}\0"))


class _Ending:
    """A process group that has been told to end."""

    def __init__(self, directory: str, group: int, grace: float) -> None:
        self._directory, self._group, self._give_up = Path(directory), group, time.monotonic() + grace
        if group:
            tell_group(group, signal.SIGTERM)

    def is_over(self) -> bool:
        """Whether nothing is left of it; it is made so in the end."""
        if self._group and tell_group(self._group, 0):
            if time.monotonic() < self._give_up:
                return False
            tell_group(self._group, signal.SIGKILL)
        files.remove_tree(self._directory)
        return True


def keep(grace: str) -> None:
    """Be the keeper."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # they are for those whose end is waited for
    kept: dict[str, int] = {}  # directories of sockets, and the process groups that serve there
    ending: list[_Ending] = []
    rest, hears = b"", True
    while hears or ending:
        ready, _, _ = select.select([0] if hears else [], [], [], _LOOK_AGAIN_S if ending else None)
        if ready:
            data = os.read(0, _LONGEST)
            hears = bool(data)  # until all who hold the other end are dead, or let go of it
            *lines, rest = (rest + data).split(b"\0")
            gone = [] if hears else list(kept)
            for word, group, directory in (os.fsdecode(line).split(" ", 2) for line in lines):
                if word == _KEEP:
                    kept[directory] = int(group)
                else:
                    gone.append(directory)
            ending += [_Ending(directory, kept.pop(directory), float(grace)) for directory in gone if directory in kept]
        ending = [one for one in ending if not one.is_over()]


def tell_group(group: int, number: int) -> bool:
    """Send a process group this signal; whether there is somebody."""
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True

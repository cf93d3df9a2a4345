"""The keeper: a small process that waits for the end of `serve`, and then ends the commands that it had started.

It is a Python of its own, which has nothing of ours: no key, no descriptor, a few megabytes. It hears on standard input
which process groups there are; when that ends, in whatever way, it sends them SIGTERM, and SIGKILL to what is there GRACE_S
later.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from peerauth.store import files

GRACE_S: Final = 5.0
_LOOK_AGAIN_S: Final = 0.02
_PROGRAM: Final = "import sys; sys.path.insert(0, sys.argv[1]); from peerauth.server.keeper import keep; keep(*sys.argv[2:])"


def start_keeper(directories: Sequence[Path]) -> subprocess.Popen[bytes]:
    """A keeper that also takes these directories away. Raises OSError."""
    root = Path(__file__).parents[2]
    words = [sys.executable, "-I", "-c", _PROGRAM, str(root), str(GRACE_S), *map(str, directories)]
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, start_new_session=True)


def keep(grace: str, *directories: str) -> None:
    """Be the keeper."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # they are for those whose end is waited for
    groups = [int(line) for line in sys.stdin]  # until all who hold the other end are dead, or let go of it
    _end(groups, float(grace))
    for directory in directories:
        files.remove_tree(Path(directory))


def _end(groups: Iterable[int], grace: float) -> None:
    give_up = time.monotonic() + grace
    left = [group for group in groups if tell_group(group, signal.SIGTERM)]
    while left and time.monotonic() < give_up:
        time.sleep(_LOOK_AGAIN_S)
        left = [group for group in left if tell_group(group, 0)]
    for group in left:
        tell_group(group, signal.SIGKILL)


def tell_group(group: int, number: int) -> bool:
    """Send a process group this signal; whether there is somebody."""
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True

"""What the program notes for itself in `state/`, shared by every process of the node.

Each file is one JSON object, replaced whole; whoever changes one has the lock meanwhile, in whichever process, and the
kernel lets go of it when its holder dies. It is safe to delete: what is not there is empty, and a file that cannot be read
is as good as none. Nothing in it admits anybody.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peerauth.errors import BadInput
from peerauth.store import files

DIRECTORY = "state"
LARGEST = 8 << 20  # bytes of one file
SERVING = "serving"  # what a server, or each of its workers, is seen to do


class State:
    """The state of the node that lives in `home`."""

    def __init__(self, home: Path) -> None:
        self._directory = home / DIRECTORY

    def path(self, name: str) -> Path:
        """The file of this name."""
        return self._directory / f"{name}.json"

    def read(self, name: str) -> dict[str, Any]:
        """What is noted under this name; empty when nothing is, or nothing that can be read."""
        try:
            value = json.loads(files.read_bounded(self.path(name), LARGEST))
        except (BadInput, ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    @contextlib.contextmanager
    def alive(self, what: str, *, many: bool = False) -> Iterator[bool]:
        """Be seen by other processes to do this until the block ends, or this process; `many`: others may do it, too.

        Whether it is so: False when another process does it. Raises PeerAuthError("cannot-write").
        """
        files.make_directory(self._directory, 0o700)
        with files.held(self._directory / f"{what}.alive", shared=many) as had:
            yield had

    def is_alive(self, what: str, *, many: bool = False) -> bool:
        """Whether a process is doing this just now."""
        return files.is_held(self._directory / f"{what}.alive", shared=many)

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Have the lock of this name while the block runs, and keep every other process out of it. Waits."""
        files.make_directory(self._directory, 0o700)
        with files.locked(self._directory / f"{name}.lock"):
            yield

    @contextlib.contextmanager
    def changing(self, name: str) -> Iterator[dict[str, Any]]:
        """What is noted, to be changed in the block, while no other process changes it; written durably at its end.

        Nothing is written when nothing has changed, or when the block raises. Waits for the others: not for a loop's thread.
        """
        files.make_directory(self._directory, 0o700)
        with files.locked(self._directory / "lock"):
            value = self.read(name)
            before = json.dumps(value)
            yield value
            after = json.dumps(value)
            if after != before:
                files.write_atomic(self.path(name), after.encode(), 0o600)

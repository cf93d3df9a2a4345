"""Whether a `serve` runs in this home: a lock that it holds while it lives, which its death ends, of whatever kind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from peerauth.errors import PeerAuthError
from peerauth.store import files
from peerauth.store.state import DIRECTORY

LOCK = "serving"


@contextlib.contextmanager
def hold_serving(home: Path) -> Iterator[None]:
    """Be known to serve here while the block runs, together with others who do.

    A home that cannot be written to is served all the same; nobody knows of it then.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(PeerAuthError):
            files.make_directory(home / DIRECTORY, 0o700)
            held.enter_context(files.sharing(home / DIRECTORY / LOCK))
        yield


def is_serving(home: Path) -> bool:
    """Whether anybody serves here now, in whichever process."""
    return files.is_shared(home / DIRECTORY / LOCK)

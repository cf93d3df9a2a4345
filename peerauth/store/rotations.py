"""What this node has said about its own certificates: `NAME.rotations` in its home, one statement a line, the oldest first.

Nothing in it is secret: it is what every peer is told. A peer that was away asks for it, so it is not to be deleted.
"""

from __future__ import annotations

import functools
from pathlib import Path

from peerauth.errors import BadInput
from peerauth.store import files
from peerauth.store.config import Config
from peerauth.trust.continuity import LARGEST, Statement, read_statement

MOST = 64  # statements that are kept, the newest


def rotations_path(config: Config) -> Path:
    """The file of this node."""
    return config.path.parent / f"{config.name}.rotations"


def read_statements(config: Config) -> tuple[bytes, ...]:
    """The statements that this node has made, as they travel, the oldest first; none where there is no file.

    Whether they are good is for whoever reads them. Raises BadInput: `unreadable`, `not-a-file`, `too-large`.
    """
    try:
        data = files.read_bounded(rotations_path(config), MOST * (LARGEST + 1))
    except BadInput as error:
        if error.code == "no-such-file":
            return ()
        raise
    return tuple(line for line in data.splitlines() if line)


def own_statements(config: Config) -> tuple[Statement, ...]:
    """The same, read. Raises BadInput also for what is no good statement."""
    return tuple(_read(data) for data in read_statements(config))


_read = functools.lru_cache(maxsize=MOST)(
    read_statement
)  # whoever serves or connects looks at the same ones again and again


def append_statement(config: Config, data: bytes) -> None:
    """Note one more statement, durably; one that is there already is not noted twice.

    Raises BadInput("bad-statement") for what is no good statement, and what reading and writing raise.
    """
    one = read_statement(data).data
    if len(one.splitlines()) != 1:
        raise BadInput("bad-statement", "a statement about a certificate's successor is not good: it has several lines")
    with files.locked(config.path.parent):
        said = read_statements(config)
        if one not in said:
            files.write_atomic(rotations_path(config), b"".join(line + b"\n" for line in (*said, one)[-MOST:]))

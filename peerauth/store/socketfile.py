"""For whom the file of a Unix socket is: its mode and its owner, as config.toml says them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from peerauth.address import Address
from peerauth.store.schema import Table

_MODE = re.compile(r"0?[0-7]{3}")
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}\$?"
_OWNER = re.compile(rf"({_NAME})?(?::({_NAME}))?")


@dataclass(frozen=True, slots=True)
class SocketFile:
    """Mode and owner. None leaves what the system gives: the umask's mode, this process's user and group.

    `user`, `group`: a name or a number, not looked up yet.
    """

    mode: int | None = None
    user: str | None = None
    group: str | None = None


def read_socket_file(table: Table, listen: Address) -> SocketFile:
    """The keys `mode` and `owner` of a service that listens there. Raises BadInput("bad-setting")."""
    mode, owner = table.text("mode"), table.text("owner")
    for key, value in (("mode", mode), ("owner", owner)):
        if value is not None and listen.path is None:
            raise table.error(
                key, f"is of a Unix socket's file, and {listen} is none", 'for instance: listen = "unix:/run/db.sock"'
            )
    if mode is not None and not _MODE.fullmatch(mode):
        raise table.error("mode", 'must be three octal digits in quotes, such as "0660"')
    found = _OWNER.fullmatch(owner or "")
    if found is None or owner == "":
        raise table.error("owner", "must be USER, USER:GROUP or :GROUP")
    return SocketFile(None if mode is None else int(mode, 8), found[1], found[2])

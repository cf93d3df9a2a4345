"""Opening what is beneath a directory, and nothing else: no name, link or race leads out of it.

The rules:
1. Every step is relative to a directory that is open, opens one name, and follows no link (O_NOFOLLOW): the system never
   resolves a path for us, so nobody can change one while it is resolved.
2. A symbolic link is followed by its text, as far as it stays beneath: an absolute one, or one that climbs above the top, is
   not there. (As openat2(2) does with RESOLVE_BENEATH, and Go's os.Root.)
3. What is neither a regular file nor a directory is never opened; and where it has just become one, without waiting.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

MOST_LINKS = 40  # as Linux does, path_resolution(7)
MOST_STEPS = 256
_TRIES = 3  # what is replaced at this very moment is there, before and after

_CLOEXEC = os.O_RDONLY | os.O_CLOEXEC
_THROUGH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC  # to pass, one need not be able to list
_DIRECTORY = _THROUGH | os.O_NOFOLLOW
_FILE = _CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


class NotBeneath(OSError):
    """There is nothing of that name, or nothing that is for anybody: it leads out, or is no file and no directory."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A regular file or a directory, open until a `with` ends, and its status when it was opened."""

    descriptor: int
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        """Whether it is one; its descriptor is good for looking further, not for listing."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_unchanged(self) -> bool:
        """Whether nobody has written to the file since it was opened."""
        now, then = os.fstat(self.descriptor), self.status
        return (now.st_size, now.st_mtime_ns, now.st_ctime_ns) == (then.st_size, then.st_mtime_ns, then.st_ctime_ns)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def open_top(path: Path) -> Opened:
    """The directory that everything is to be beneath. Its own path may go through links. Raises OSError."""
    descriptor = os.open(path, _THROUGH)
    return Opened(descriptor, os.fstat(descriptor))


def open_beneath(top: Opened, names: Iterable[bytes]) -> Opened:
    """What these names lead to, one after the other. Raises NotBeneath, or another OSError where it cannot be opened."""
    wanted = tuple(names)
    for last in range(_TRIES - 1, -1, -1):
        above: list[int] = []
        try:
            return _walk(top.descriptor, wanted, above)
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.ENOTDIR, errno.ENOENT, errno.ENXIO} or (
                isinstance(error, NotBeneath) or not last
            ):
                raise
        finally:
            for descriptor in above:
                os.close(descriptor)
    raise AssertionError("the last try returns or raises")


def _walk(top: int, names: tuple[bytes, ...], above: list[int]) -> Opened:
    """One try. `above`: the directories on the way, open; whatever is left there at the end is the caller's to close."""
    ahead = deque(names)
    links = steps = 0
    while ahead:
        name = ahead.popleft()
        steps += 1
        if steps > MOST_STEPS:
            raise NotBeneath(errno.ELOOP, "too many steps")
        here = above[-1] if above else top
        if name in {b"", b"."}:
            continue
        if name == b"..":  # of a link: what was asked for has none
            if not above:
                raise NotBeneath(errno.EXDEV, "it leads out")
            os.close(above.pop())
            continue
        mode = os.stat(name, dir_fd=here, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            links += 1
            text = os.readlink(name, dir_fd=here)
            if links > MOST_LINKS or text.startswith(b"/"):
                raise NotBeneath(errno.EXDEV, "it leads out, or in a circle")
            ahead.extendleft(reversed(text.split(b"/")))
        elif stat.S_ISDIR(mode):
            above.append(os.open(name, _DIRECTORY, dir_fd=here))
        elif stat.S_ISREG(mode) and not ahead:
            return _opened(os.open(name, _FILE, dir_fd=here))
        else:
            raise NotBeneath(errno.ENOENT, "it is no file and no directory")
    return _opened(above.pop() if above else os.dup(top))


def _opened(descriptor: int) -> Opened:
    status = os.fstat(descriptor)
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        os.close(descriptor)
        raise NotBeneath(errno.ENOENT, "it is no file and no directory")
    return Opened(descriptor, status)


def list_names(directory: Opened, most: int) -> tuple[list[bytes], bool]:
    """The names in a directory, in no order, at most so many; and whether there are more. Raises OSError."""
    descriptor = os.open(b".", _CLOEXEC | os.O_DIRECTORY, dir_fd=directory.descriptor)
    try:
        names: list[bytes] = []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                if len(names) == most:
                    return names, True
                names.append(os.fsencode(entry.name))
        return names, False
    finally:
        os.close(descriptor)

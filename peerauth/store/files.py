"""The one door to writing files, and bounded reading.

Every write is complete or not there: a temporary file in the same directory, fsync, a rename or a link, fsync of the
directory. Killed at any point, the old or the new is left (promise 4).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from peerauth.errors import BadInput, PeerAuthError, printable

_TEMPORARY = ".tmp"
_LOOKS, _PAUSE = 5, 0.01  # two who look at the same time may take each other for a holder; looking takes microseconds
_READING = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def shown(path: Path | str) -> str:
    """A path for people, escaped."""
    return printable(os.fspath(path), 300)


def read_bounded(path: Path | str, limit: int) -> bytes:
    """The whole content of a regular file of at most `limit` bytes.

    Never waits on a FIFO or a device. Raises BadInput naming the file, with the codes `no-such-file`, `not-a-file`,
    `unreadable` or `too-large`.
    """
    return read_with_status(path, limit)[1]


def read_with_status(path: Path | str, limit: int, directory: int | None = None) -> tuple[os.stat_result, bytes]:
    """As `read_bounded`, with what the file's status was before it was read; `directory`: open, where the path begins."""
    try:
        descriptor = os.open(path, _READING, dir_fd=directory)
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:  # a NUL, or a surrogate that stands for no byte
        raise BadInput("no-such-file", f"there is no file {shown(path)}: no path can be written so") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            what = "a directory, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise BadInput("not-a-file", f"{shown(path)} is {what}")
        data = os.read(descriptor, min(status.st_size, limit) + 1)
        if len(data) != status.st_size:  # a file that grows, or that has no size (/proc), or a read that was cut short
            while len(data) <= limit and (more := os.read(descriptor, limit + 1 - len(data))):
                data += more
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise BadInput("too-large", f"{shown(path)} is larger than {limit // 1024} KB")
    return status, data


_FOREIGN = "it belongs to another user; run this as its owner"


def _unreadable(path: Path | str, error: OSError) -> BadInput:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return BadInput("no-such-file", f"there is no file {shown(path)}")
    reason = {errno.ELOOP: "its symbolic links go in a circle", errno.EISDIR: "it is a directory"}.get(
        error.errno or 0, os.strerror(error.errno) if error.errno else "unknown error"
    )
    hint = _FOREIGN if error.errno in (errno.EACCES, errno.EPERM) else None
    return BadInput("unreadable", f"{shown(path)} cannot be read: {reason}", hint)


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace `path` by `data`, or create it. Raises PeerAuthError("cannot-write")."""
    with _reported(path), _temporary(path, data, mode) as temporary:
        os.replace(temporary, path)
    _sync_directory(path.parent)


def write_new(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Create `path` with `data`; never overwrite. Raises BadInput("exists") or PeerAuthError("cannot-write")."""
    with _reported(path), _temporary(path, data, mode) as temporary:
        _link(temporary, path)
    _sync_directory(path.parent)


def keep_beside(path: Path, suffix: str) -> Path | None:
    """Give the file at `path` a second name, `path` + suffix, so that replacing it loses nothing; None if it is missing."""
    kept = path.with_name(path.name + suffix)
    with _reported(kept):
        try:
            _link(path, kept)
        except FileNotFoundError:
            return None
    _sync_directory(path.parent)
    return kept


def rename(old: Path, new: Path) -> None:
    """Move a file within its file system; never overwrites, except by `replacing`. Raises BadInput("exists")."""
    with _reported(new):
        _link(old, new)
        os.unlink(old)
    _sync_directory(new.parent)


def replace(old: Path, new: Path) -> None:
    """Move a file over another, atomically."""
    with _reported(new):
        os.replace(old, new)
    _sync_directory(new.parent)


def remove(path: Path) -> None:
    """Delete a file (a symbolic link: the link); one that is gone already is fine."""
    with _reported(path, "remove"), contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    _sync_directory(path.parent)


def make_directory(path: Path, mode: int = 0o755) -> None:
    """Create a directory and its parents, if they are not there."""
    if path.exists() and not path.is_dir():
        raise BadInput("not-a-directory", f"{shown(path)} is there, and is not a directory")
    with _reported(path):
        path.mkdir(mode=mode, parents=True, exist_ok=True)


def make_private_directory(path: Path) -> None:
    """Create a directory that was not there and is this user's alone. Raises BadInput("exists")."""
    with _reported(path):
        path.mkdir(mode=0o700)


def remove_tree(path: Path) -> None:
    """Delete a directory with all that is in it, as far as it can be."""
    shutil.rmtree(path, ignore_errors=True)


def hand_over(path: Path, mode: int | None, user: int, group: int) -> None:
    """Give a Unix socket's file this user, group and mode; -1 and None leave them. Raises OSError.

    No symbolic link is followed, and on Linux the file is held meanwhile: nobody who may change the directory can put
    another file in its place.
    """
    if mode is None and user == group == -1:
        return
    if sys.platform != "linux":
        _check_socket(os.lstat(path))
        os.chown(path, user, group, follow_symlinks=False)
        if mode is not None:
            os.chmod(path, mode, follow_symlinks=False)
        return
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check_socket(os.fstat(descriptor))
        os.chown(f"/proc/self/fd/{descriptor}", user, group)
        if mode is not None:
            os.chmod(f"/proc/self/fd/{descriptor}", mode)
    finally:
        os.close(descriptor)


def _check_socket(status: os.stat_result) -> None:
    if not stat.S_ISSOCK(status.st_mode):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have the lock that is this directory, or this file, made where it is missing; wait for whoever has it.

    Threads and processes alike. Where the file system cannot lock a directory (some on a network), nobody is kept out.
    """
    directory = path.is_dir()
    if directory and sys.platform == "win32":
        path /= ".lock"
    with _reported(path):
        if directory and sys.platform != "win32":
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        else:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            _lock(descriptor)
        except OSError:
            if not directory:
                raise
        yield
    finally:
        os.close(descriptor)  # which lets go of it


@contextlib.contextmanager
def held(path: Path, *, shared: bool = False) -> Iterator[bool]:
    """Have the lock that is this file until the block ends, as a sign of life; whether it could be had.

    It is not waited for. With `shared` many may have it, and it can be had: only who just asks `is_held` is waited for.
    """
    with _reported(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _had(descriptor, shared=shared, wait=shared)
    finally:
        os.close(descriptor)


def is_held(path: Path, *, shared: bool = False) -> bool:
    """Whether somebody has this lock; `shared`: of the kind that many may have. A process that was killed has none."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        for _ in range(_LOOKS):
            if _had(descriptor, shared=not shared, wait=False):
                return False
            time.sleep(_PAUSE)
        return True
    finally:
        os.close(descriptor)


def _had(descriptor: int, *, shared: bool, wait: bool) -> bool:
    with contextlib.suppress(OSError):
        _lock(descriptor, shared=shared, wait=wait)
        return True
    return False


def _lock(descriptor: int, *, shared: bool = False, wait: bool = True) -> None:
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 - Windows alone has it

        if not wait:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            return
        while True:
            with contextlib.suppress(OSError):  # it gives up after ten seconds
                msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
                return
    import fcntl  # noqa: PLC0415 - Windows has none

    fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


@contextlib.contextmanager
def output_file(path: Path) -> Iterator[BinaryIO]:
    """A file to stream into that appears under its name only when the block ends well.

    Devices, pipes and other special files are written to directly.
    """
    with _reported(path):
        if path.exists() and not path.is_file():
            with open(path, "wb") as direct:
                yield direct
            return
        descriptor, temporary = _open_temporary(path, 0o666)
        try:
            with open(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    _sync_directory(path.parent)


def _open_temporary(path: Path, mode: int) -> tuple[int, Path]:
    temporary = path.with_name(f".{path.name[:200]}.{os.urandom(6).hex()}{_TEMPORARY}")
    return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), temporary


@contextlib.contextmanager
def _temporary(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    descriptor, temporary = _open_temporary(path, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _link(old: Path, new: Path) -> None:
    """Give a file its (second) name, failing when the name is taken; where the file system has no links, copy."""
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
            raise
        data, mode = old.read_bytes(), stat.S_IMODE(old.stat().st_mode)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):  # some file systems cannot; the rename itself has been done
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _reported(path: Path, doing: str = "write") -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise BadInput("exists", f"{shown(path)} is there already, and nothing was overwritten") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        hint = _FOREIGN if error.errno in (errno.EACCES, errno.EPERM) else None
        raise PeerAuthError("cannot-write", f"cannot {doing} {shown(path)}: {reason}", hint) from error

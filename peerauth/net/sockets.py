"""Opening listening sockets, and where this machine is reached."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import stat
import sys
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from peerauth.address import Address
from peerauth.errors import PeerAuthError
from peerauth.store import files
from peerauth.store.socketfile import SocketFile

BACKLOG = 1024


def open_listeners(
    address: Address, file: SocketFile | None = None, *, joinable: bool = False, joining: bool = False
) -> list[socket.socket]:
    """Non-blocking listening sockets for an address; an empty host is every interface, IPv4 and IPv6.

    `file`: what becomes of a Unix socket's file.
    `joinable`: more sockets of this user may listen at the same TCP addresses later on; nobody may do so already, but others
    that may be joined (`let_join`), if these are `joining`.

    Raises PeerAuthError("cannot-listen") with the reason and what to try.
    """
    if address.path is not None:
        return [_unix(address.path, file or SocketFile())]
    try:
        found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise PeerAuthError(
            "cannot-listen", f"{address.host} is no address of this machine", "try 0.0.0.0 or 127.0.0.1"
        ) from error
    sockets: list[socket.socket] = []
    port = address.port
    try:
        for family, kind, protocol, _, where in dict.fromkeys(found):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError:
                continue  # this machine has no IPv6
            sockets.append(sock)
            if joining:
                let_join([sock])
            _bind(sock, (where[0], port, *where[2:]))
            port = port or sock.getsockname()[1]  # port 0 with two families: one free port for both
            let_join([sock], may=joinable or joining)  # not before bind: that joins whoever else listens there
            sock.listen(BACKLOG)
            let_join([sock], may=joinable)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise _cannot_listen(address, error) from error
    if not sockets:
        raise PeerAuthError("cannot-listen", f"{address.host} is no address of this machine")
    return sockets


def _bind(sock: socket.socket, where: tuple[object, ...]) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setblocking(False)
    sock.bind(where)


def why_not(address: Address, file: SocketFile | None = None) -> PeerAuthError | None:
    """What keeps us from listening there just now; found out by binding to it for a moment, where that touches nobody."""
    if address.path is not None:
        return _why_no_socket(Path(address.path), address, file or SocketFile())
    try:
        found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return PeerAuthError("cannot-listen", f"{address.host} is no address of this machine", "try 0.0.0.0 or 127.0.0.1")
    for family, kind, protocol, _, where in dict.fromkeys(found):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError:
            continue
        with sock:
            try:
                _bind(sock, tuple(where))
            except OSError as error:
                return _cannot_listen(address, error)
    return None


def _why_no_socket(path: Path, address: Address, file: SocketFile) -> PeerAuthError | None:
    try:
        _owner(file)
    except PeerAuthError as error:
        return error
    if not path.parent.is_dir():
        return PeerAuthError("no-such-file", f"there is no directory {path.parent}", f"mkdir {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return _cannot_listen(address, PermissionError(errno.EACCES, "no"))
    if os.path.lexists(path) and not _is_abandoned(str(path)):
        return _cannot_listen(address, OSError(errno.EADDRINUSE, "there"))
    return None


def let_join(sockets: Iterable[socket.socket], *, may: bool = True) -> None:
    """Say whether more sockets of this user may listen where these do, where the system knows of such a thing."""
    for sock in sockets:
        if sock.family != socket.AF_UNIX and hasattr(socket, "SO_REUSEPORT"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, may)


def open_for_workers(
    address: Address, workers: int, file: SocketFile | None = None, *, joining: bool = False
) -> list[list[socket.socket]]:
    """Listening sockets for each worker, to be opened before there are workers. Raises PeerAuthError("cannot-listen").

    On Linux everyone has TCP sockets of their own at the same address, and the kernel deals new connections out among them
    (socket(7), SO_REUSEPORT). Elsewhere that option deals nothing out; there, and for a Unix socket, all have the same one.
    """
    if address.path is not None or sys.platform != "linux":
        return [open_listeners(address, file)] * workers
    rows = [open_listeners(address, joinable=True, joining=joining)]
    try:
        while len(rows) < workers:
            rows.append([])
            for sock in rows[0]:
                rows[-1].append(_beside(sock))
    except OSError as error:
        for sock in (sock for row in rows for sock in row):
            sock.close()
        raise _cannot_listen(address, error) from error
    return rows


def _beside(first: socket.socket) -> socket.socket:
    sock = socket.socket(first.family, first.type, first.proto)
    try:
        let_join([sock])
        _bind(sock, first.getsockname())
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _unix(path: str, file: SocketFile) -> socket.socket:
    """Listening there, and not before its file is for whom it should be: nobody connects to what does not listen."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        owner = _owner(file)
        if file.mode is not None:
            with contextlib.suppress(OSError):  # on Linux the file is then born for nobody
                os.fchmod(sock.fileno(), 0)
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_abandoned(path):
                raise
            files.remove(Path(path))
            sock.bind(path)
        try:
            files.hand_over(Path(path), file.mode, *owner)
            sock.listen(BACKLOG)
        except BaseException:
            files.remove(Path(path))
            raise
    except OSError as error:
        sock.close()
        raise _cannot_listen(Address(path=path), error) from error
    except BaseException:
        sock.close()
        raise
    return sock


def _owner(file: SocketFile) -> tuple[int, int]:
    """The numbers of its user and group; -1 where it says nothing. Raises PeerAuthError("cannot-listen")."""
    return _number("user", file.user), _number("group", file.group)


def _number(kind: str, name: str | None) -> int:
    if name is None:
        return -1
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        import grp  # noqa: PLC0415 - Windows has neither
        import pwd  # noqa: PLC0415

        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    except (ImportError, KeyError) as error:
        raise PeerAuthError("cannot-listen", f"this system has no {kind} {name}, which is to own the socket") from error


def _is_abandoned(path: str) -> bool:
    """Whether a socket's file is there and nobody listens behind it; a file of another kind is somebody's."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
        probe.settimeout(1)
        return probe.connect_ex(path) == errno.ECONNREFUSED
    return False


def _cannot_listen(address: Address, error: OSError) -> PeerAuthError:
    hint = {
        errno.EADDRINUSE: "another program listens there; choose another port",
        errno.EACCES: "ports below 1024 need privileges; choose another port",
        errno.EADDRNOTAVAIL: "this machine has no such address; try 0.0.0.0 or 127.0.0.1",
    }.get(error.errno or 0)
    if address.path is not None:
        taken = "it is there already; choose another path"
        foreign = "only root gives a file to another user; a group may be given that this user is in"
        hint = {errno.EADDRINUSE: taken, errno.EPERM: foreign}.get(error.errno or 0)
    reason = os.strerror(error.errno) if error.errno else str(error)
    found = PeerAuthError("cannot-listen", f"cannot listen on {address}: {reason}", hint)
    found.__cause__ = error
    return found


def close_listener(sock: socket.socket) -> None:
    """Close a listening socket, and take a Unix socket's file away."""
    address = bound_address(sock)
    sock.close()
    if address.path:
        files.remove(Path(address.path))


def bound_address(sock: socket.socket) -> Address:
    """Where a listening socket really listens."""
    name = sock.getsockname()
    if isinstance(name, tuple):
        return Address(str(name[0]), int(name[1]))
    return Address(path=str(name))


def allow_many_files() -> None:
    """Raise this process's limit of open files to what the system grants it."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415 - Windows has none

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def taken(sock: socket.socket) -> int:
    """A number that is another one when the other side has taken more since; always 0 where the system does not tell.

    For TCP the bytes that it has acknowledged; for a Unix socket those that it has not read, counted down.
    """
    if sock.family == socket.AF_UNIX:
        return -_unread(sock)
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
    except (AttributeError, OSError):
        return 0
    return int.from_bytes(info[120:128], sys.byteorder)  # tcpi_bytes_acked (linux/tcp.h); a shorter one has none


def _unread(sock: socket.socket) -> int:
    try:
        import fcntl  # noqa: PLC0415 - Windows has neither
        import termios  # noqa: PLC0415

        return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)  # in Linux, SIOCOUTQ
    except (ImportError, OSError):
        return 0


def remote_of(where: object) -> tuple[IPv4Address | IPv6Address | None, str]:
    """The other side's IP address, and how to show it; None for a Unix socket."""
    if not isinstance(where, tuple):
        return None, "a Unix socket"
    remote = _address(where[0])
    return remote, f"[{remote}]:{where[1]}" if remote.version == 6 else f"{remote}:{where[1]}"


@functools.lru_cache(maxsize=1024)
def _address(host: str) -> IPv4Address | IPv6Address:
    remote: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
    return remote.ipv4_mapped or remote if isinstance(remote, IPv6Address) else remote


def outgoing_address() -> str | None:
    """The address of this machine that leads outside, as far as it knows; None where nothing does.

    Nothing is sent: connecting a datagram socket only chooses the route. The far ends are nobody's (RFC 5737, RFC 3849).
    """
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            return str(probe.getsockname()[0])
    return None

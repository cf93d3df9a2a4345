"""Reaching an address in the clear, in asyncio and blocking."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

from peerauth.address import Address

CONNECT_TIMEOUT = 10.0  # seconds
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.5


async def reach(loop: asyncio.AbstractEventLoop, address: Address) -> socket.socket:
    """A connected non-blocking socket. Raises OSError."""
    if address.path is not None:
        return await _reach_path(address.path)
    last: OSError = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    found = await loop.getaddrinfo(address.host or "localhost", address.port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, where in found:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            return await _connected(loop, sock, where)
        except OSError as error:
            last = error
    raise last


async def _reach_path(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    pause = _FIRST_PAUSE_S
    try:
        while True:
            with contextlib.suppress(BlockingIOError):  # its backlog is full, and no loop says when it is not
                sock.connect(path)
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
    except BaseException:
        sock.close()
        raise
    tune(sock)
    return sock


async def _connected(loop: asyncio.AbstractEventLoop, sock: socket.socket, where: object) -> socket.socket:
    try:
        await loop.sock_connect(sock, where)  # type: ignore[arg-type]
    except BaseException:
        sock.close()
        raise
    tune(sock)
    return sock


def connected_at_once(address: Address) -> socket.socket | None:
    """A connected non-blocking socket where that takes no waiting: a number or a path of this machine whose program listens.

    None where it does, or fails: `reach` is for that. Nothing is waited for or looked up here.
    """
    if address.path is not None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        if sock.connect_ex(address.path) == 0:
            tune(sock)
            return sock
        sock.close()
        return None
    where = _numeric(address)
    if where is None:
        return None
    sock = socket.socket(where[0], socket.SOCK_STREAM)
    sock.setblocking(False)
    if sock.connect_ex(where[1]) in (0, errno.EINPROGRESS) and sock.connect_ex(where[1]) in (0, errno.EISCONN):
        tune(sock)
        return sock
    sock.close()
    return None


@functools.lru_cache(maxsize=64)
def _numeric(address: Address) -> tuple[int, tuple[str, int]] | None:
    """(family, where) of a loopback address that is written as numbers."""
    try:
        host = ip_address(address.host or "")
    except ValueError:
        return None
    return (
        (socket.AF_INET if host.version == 4 else socket.AF_INET6, (str(host), address.port)) if host.is_loopback else None
    )


def leads_to(address: Address, remote: IPv4Address | IPv6Address | None) -> bool:
    """Whether this address is at the machine that has called from `remote`; asks the resolver, which may take its time."""
    try:
        found = {
            ip_address(where[0]) for *_, where in socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        }
    except (OSError, UnicodeError, ValueError):
        return False
    plain = remote.ipv4_mapped if isinstance(remote, IPv6Address) and remote.ipv4_mapped else remote
    return plain in found or (plain is not None and plain.is_loopback and any(one.is_loopback for one in found))


def reach_blocking(address: Address, timeout: float | None) -> socket.socket:
    """A connected plain socket. Raises OSError."""
    if address.path is not None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        try:
            sock.connect(address.path)
        except BaseException:
            sock.close()
            raise
        return sock
    sock = socket.create_connection((address.host or "localhost", address.port), timeout)
    tune(sock)
    return sock


def tune(sock: socket.socket) -> None:
    """What every TCP connection of ours gets: no delay for small writes, and an end when the other machine is gone."""
    with contextlib.suppress(OSError):  # a Unix socket takes the second only
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

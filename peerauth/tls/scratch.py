"""One buffer that the connections of a loop share, and straight calls into the TLS library for it.

pyOpenSSL's `recv` and `send` allocate and copy at each call, and raise an exception where nothing is left to read. Bytes
that only pass through need none of that: `SSL_read` decrypts into this buffer, and the socket sends from it (decision 0015).
What is in it belongs to whoever filled it last, until that call of the loop returns.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL

SIZE: Final = 256 << 10  # bytes: sixteen full records

_lib: Any = Binding.lib
_ffi: Any = Binding.ffi
ssl_read = _lib.SSL_read
ssl_write = _lib.SSL_write
ssl_get_error = _lib.SSL_get_error
WANT_READ: Final[int] = _lib.SSL_ERROR_WANT_READ
WANT_WRITE: Final[int] = _lib.SSL_ERROR_WANT_WRITE


class Scratch:
    """SIZE bytes of memory, known to C by `address` and to Python by `view`. For one thread."""

    __slots__ = ("address", "view")

    def __init__(self) -> None:
        self.address: Any = _ffi.new("char[]", SIZE)
        self.view = memoryview(_ffi.buffer(self.address))


Pointer = Any  # of cffi
_own = threading.local()


def of_this_thread() -> Scratch:
    """The one that whatever runs in this thread shares, unless it has one of its own."""
    found: Scratch | None = getattr(_own, "scratch", None)
    if found is None:
        found = _own.scratch = Scratch()
    return found


def handle_of(connection: SSL.Connection) -> Pointer:
    """The SSL that pyOpenSSL keeps for this connection, and frees with it."""
    return connection._ssl  # noqa: SLF001 - the one place that looks behind pyOpenSSL


def raise_for(connection: SSL.Connection, handle: Pointer, result: int) -> None:
    """Raise what pyOpenSSL would have raised for this result of a straight call."""
    connection._raise_ssl_error(handle, result)  # noqa: SLF001 - as above


def write_whole(handle: Pointer) -> None:
    """Let one SSL_write(3) go on over all the records that its data makes; pyOpenSSL asks for a return after each."""
    _lib.SSL_clear_mode(handle, _lib.SSL_MODE_ENABLE_PARTIAL_WRITE)


def is_resumed(handle: Pointer) -> bool:
    """SSL_session_reused(3), which pyOpenSSL does not have."""
    return bool(_lib.SSL_session_reused(handle))


def in_memory(data: bytes | bytearray | memoryview) -> Pointer:
    """Where these bytes are, for C; valid while the result lives."""
    return _ffi.from_buffer(data)

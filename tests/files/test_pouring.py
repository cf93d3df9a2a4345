"""The transport by itself: what is written before, in the middle of, and after a stretch of a file."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.server.server import Server
from peerauth.services.beneath import Opened, open_beneath, open_top
from peerauth.services.patience import Patience
from peerauth.services.pouring import PouringTransport
from peerauth.services.stretch import Stretch
from peerauth.store.peerdir import PeerDirectory
from peerauth.trust.policy import EVERY_PEER
from tests.files.conftest import CONTENT, old
from tests.support.engine import Caller, Yard, how_it_ends, identity, on_loops

BEFORE = bytes(range(251)) * (96 << 10)  # 24 MB: more than the sockets take at once
AFTER = BEFORE[::-1]
Play = Callable[[PouringTransport], asyncio.Future[bool] | None]


class Playing(asyncio.Protocol):
    """Does one thing as soon as it has its transport. `gone`: what became of the stretch."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self.gone: asyncio.Future[bool] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, PouringTransport)
        self.gone = self._play(transport)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opened]:
    """A file of three megabytes."""
    old(tmp_path / "root" / "file", CONTENT)
    with open_top(tmp_path / "root") as top, open_beneath(top, [b"file"]) as opened:
        yield opened


@asynccontextmanager
async def played(yard: Yard, play: Play) -> AsyncIterator[tuple[ssl.SSLSocket, Playing]]:
    """A connection on which this is played."""
    caller = Caller(yard.pin("alice"))
    directory = PeerDirectory(yard.path)
    directory.refresh()
    server = Server(identity("node"), directory, lambda _: None)
    protocol = Playing(play)
    patience = Patience(asyncio.get_running_loop())
    with ThreadPoolExecutor(1) as threads:
        serve = server.listen(
            Address("127.0.0.1", 0), lambda guest: PouringTransport(guest, protocol, patience, threads), EVERY_PEER
        )
        try:
            with await asyncio.to_thread(caller.open, serve[0].port) as tls:
                yield tls, protocol
        finally:
            await server.stop(0)


def read(tls: ssl.SSLSocket, size: int) -> bytes:
    heard = bytearray()
    while len(heard) < size:
        piece = tls.recv(1 << 20)
        assert piece
        heard += piece
    return bytes(heard)


@on_loops()
async def test_what_was_written_before_a_stretch_leaves_before_it_and_what_after_it_after(yard: Yard, file: Opened) -> None:
    def play(transport: PouringTransport) -> asyncio.Future[bool]:
        transport.write(BEFORE)
        assert transport.get_write_buffer_size()
        stretch = Stretch(file, 100, len(CONTENT) - 200)
        transport.write(stretch)
        stretch.gone.add_done_callback(lambda _: transport.write(AFTER))
        stretch.gone.add_done_callback(lambda _: transport.close())
        return stretch.gone

    expected = BEFORE + CONTENT[100:-100] + AFTER
    async with played(yard, play) as (tls, protocol):
        assert await asyncio.to_thread(read, tls, len(expected)) == expected
        assert await asyncio.to_thread(how_it_ends, tls) == "goodbye"
        assert protocol.gone is not None
        assert protocol.gone.result() is True


@on_loops()
@pytest.mark.parametrize("how", ["close", "abort", "the reader leaves"])
async def test_a_stretch_that_ends_early_is_never_an_orderly_end(yard: Yard, file: Opened, how: str) -> None:
    begun: list[PouringTransport] = []

    def play(transport: PouringTransport) -> asyncio.Future[bool]:
        transport.write(BEFORE)
        stretch = Stretch(file, 0, len(CONTENT))
        transport.write(stretch)
        begun.append(transport)
        return stretch.gone

    async with played(yard, play) as (tls, protocol):
        assert await asyncio.to_thread(tls.recv, 10)
        if how == "the reader leaves":
            tls.close()
        else:
            getattr(begun[0], how)()
            assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        assert protocol.gone is not None
        async with asyncio.timeout(20):
            assert await protocol.gone is False


@on_loops()
async def test_a_stretch_for_a_connection_that_is_over_is_over_at_once(yard: Yard, file: Opened) -> None:
    def play(transport: PouringTransport) -> asyncio.Future[bool]:
        transport.abort()
        stretch = Stretch(file, 0, len(CONTENT))
        transport.write(stretch)
        assert stretch.taken
        return stretch.gone

    async with played(yard, play) as (tls, protocol):
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        assert protocol.gone is not None
        assert protocol.gone.result() is False

"""Threat: data that was cut off and looks complete, in either direction; and the end of one direction taken for both."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading

import pytest

from peerauth.address import Address
from peerauth.services import targets
from tests.support.engine import Caller, Halting, Yard, how_it_ends, on_loops, running
from tests.support.targets import echo, everything, target, unused_port

RESET = struct.pack("ii", 1, 0)


class Speaker(Halting):
    """A client that ends its directions one by one, which Python's `ssl` over a socket cannot."""

    def shake(self) -> None:
        self.sock.sendall(b"".join(self.answer()))

    def say(self, data: bytes) -> None:
        self.tls.write(data)
        self.sock.sendall(self._out.read())

    def say_goodbye(self) -> None:
        with contextlib.suppress(OSError):
            self.tls.unwrap()
        self.sock.sendall(self._out.read())

    def hear(self) -> tuple[bytes, str]:
        """Everything, and how it ended: `goodbye`, `cut`, `reset`."""
        heard = b""
        while True:
            try:
                data = self.read()
            except ConnectionResetError:
                return heard, "reset"
            except OSError as error:
                return heard, "cut" if "EOF" in str(error) else str(error)
            if not data:
                return heard, "goodbye"
            heard += data


@on_loops()
async def test_peers_goodbye_ends_one_direction_and_the_answer_still_comes(yard: Yard) -> None:
    def late(sock: socket.socket) -> None:
        heard = everything(sock)
        sock.sendall(b"you said " + heard)

    alice = yard.pin("alice")
    with target(late) as where:
        async with running(yard, target=where) as node:
            with Speaker(Caller(alice), node.port) as one:
                await asyncio.to_thread(one.shake)
                one.say(b"question")
                one.say_goodbye()
                assert await asyncio.to_thread(plain_rest, one) == b"you said question"


def plain_rest(one: Speaker) -> bytes:
    """What comes after our own goodbye: Python reads no more then, so the records are opened by hand."""
    heard = b""
    while data := one.sock.recv(65536):
        one._in.write(data)
    one._in.write_eof()
    with contextlib.suppress(OSError):
        while piece := one.tls.read(65536):
            heard += piece
    return heard


@on_loops()
async def test_targets_end_is_passed_on_and_the_peer_still_speaks(yard: Yard) -> None:
    last: list[bytes] = []

    def brief(sock: socket.socket) -> None:
        sock.sendall(b"all of it")
        sock.shutdown(socket.SHUT_WR)
        last.append(everything(sock))

    alice = yard.pin("alice")
    with target(brief) as where:
        async with running(yard, target=where) as node:
            with Speaker(Caller(alice), node.port) as one:
                await asyncio.to_thread(one.shake)
                assert await asyncio.to_thread(one.hear) == (b"all of it", "goodbye")
                one.say(b"and this from me")
                one.say_goodbye()
                await node.until(lambda: bool(last))
                assert last == [b"and this from me"]
                await node.until(lambda: len(node.server.live) == 0)


@pytest.mark.parametrize("end", ["cut", "reset", "goodbye"])
@on_loops()
async def test_how_the_peer_ends_is_how_the_target_hears_it(yard: Yard, end: str) -> None:
    """A connection that ends without TLS's goodbye is a broken one, whatever TCP says."""
    heard: list[str] = []
    begun = threading.Event()

    def listen(sock: socket.socket) -> None:
        first = sock.recv(1)
        begun.set()
        try:
            data = first + everything(sock)
        except ConnectionResetError:
            heard.append("reset")
        else:
            heard.append(data.decode())

    alice = yard.pin("alice")
    with target(listen) as where:
        async with running(yard, target=where) as node:
            with Speaker(Caller(alice), node.port) as one:
                await asyncio.to_thread(one.shake)
                one.say(b"half of i")
                await asyncio.to_thread(begun.wait, 20)
                if end == "goodbye":
                    one.say_goodbye()
                    await asyncio.to_thread(plain_rest, one)  # closing with something unread would be a reset
                elif end == "reset":
                    one.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                one.close()
                await node.until(lambda: bool(heard))
                assert heard == ["half of i" if end == "goodbye" else "reset"]
                await node.until(lambda: len(node.server.live) == 0)


@pytest.mark.parametrize("end", ["reset", "close"])
@on_loops()
async def test_how_the_target_ends_is_how_the_peer_hears_it(yard: Yard, end: str) -> None:
    def speak(sock: socket.socket) -> None:
        sock.recv(1)
        sock.sendall(b"half of i")
        if end == "reset":
            sock.recv(1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    alice = yard.pin("alice")
    with target(speak) as where:
        async with running(yard, target=where) as node:
            with Speaker(Caller(alice), node.port) as one:
                await asyncio.to_thread(one.shake)
                one.say(b"1")
                if end == "reset":
                    assert await asyncio.to_thread(one.read) == b"half of i"
                    one.say(b"2")
                    assert (await asyncio.to_thread(one.hear))[1] == "reset"
                else:
                    assert await asyncio.to_thread(one.hear) == (b"half of i", "goodbye")


@on_loops("uvloop")
async def test_target_that_is_down_is_a_broken_connection_and_is_reported(yard: Yard) -> None:
    caller = Caller(yard.pin("alice"))
    async with running(yard, target=Address("127.0.0.1", unused_port())) as node:
        tls = await asyncio.to_thread(caller.open, node.port)
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        tls.close()
        event = await node.hears("target-down")
        assert "cannot be reached" in event.message
        assert event.hint
        await node.until(lambda: len(node.server.live) == 0)


@pytest.mark.parametrize("size", [1, 16383, 16384, 16385, 300_001])
@on_loops()
async def test_every_size_comes_back_whole(yard: Yard, size: int) -> None:
    caller, data = Caller(yard.pin("alice")), bytes(i * 7 & 255 for i in range(size))

    def talk(port: int) -> bytes:
        with caller.open(port) as tls:
            tls.sendall(data)
            heard = b""
            while len(heard) < size:
                heard += tls.recv(65536)
            return heard

    with target(echo) as where:
        async with running(yard, target=where) as node:
            assert await asyncio.to_thread(talk, node.port) == data


@on_loops()
@pytest.mark.parametrize("error", [UnicodeError("label too long"), RuntimeError("something else")], ids=["name", "other"])
async def test_whatever_keeps_a_relay_from_its_target_ends_the_connection(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Nobody is left waiting for ever, and a name that cannot be one is reported like a target that is down."""
    caller = Caller(yard.pin("alice"))
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)

    async def fail(*_: object) -> socket.socket:
        raise error

    monkeypatch.setattr(targets, "reach", fail)
    monkeypatch.setattr(targets, "connected_at_once", lambda _: None)
    async with running(yard, target=Address("db.example", 1)) as node:
        tls = await asyncio.to_thread(caller.open, node.port)
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        assert len(node.server.live) == 0
        if isinstance(error, UnicodeError):
            assert "label too long" in (await node.hears("target-down")).message
        tls.close()

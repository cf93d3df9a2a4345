"""A tunnel whose far side comes and goes: who waits, for how long, what is said of it, and what is never tried again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.client import tunnel as module
from peerauth.client.dial import Dialer
from peerauth.client.target import Target
from peerauth.client.tunnel import Lead
from peerauth.client.tunnels import Leads, target_of
from peerauth.errors import BadInput, ConnectFailed, PeerAuthError, TrustRefused
from peerauth.net.sockets import open_listeners
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.tunnels import Tunnel
from tests.support.dropin import DEADLINE_S, mint
from tests.support.engine import Yard, identity, on_loops, running
from tests.support.targets import unused_port


async def until(true: Callable[[], bool]) -> None:
    """Wait until this is true, looking at it now and then."""
    async with asyncio.timeout(DEADLINE_S):
        while not true():  # noqa: ASYNC110 - whoever makes it true tells nobody
            await asyncio.sleep(0.01)


@dataclass
class Led:
    """A lead, where it listens, and what it has said."""

    lead: Lead
    port: int
    said: list[BaseException | None] = field(default_factory=list)

    def call(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)

    async def says(self, count: int) -> None:
        """Wait until so much was said."""
        await until(lambda: len(self.said) >= count)

    async def carries(self, count: int) -> None:
        """Wait until there are so many."""
        await until(lambda: len(self.lead) == count)


@contextlib.asynccontextmanager
async def led(dialer: Dialer, far: int, wait: float = 10.0, meant: str = "node") -> AsyncIterator[Led]:
    said: list[BaseException | None] = []
    lead = Lead(dialer, lambda: Target(dialer.peers().peers[meant], Address("127.0.0.1", far)), wait, said.append)
    sockets = open_listeners(Address("127.0.0.1", 0))
    lead.open(sockets)
    try:
        yield Led(lead, int(sockets[0].getsockname()[1]), said)
    finally:
        await lead.stop(0)
        for sock in sockets:
            sock.close()


def hear(sock: socket.socket, count: int = 12) -> bytes:
    """The first bytes, or what there was until the end; `reset` where it broke."""
    heard = b""
    try:
        while len(heard) < count and (data := sock.recv(65536)):
            heard += data
    except ConnectionError:
        return b"reset"
    return heard


@on_loops()
async def test_client_waits_while_the_far_side_is_away_and_loses_nothing(yard: Yard, dialer: Dialer) -> None:
    yard.pin("alice")
    port = unused_port()
    async with led(dialer, port) as tunnel:
        with tunnel.call() as here:
            here.sendall(b"said before anybody was there")
            await tunnel.says(1)
            assert isinstance(tunnel.said[0], ConnectFailed)
            async with running(yard, port=port) as node:
                heard = await asyncio.to_thread(hear, here, 41)
                assert heard == b"hello alice\nsaid before anybody was there"
                assert [type(one) for one in tunnel.said] == [ConnectFailed, type(None)]
                await node.until(lambda: len(node.server.live) == 1)
            assert await asyncio.to_thread(hear, here) == b"reset", "the far side has ended it, without a goodbye"
        await tunnel.carries(0)
        async with running(yard, port=port):
            with tunnel.call() as again:
                assert await asyncio.to_thread(hear, again) == b"hello alice\n"


@on_loops("uvloop")
async def test_nobody_is_reached_before_somebody_comes(yard: Yard, dialer: Dialer) -> None:
    yard.pin("alice")
    async with running(yard) as node, led(dialer, node.port) as tunnel:
        with tunnel.call() as here:
            assert await asyncio.to_thread(hear, here) == b"hello alice\n"
        assert len(node.told("admitted")) == 1
        await node.until(lambda: len(node.server.live) == 0)
        await tunnel.carries(0)


@on_loops("uvloop")
async def test_waiting_is_bounded_and_said_once(dialer: Dialer) -> None:
    async with led(dialer, unused_port(), wait=0.4) as tunnel:
        began = time.monotonic()
        with tunnel.call() as one, tunnel.call() as other:
            heard = await asyncio.gather(*(asyncio.to_thread(hear, sock) for sock in (one, other)))
        assert heard == [b"reset", b"reset"]
        assert 0.3 < time.monotonic() - began < 5
        assert [error.code for error in tunnel.said if isinstance(error, PeerAuthError)] == ["connection-refused"]


@on_loops("uvloop")
async def test_refusal_is_not_tried_again_and_said_once(yard: Yard, dialer: Dialer) -> None:
    """By the server, which does not know us; and by us, when another than the one that is meant is there."""
    yard.pin("alice")
    stranger = Dialer.of(mint("stranger"), "stranger", dialer.peers)
    for own, meant, said_there in ((stranger, "node", 3), (dialer, "db-1", 0)):
        async with running(yard) as node, led(own, node.port, meant=meant) as tunnel:
            began = time.monotonic()
            for _ in range(3):
                with tunnel.call() as here:
                    assert await asyncio.to_thread(hear, here) == b"reset"
            assert time.monotonic() - began < 5, "it has waited for what does not change"
            assert [type(error) for error in tunnel.said] == [TrustRefused]
            assert len(node.told("refused", code="unknown")) == said_there
            assert node.told("admitted") == []


@on_loops("uvloop")
async def test_only_so_many_wait(dialer: Dialer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    async with led(dialer, unused_port()) as tunnel:
        with tunnel.call(), tunnel.call():
            await tunnel.carries(2)
            await tunnel.says(1)
            with tunnel.call() as third:
                assert await asyncio.to_thread(hear, third) == b"reset"
            assert [error.code for error in tunnel.said if isinstance(error, PeerAuthError)][-1] == "tunnel-full"


@on_loops("uvloop")
async def test_a_crowd_is_carried_in_turn_while_the_far_side_is_well(
    yard: Yard, dialer: Dialer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    yard.pin("alice")
    async with running(yard) as node, led(dialer, node.port) as tunnel:
        socks = [tunnel.call() for _ in range(24)]
        assert await asyncio.gather(*(asyncio.to_thread(hear, sock) for sock in socks)) == [b"hello alice\n"] * 24
        for sock in socks:
            sock.close()
        assert tunnel.said == []


@on_loops("uvloop")
async def test_nothing_is_read_of_those_who_wait(dialer: Dialer) -> None:
    """What they say stays in the kernel, which takes some megabytes and no more."""

    def fill(sock: socket.socket) -> int:
        sock.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 64 << 20:
                sent += sock.send(bytes(65536))
        return sent

    async with led(dialer, unused_port(), wait=60) as tunnel:
        with tunnel.call() as here:
            await tunnel.says(1)
            assert await asyncio.to_thread(fill, here) < 32 << 20
            assert len(tunnel.lead) == 1


@on_loops("uvloop")
async def test_connections_end_with_the_admission_of_the_peer_they_lead_to(tmp_path: Path, yard: Yard) -> None:
    yard.pin("alice")
    dialer, own, directory = alices(tmp_path)
    own.pin("node")
    own.pin("db-1")
    directory.refresh()
    async with running(yard) as node, led(dialer, node.port) as tunnel:
        with tunnel.call() as here:
            assert await asyncio.to_thread(hear, here) == b"hello alice\n"
            own.unpin("db-1")
            directory.refresh()
            tunnel.lead.review()
            assert len(tunnel.lead) == 1
            own.unpin("node")
            directory.refresh()
            tunnel.lead.review()
            assert await asyncio.to_thread(hear, here) == b"reset"
        await tunnel.carries(0)
        assert [error.code for error in tunnel.said if isinstance(error, PeerAuthError)] == ["unknown"]


@on_loops("uvloop")
async def test_peer_that_is_removed_between_handshake_and_start_is_not_carried(
    tmp_path: Path, yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is looked at once more when the connection is known to those that a change of the list concerns."""
    yard.pin("alice")
    dialer, own, directory = alices(tmp_path)
    own.pin("node")
    directory.refresh()
    connect = Dialer.connect

    async def slowly(*words: object, **more: object) -> object:
        transport = await connect(*words, **more)  # type: ignore[arg-type]
        own.unpin("node")
        directory.refresh()
        return transport

    async with running(yard) as node, led(dialer, node.port) as tunnel:
        with monkeypatch.context() as patch, tunnel.call() as here:
            patch.setattr(Dialer, "connect", slowly)
            assert await asyncio.to_thread(hear, here) == b"reset"
        await tunnel.carries(0)
        own.pin("node")
        directory.refresh()
        with tunnel.call() as twin:
            assert await asyncio.to_thread(hear, twin) == b"hello alice\n"


def alices(tmp_path: Path) -> tuple[Dialer, Yard, PeerDirectory]:
    """A dialer, and the list that it goes by, which is empty."""
    own = Yard(tmp_path / "own-peers")
    directory = PeerDirectory(own.path)
    return Dialer.of(identity("alice"), "alice", lambda: directory.current), own, directory


@on_loops("uvloop")
async def test_a_connection_ends_by_a_date_that_is_noted_while_it_is_open(tmp_path: Path, yard: Yard) -> None:
    yard.pin("alice")
    dialer, own, directory = alices(tmp_path)
    own.pin("node")
    directory.refresh()
    async with running(yard) as node, led(dialer, node.port) as tunnel:
        with tunnel.call() as here:
            assert await asyncio.to_thread(hear, here) == b"hello alice\n"
            soon = datetime.now(UTC) + timedelta(seconds=1)
            own.place("node.toml", f'[retire]\n"{identity("node").certificate.fingerprint}" = {soon.isoformat()}')
            directory.refresh()
            tunnel.lead.review()
            assert await asyncio.to_thread(hear, here) == b"reset"
        assert datetime.now(UTC) >= soon


@on_loops("uvloop")
async def test_connections_end_when_the_far_certificate_does(tmp_path: Path, yard: Yard) -> None:
    """By the date that a rotation has noted, which is a moment away."""
    yard.pin("alice")
    dialer, own, directory = alices(tmp_path)
    async with running(yard) as node, led(dialer, node.port) as tunnel:
        soon = datetime.now(UTC) + timedelta(seconds=2)
        own.pin("node", settings=f'[retire]\n"{identity("node").certificate.fingerprint}" = {soon.isoformat()}')
        directory.refresh()
        with tunnel.call() as here:
            assert await asyncio.to_thread(hear, here) == b"hello alice\n"
            assert await asyncio.to_thread(hear, here) == b"reset"
        assert datetime.now(UTC) >= soon


@on_loops("uvloop")
async def test_tunnel_that_is_closed_gives_its_connections_time(yard: Yard, dialer: Dialer) -> None:
    yard.pin("alice")
    async with running(yard) as node:
        told: list[object] = []
        leads = Leads(dialer, lambda _, error: told.append(error))
        tunnel = Tunnel("t", Address("127.0.0.1", 0), "node", Address("127.0.0.1", node.port))
        sockets = open_listeners(tunnel.listen)
        leads.open(tunnel, sockets)
        with socket.create_connection(sockets[0].getsockname()) as here:
            here.settimeout(DEADLINE_S)
            assert await asyncio.to_thread(hear, here) == b"hello alice\n"
            assert leads.close(tunnel, 0.5) == sockets
            here.sendall(b"still there?")
            assert await asyncio.to_thread(hear, here) == b"still there?"
            assert await asyncio.to_thread(hear, here) == b"reset"
        await leads.stop(0)
        sockets[0].close()
        assert told == []


def test_who_is_meant_is_said_by_the_list_as_it_is(dialer: Dialer) -> None:
    peers = dialer.peers()
    somewhere = Address("127.0.0.1", 1)
    assert target_of(Tunnel("t", somewhere, "db-1", somewhere), peers) == Target(peers.peers["db-1"], somewhere)
    for name, code in (("db-1", "no-address"), ("db-9", "no-such-peer")):
        with pytest.raises(BadInput) as error:
            target_of(Tunnel("t", somewhere, name, somewhere if code == "no-such-peer" else None), peers)
        assert error.value.code == code

"""The library as a program uses it: checked by mypy, never run."""

from __future__ import annotations

import asyncio
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import assert_type

import grpc
import grpc.aio

from peerauth import (
    BadInput,
    ConnectFailed,
    Fingerprint,
    Node,
    Peer,
    PeerAuthError,
    PeerServer,
    PeerSettings,
    TrustRefused,
    __version__,
    peer_of,
    when_removed,
)
from peerauth.grpc import AioCallers, Callers, close_when_removed, reaching

assert_type(__version__, str)


def contexts() -> None:
    node = Node.load(Path("db-1"), passphrase=b"secret")
    assert_type(node, Node)
    assert_type(node.name, str)
    assert_type(node.fingerprint, Fingerprint)
    assert_type(str(node.fingerprint), str)
    assert_type(node.server_context(allow=["alice", "tag:ci"]), ssl.SSLContext)
    assert_type(node.client_context("db-1"), ssl.SSLContext)
    assert_type(Fingerprint.parse("00:11"), Fingerprint)
    assert_type(node.peers.roots("db-1"), bytes)


def remote_calls(node: Node, context: grpc.ServicerContext) -> None:
    callers = Callers(node, allow=["alice"])
    server = grpc.server(ThreadPoolExecutor(1), interceptors=[callers])
    server.add_secure_port("127.0.0.1:0", callers.credentials())
    assert_type(callers.peer_of(context), Peer | None)
    grpc.aio.server(interceptors=[AioCallers(node)])
    channel = grpc.secure_channel("db-1:8443", **reaching(node, "db-1"))
    close_when_removed(channel, node, "db-1")
    channel.close()


def peers(node: Node) -> None:
    settings = PeerSettings(address="db-2:8443", note="the other one", tags=("db",), max_connections=4)
    added = node.peers.add("db-2", Path("db-2.crt"), expect="00:11", settings=settings)
    assert_type(added, Peer)
    assert_type(node.peers.add("db-3", b"-----BEGIN"), Peer)
    assert_type(node.peers["db-2"], Peer)
    assert_type([peer.name for peer in node.peers], list[str])
    assert_type("db-2" in node.peers, bool)
    assert_type(len(node.peers), int)
    assert_type(added.tags, tuple[str, ...])
    assert_type(added.address, str | None)
    assert_type(added.settings, PeerSettings)
    node.peers.rename("db-2", "db-4")
    node.peers.remove("db-4")


async def streams(node: Node) -> None:
    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        when_removed(writer, writer.transport.abort)
        peer = peer_of(writer)
        assert_type(peer, Peer | None)
        if peer is not None:
            assert_type(peer.name, str)
        writer.write(await reader.readline())
        writer.close()

    async with await node.start_server(hello, "127.0.0.1", 0, allow=["alice"], on_event=print) as server:
        assert_type(server, PeerServer)
        assert_type(server.port, int)
        await server.stop(drain=1)
    reader, writer = await node.open_connection("db-1", "127.0.0.1:8443")
    assert_type(reader, asyncio.StreamReader)
    assert_type(writer, asyncio.StreamWriter)


def errors() -> str | None:
    try:
        Node.load(".")
    except TrustRefused as error:
        assert_type(error.side, str)
    except (BadInput, ConnectFailed) as error:
        assert_type(error.code, str)
        assert_type(error.message, str)
    except PeerAuthError as error:
        assert_type(error.exit_code, int)
        return error.hint
    return None

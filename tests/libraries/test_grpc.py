"""gRPC with its own TLS, in both roles: exact pins, callers with names, and a decision about every call.

Every refusal has a twin that differs in one fact and is admitted.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from peerauth import BadInput, Node
from peerauth.grpc import AioCallers, Callers, close_when_removed, reaching
from peerauth.tls.gate import FRESH_S
from peerauth.trust.identity import Identity, KeyType, new_key, self_signed
from tests.support.dropin import DEADLINE_S, NOW, mint, version_one
from tests.support.homes import Home
from tests.trust.test_certificate import usage

Call = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path) -> Callable[..., Home]:
    def make(name: str, identity: Identity | None = None) -> Home:
        place = tmp_path / name
        while place.exists():  # two machines may go by the same name
            place = place.with_name(place.name + "-")
        return Home(place, name, identity)

    return make


class Service:
    """Every kind of method; each says who calls."""

    def __init__(self, callers: Callers) -> None:
        self.callers = callers
        self.gone = threading.Event()
        self.heard: list[str] = []

    def name(self, context: Any) -> bytes:  # noqa: ANN401 - of either kind of server
        peer = self.callers.peer_of(context)
        self.heard.append(peer.name if peer else "nobody")
        return self.heard[-1].encode()

    def hello(self, _: bytes, context: grpc.ServicerContext) -> bytes:
        return self.name(context)

    def count(self, _: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield self.name(context)
        assert self.gone.wait(DEADLINE_S)
        yield self.name(context)

    def join(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        return b" ".join([self.name(context), *requests])

    def echo(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield self.name(context)
        yield from requests

    def handlers(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            "test.Greeter",
            {
                "Hello": grpc.unary_unary_rpc_method_handler(self.hello),
                "Count": grpc.unary_stream_rpc_method_handler(self.count),
                "Join": grpc.stream_unary_rpc_method_handler(self.join),
                "Echo": grpc.stream_stream_rpc_method_handler(self.echo),
            },
        )


@contextmanager
def serving(at: Home, **options: Any) -> Iterator[tuple[Service, int]]:  # noqa: ANN401 - those of Callers
    callers = Callers(Node.load(at.path), **options)
    service = Service(callers)
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[callers])
    server.add_generic_rpc_handlers((service.handlers(),))
    port = server.add_secure_port("127.0.0.1:0", callers.credentials())
    server.start()
    try:
        yield service, port
    finally:
        server.stop(0).wait(DEADLINE_S)


def channel_of(who: Home, port: int) -> Any:  # noqa: ANN401 - the stubs want to know the messages' types
    return grpc.secure_channel(f"127.0.0.1:{port}", **reaching(Node.load(who.path), "db-1"))


def hello(port: int, who: Home) -> bytes | grpc.StatusCode:
    """A call on a connection of its own: the answer, or how it failed."""
    with channel_of(who, port) as channel:
        return call(channel)


def call(channel: Any) -> bytes | grpc.StatusCode:  # noqa: ANN401 - as above
    try:
        answer: bytes = channel.unary_unary("/test.Greeter/Hello")(b"", timeout=DEADLINE_S)
    except grpc.RpcError as error:
        return error.code()
    return answer


def how_it_ends(stream: Any) -> grpc.StatusCode:  # noqa: ANN401 - as above
    """The status, when everything was read."""
    with contextlib.suppress(grpc.RpcError):
        for _ in stream:
            pass
    code: grpc.StatusCode = stream.code()
    return code


def settle() -> None:
    """Be sure that the next look at the peers is a fresh one."""
    time.sleep(FRESH_S)  # what is waited for is the time itself


REFUSED = grpc.StatusCode.UNAVAILABLE  # by TLS: the connection is closed


def test_pinned_peers_are_known_by_name_and_strangers_are_refused(home: Callable[..., Home]) -> None:
    server, alice, bob, mallory = home("db-1"), home("alice"), home("bob"), home("mallory")
    for client in (alice, bob, mallory):
        client.knows(server)
    with serving(server.knows(alice, bob)) as (service, port):
        assert [hello(port, who) for who in (alice, bob)] == [b"alice", b"bob"]
        assert hello(port, mallory) is REFUSED
    assert service.heard == ["alice", "bob"]


@pytest.mark.parametrize("signer", ["CA:TRUE", "no basicConstraints", "version 1", "no keyUsage", "keyCertSign", "neither"])
def test_what_a_pinned_peer_has_signed_is_refused(
    home: Callable[..., Home], signer: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A server: BoringSSL would take all but the last for issuers, so their owners are left out, and it is said."""
    makers: dict[str, Callable[[], Identity]] = {
        "CA:TRUE": lambda: mint("root", ca=True),
        "no basicConstraints": lambda: mint("root", ca=None),
        "version 1": lambda: version_one("root"),
        "no keyUsage": lambda: mint("root", ca=False),
        "keyCertSign": lambda: mint("root", ca=False, usage=usage(key_cert_sign=True)),
        "neither": lambda: mint("root", ca=False, usage=usage(key_cert_sign=False)),
    }
    pinned = makers[signer]()
    server, alice, root = home("db-1"), home("alice"), home("root", pinned)
    minted = home("minted", mint("alice", issuer=pinned))
    for client in (alice, root, minted):
        client.knows(server)
    with serving(server.knows(alice, root)) as (_, port):
        assert hello(port, minted) is REFUSED
        assert hello(port, alice) == b"alice"
        if signer == "neither":
            assert hello(port, root) == b"root"
        else:
            assert hello(port, root) is REFUSED
            assert "gRPC cannot admit root" in caplog.text


def test_a_client_reaches_its_peer_alone(home: Callable[..., Home]) -> None:
    """Another pinned peer, a stranger of the same name, and what the peer itself has signed are not that peer."""
    alice, server, other = home("alice"), home("db-1"), home("db-2")
    stranger = home("db-1")
    signed = home("db-1", mint("db-1", issuer=server.identity))
    alice.knows(server, other)
    for one in (server, other, stranger, signed):
        one.knows(alice)
    with serving(server) as (_, port):
        assert hello(port, alice) == b"alice"
    for one in (other, stranger, signed):
        with serving(one) as (service, port):
            assert hello(port, alice) is REFUSED
        assert service.heard == []


def test_a_client_is_told_that_a_peer_who_may_sign_others_is_beyond_grpc(home: Callable[..., Home]) -> None:
    server, fine = home("db-1", mint("db-1", ca=True)), home("db-2")
    alice = home("alice").knows(server, fine)
    node = Node.load(alice.path)

    assert set(reaching(node, "db-2")) == {"credentials", "options"}
    with pytest.raises(BadInput, match="may sign others") as error:
        reaching(node, "db-1")
    assert error.value.code == "no-root"
    assert "peerauth connect db-1 --listen" in str(error.value.hint)


def test_expired_certificates_are_no_roots(home: Callable[..., Home]) -> None:
    old = mint("db-1", until=mint("x").certificate.not_before)
    alice = home("alice").knows(home("db-1", old))
    with pytest.raises(BadInput, match="it has none that is valid now"):
        Node.load(alice.path).peers.roots("db-1")


def test_a_removed_peer_makes_no_further_call_on_the_connection_that_it_has(home: Callable[..., Home]) -> None:
    """Nor on a new one. A call that streams is ended, and its method is told when it asks; the twin loses nothing."""
    server, gone, stays = home("db-1"), home("gone"), home("stays")
    for client in (gone, stays):
        client.knows(server)
    with serving(server.knows(gone, stays)) as (service, port):
        leaving, staying = channel_of(gone, port), channel_of(stays, port)
        with leaving, staying:
            assert [call(leaving), call(staying)] == [b"gone", b"stays"]
            streams = [
                channel.unary_stream("/test.Greeter/Count")(b"", timeout=DEADLINE_S) for channel in (leaving, staying)
            ]
            assert [next(stream) for stream in streams] == [b"gone", b"stays"]

            server.forgets(gone)
            settle()

            assert call(leaving) is grpc.StatusCode.UNAUTHENTICATED
            assert call(staying) == b"stays"
            assert [hello(port, gone), hello(port, stays)] == [REFUSED, b"stays"]
            assert how_it_ends(streams[0]) is grpc.StatusCode.CANCELLED
            service.gone.set()
            assert list(streams[1]) == [b"stays"]

            server.knows(gone)
            settle()
            assert [call(leaving), hello(port, gone)] == [b"gone", b"gone"]


def test_every_kind_of_call_is_decided_about(home: Callable[..., Home], caplog: pytest.LogCaptureFixture) -> None:
    """With `allow`: TLS admits both peers, and the decision only one of them. A method that is not there is not there."""
    server, alice, bob = home("db-1"), home("alice"), home("bob")
    for client in (alice, bob):
        client.knows(server)

    def every(channel: Any) -> list[list[bytes]]:  # noqa: ANN401 - as above
        service.gone.set()
        return [
            [channel.unary_unary("/test.Greeter/Hello")(b"", timeout=DEADLINE_S)],
            list(channel.unary_stream("/test.Greeter/Count")(b"", timeout=DEADLINE_S)),
            [channel.stream_unary("/test.Greeter/Join")(iter([b"1", b"2"]), timeout=DEADLINE_S)],
            list(channel.stream_stream("/test.Greeter/Echo")(iter([b"1", b"2"]), timeout=DEADLINE_S)),
        ]

    with serving(server.knows(alice, bob), allow=["alice"]) as (service, port):
        channels = [channel_of(who, port) for who in (alice, bob)]
        with channels[0], channels[1]:
            assert every(channels[0]) == [[b"alice"], [b"alice"] * 2, [b"alice 1 2"], [b"alice", b"1", b"2"]]
            for kind, name, request in (
                ("unary_unary", "Hello", b""),
                ("unary_stream", "Count", b""),
                ("stream_unary", "Join", iter([b""])),
                ("stream_stream", "Echo", iter([b""])),
            ):
                method = getattr(channels[1], kind)(f"/test.Greeter/{name}")
                with pytest.raises(grpc.RpcError) as error:
                    list(method(request, timeout=DEADLINE_S))
                assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
            with pytest.raises(grpc.RpcError) as error:
                channels[0].unary_unary("/test.Greeter/Nothing")(b"", timeout=DEADLINE_S)
            assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert set(service.heard) == {"alice"}
    assert "127.0.0.1: refused peer bob" in caplog.text


def test_every_port_of_a_server_learns_of_a_change(home: Callable[..., Home]) -> None:
    server, alice, bob = home("db-1"), home("alice"), home("bob")
    for client in (alice, bob):
        client.knows(server)
    callers = Callers(Node.load(server.knows(alice).path))
    running = grpc.server(ThreadPoolExecutor(2), interceptors=[callers])
    running.add_generic_rpc_handlers((Service(callers).handlers(),))
    ports = [running.add_secure_port("127.0.0.1:0", callers.credentials()) for _ in range(2)]
    running.start()
    try:
        assert [hello(port, bob) for port in ports] == [REFUSED] * 2
        server.knows(bob)
        settle()
        assert [hello(port, bob) for port in ports] == [b"bob"] * 2
    finally:
        running.stop(0).wait(DEADLINE_S)


def test_from_is_compared_with_the_address_of_the_call(home: Callable[..., Home]) -> None:
    server, alice, bob = home("db-1"), home("alice"), home("bob")
    for client in (alice, bob):
        client.knows(server)
    server.knows(alice, bob)
    for name, source in (("alice", "127.0.0.0/8"), ("bob", "192.0.2.0/24")):
        (server.path / f"peers/{name}.toml").write_text(f'from = ["{source}"]\n')
    with serving(server) as (_, port):
        assert hello(port, alice) == b"alice"
        assert hello(port, bob) is grpc.StatusCode.UNAUTHENTICATED


def test_another_identity_is_presented_to_new_connections(home: Callable[..., Home]) -> None:
    """A server's own certificate was replaced: whoever has pinned the new one reaches it, without a restart."""
    server, alice = home("db-1"), home("alice")
    with serving(server.knows(alice)) as (_, port):
        assert hello(port, alice.knows(server)) == b"alice"
        server.becomes(self_signed(new_key(KeyType.P256), "db-1", NOW))
        settle()
        assert hello(port, alice) is REFUSED
        assert hello(port, alice.knows(server)) == b"alice"


def test_unreadable_and_empty_peers_admit_nobody(home: Callable[..., Home]) -> None:
    server, alice = home("db-1"), home("alice")
    alice.knows(server)
    with serving(server) as (_, port):
        assert hello(port, alice) is REFUSED
        server.knows(alice)
        settle()
        assert hello(port, alice) == b"alice"
        (server.path / "peers").rename(server.path / "elsewhere")
        settle()
        assert hello(port, alice) is REFUSED
        (server.path / "elsewhere").rename(server.path / "peers")
        settle()
        assert hello(port, alice) == b"alice"


def test_the_same_with_grpc_aio(home: Callable[..., Home]) -> None:
    """Methods that are coroutines, asynchronous generators, and plain functions, which run in threads."""
    server, alice, bob = home("db-1"), home("alice"), home("bob")
    for client in (alice, bob):
        client.knows(server)
    server.knows(alice, bob)
    callers = AioCallers(Node.load(server.path), allow=["alice"])

    def name(context: Any) -> bytes:  # noqa: ANN401 - of either kind
        peer = callers.peer_of(context)
        return peer.name.encode() if peer else b"nobody"

    async def once(_: bytes, context: Any) -> bytes:  # noqa: ANN401 - as above
        return name(context)

    async def stream(_: bytes, context: Any) -> AsyncIterator[bytes]:  # noqa: ANN401 - as above
        yield name(context)
        yield name(context)

    def plain(_: bytes, context: Any) -> bytes:  # noqa: ANN401 - as above
        return name(context)

    async def main() -> None:
        running = grpc.aio.server(interceptors=[callers], migration_thread_pool=ThreadPoolExecutor(1))
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Once": grpc.unary_unary_rpc_method_handler(once),
            "Stream": grpc.unary_stream_rpc_method_handler(stream),
            "Plain": grpc.unary_unary_rpc_method_handler(plain),
        }
        running.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Greeter", methods),))
        port = running.add_secure_port("127.0.0.1:0", callers.credentials())
        await running.start()
        try:
            async with asyncio.timeout(DEADLINE_S):
                to: dict[Home, Any] = {
                    who: grpc.aio.secure_channel(f"127.0.0.1:{port}", **reaching(Node.load(who.path), "db-1"))
                    for who in (alice, bob)
                }
                for method in ("Once", "Plain"):
                    assert await to[alice].unary_unary(f"/test.Greeter/{method}")(b"") == b"alice"
                    with pytest.raises(grpc.aio.AioRpcError, match="not for this peer"):
                        await to[bob].unary_unary(f"/test.Greeter/{method}")(b"")
                assert [one async for one in to[alice].unary_stream("/test.Greeter/Stream")(b"")] == [b"alice"] * 2
                with pytest.raises(grpc.aio.AioRpcError, match="not for this peer"):
                    assert not [one async for one in to[bob].unary_stream("/test.Greeter/Stream")(b"")]
                for channel in to.values():
                    await channel.close()
        finally:
            await running.stop(0)

    asyncio.run(main())


PROMPT_S = 1.0  # 250 ms on a quiet machine


def test_calls_under_way_of_a_removed_peer_are_ended(home: Callable[..., Home], caplog: pytest.LogCaptureFixture) -> None:
    """Although nobody says anything; in every kind of method that takes its time. The twin goes on."""
    server, gone, stays = home("db-1"), home("gone"), home("stays")
    for client in (gone, stays):
        client.knows(server)
    asked = {who: queue.SimpleQueue[bytes | None]() for who in (gone, stays)}
    with serving(server.knows(gone, stays)) as (service, port):
        leaving, staying = channel_of(gone, port), channel_of(stays, port)
        with leaving, staying:

            def streams(channel: Any, who: Home) -> list[Any]:  # noqa: ANN401 - as above
                both = channel.stream_stream("/test.Greeter/Echo")(iter(asked[who].get, None), timeout=DEADLINE_S)
                down = channel.unary_stream("/test.Greeter/Count")(b"", timeout=DEADLINE_S)
                assert [next(both), next(down)] == [who.name.encode()] * 2
                return [both, down]

            cut, kept = streams(leaving, gone), streams(staying, stays)
            began = time.monotonic()
            server.forgets(gone)
            assert [how_it_ends(one) for one in cut] == [grpc.StatusCode.CANCELLED] * 2
            assert time.monotonic() - began < PROMPT_S
            asked[stays].put(b"still there?")
            assert next(kept[0]) == b"still there?"
            service.gone.set()
            assert list(kept[1]) == [b"stays"]
            for one in asked.values():
                one.put(None)
            assert how_it_ends(kept[0]) is grpc.StatusCode.OK
    assert service.callers._calls == set()
    assert "127.0.0.1: refused a stranger, who presents" in caplog.text


class Slow:
    """Methods of grpc.aio that take their time; `over` says whose has ended."""

    def __init__(self, callers: AioCallers) -> None:
        self.callers = callers
        self.over: list[str] = []

    async def _until_over(self, what: str, context: Any) -> bytes:  # noqa: ANN401 - as above
        try:
            await asyncio.Event().wait()
        finally:
            peer = self.callers.peer_of(context)
            self.over.append(f"{what} {peer.name if peer else 'nobody'}")
        return b"never"

    async def once(self, _: bytes, context: Any) -> bytes:  # noqa: ANN401 - as above
        return await self._until_over("once", context)

    async def stream(self, _: bytes, context: Any) -> AsyncIterator[bytes]:  # noqa: ANN401 - as above
        yield b"first"
        yield await self._until_over("stream", context)

    async def flood(self, _: bytes, context: Any) -> AsyncIterator[bytes]:  # noqa: ANN401 - as above
        del context
        while True:
            yield bytes(1 << 20)

    def handlers(self) -> grpc.GenericRpcHandler:
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Once": grpc.unary_unary_rpc_method_handler(self.once),
            "Stream": grpc.unary_stream_rpc_method_handler(self.stream),
            "Flood": grpc.unary_stream_rpc_method_handler(self.flood),
        }
        return grpc.method_handlers_generic_handler("test.Greeter", methods)


async def until_the_end(flooded: Any) -> None:  # noqa: ANN401 - as above
    while await flooded.read() is not grpc.aio.EOF:
        pass


def test_calls_under_way_are_ended_by_grpc_aio_too(home: Callable[..., Home]) -> None:
    """There the caller hears why, and the method that its time is over; one whose caller does not read, when it does."""
    server, gone, stays = home("db-1"), home("gone"), home("stays")
    for client in (gone, stays):
        client.knows(server)
    callers = AioCallers(Node.load(server.knows(gone, stays).path))
    slow = Slow(callers)

    def call_all(channel: Any) -> list[Any]:  # noqa: ANN401 - as above
        streams = [channel.unary_stream(f"/test.Greeter/{name}")(b"") for name in ("Stream", "Flood")]
        return [channel.unary_unary("/test.Greeter/Once")(b""), *streams]

    async def main() -> None:
        running = grpc.aio.server(interceptors=[callers])
        running.add_generic_rpc_handlers((slow.handlers(),))
        port = running.add_secure_port("127.0.0.1:0", callers.credentials())
        await running.start()
        async with asyncio.timeout(DEADLINE_S):
            channels = [
                grpc.aio.secure_channel(f"127.0.0.1:{port}", **reaching(Node.load(who.path), "db-1"))
                for who in (gone, stays)
            ]
            cut, kept = (call_all(channel) for channel in channels)
            for calls in (cut, kept):
                assert [len(await stream.read()) for stream in calls[1:]] == [5, 1 << 20]
            while len(callers._calls) < 6:  # noqa: ASYNC110 - `once` tells nobody that it has begun
                await asyncio.sleep(0.01)
            server.forgets(gone)
            began = time.monotonic()
            assert [await one.code() for one in cut[:2]] == [grpc.StatusCode.UNAUTHENTICATED] * 2
            assert await cut[0].details() == "the certificate is not pinned"
            assert time.monotonic() - began < PROMPT_S
            with pytest.raises(grpc.aio.AioRpcError, match="not pinned"):
                await until_the_end(cut[2])
            assert len(await kept[2].read()) == 1 << 20
            assert not any(one.done() for one in kept)
            assert sorted(slow.over) == ["once nobody", "stream nobody"]
            for channel in channels:
                await channel.close()
        await running.stop(0)

    asyncio.run(main())


def test_a_channel_to_a_removed_peer_is_closed_and_its_calls_end(home: Callable[..., Home]) -> None:
    """Where the program has asked for it; the twin is one to another peer. A new pin closes nothing, a lost one does."""
    alice, server, other = home("alice"), home("db-1"), home("db-2")
    for one in (server, other):
        one.knows(alice)
    node = Node.load(alice.knows(server, other).path)
    with serving(server) as (_, port), serving(other) as (_, another):
        closing: Any = grpc.secure_channel(f"127.0.0.1:{port}", **reaching(node, "db-1"))
        staying: Any = grpc.secure_channel(f"127.0.0.1:{another}", **reaching(node, "db-2"))
        for channel, name in ((closing, "db-1"), (staying, "db-2")):
            close_when_removed(channel, node, name)
        streams = [channel.unary_stream("/test.Greeter/Count")(b"", timeout=DEADLINE_S) for channel in (closing, staying)]
        assert [next(stream) for stream in streams] == [b"alice"] * 2
        began = time.monotonic()
        alice.forgets(server)
        assert how_it_ends(streams[0]) is grpc.StatusCode.CANCELLED
        assert time.monotonic() - began < PROMPT_S
        with pytest.raises(ValueError, match="closed channel"):
            call(closing)
        assert call(staying) == b"alice"
        staying.close()


def test_a_channel_of_grpc_aio_is_closed_too(home: Callable[..., Home]) -> None:
    alice, server = home("alice"), home("db-1")
    node = Node.load(alice.knows(server).path)

    async def main(port: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            channel: Any = grpc.aio.secure_channel(f"127.0.0.1:{port}", **reaching(node, "db-1"))
            close_when_removed(channel, node, "db-1")
            stream = channel.unary_stream("/test.Greeter/Count")(b"")
            assert await stream.read() == b"alice"
            alice.forgets(server)
            with pytest.raises(asyncio.CancelledError):  # as grpc.aio has it, for whoever reads then
                await stream.read()
            assert stream.done()

    with serving(server.knows(alice)) as (service, port):
        asyncio.run(main(port))
        service.gone.set()

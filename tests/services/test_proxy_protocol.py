"""What a backend hears first with `proxy_protocol = "v2"`, read by a receiver that shares nothing with the sender."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.address import Address
from peerauth.services.proxy_protocol import header
from peerauth.store.config import Service
from peerauth.store.kinds import Relay
from peerauth.trust.policy import EVERY_PEER
from tests.support.engine import Caller, Yard, identity, on_loops, running
from tests.support.proxied import Heard, decode, read_header
from tests.support.targets import target

IPV6 = st.ip_addresses(v=6).filter(lambda host: getattr(host, "ipv4_mapped", None) is None)
PORTS = st.integers(0, 65535)
TLVS = st.dictionaries(st.integers(0, 255), st.binary(max_size=300), max_size=8)
PATHS = st.text(st.characters(min_codepoint=33, max_codepoint=0x7FF), max_size=50).filter(lambda text: "\0" not in text)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """An empty peers directory."""
    return Yard(tmp_path / "peers")


def without_tls(tlvs: dict[int, bytes]) -> list[tuple[int, bytes]]:
    """TLVs with any content, but PP2_TYPE_SSL, which has a form."""
    return [(kind, value) for kind, value in tlvs.items() if kind != 0x20]


@given(st.tuples(st.ip_addresses(v=4).map(str), PORTS), st.tuples(st.ip_addresses(v=4).map(str), PORTS), TLVS)
def test_any_ipv4_comes_through(source: tuple[str, int], destination: tuple[str, int], tlvs: dict[int, bytes]) -> None:
    heard = decode(header(source, destination, without_tls(tlvs)))
    assert heard == Heard(1, "tcp4", source, destination, dict(without_tls(tlvs)), None)


@given(st.tuples(IPV6, PORTS), st.tuples(IPV6, PORTS), st.integers(0, 9))
def test_any_ipv6_comes_through(source: tuple[object, int], destination: tuple[object, int], scope: int) -> None:
    ends = [(str(host), port, 0, scope) for host, port in (source, destination)]
    heard = decode(header(ends[0], ends[1], []))
    assert (heard.family, heard.source, heard.destination) == ("tcp6", ends[0][:2], ends[1][:2])


@given(PATHS, PATHS)
def test_any_path_comes_through(source: str, destination: str) -> None:
    heard = decode(header(source, destination, []))
    assert (heard.family, heard.source, heard.destination) == ("unix", source, destination)


def test_ipv4_that_came_through_an_ipv6_socket_is_ipv4_and_mixed_ends_are_ipv6() -> None:
    heard = decode(header(("::ffff:192.0.2.7", 5, 0, 0), ("::ffff:192.0.2.8", 6, 0, 0), []))
    assert (heard.family, heard.source, heard.destination) == ("tcp4", ("192.0.2.7", 5), ("192.0.2.8", 6))
    heard = decode(header(("192.0.2.7", 5), ("2001:db8::1", 6, 0, 0), []))
    assert (heard.family, heard.source) == ("tcp6", ("::ffff:c000:207", 5))
    assert decode(header(("fe80::1%eth0", 5, 0, 2), ("fe80::2", 6, 0, 2), [])).source == ("fe80::1", 5)


@pytest.mark.parametrize("ends", [(None, None), ("/run/x", ("192.0.2.7", 5)), (b"", None)])
def test_ends_that_are_not_known_are_unspecified(ends: tuple[object, object]) -> None:
    heard = decode(header(*ends, [(1, b"h2")]))
    assert (heard.command, heard.family, heard.tlvs) == (1, "unspec", {1: b"h2"})


@contextlib.contextmanager
def backend() -> Iterator[tuple[Address, list[Heard], list[bytes]]]:
    """A backend that hears the header and echoes what follows; what it heard of each."""
    headers: list[Heard] = []
    rest: list[bytes] = []

    def behave(sock: socket.socket) -> None:
        headers.append(read_header(sock))
        while data := sock.recv(65536):
            rest.append(data)
            sock.sendall(data)

    with target(behave) as where:
        yield where, headers, rest


def talk(tls: ssl.SSLSocket) -> bytes:
    """Say something, and hear it again."""
    tls.sendall(b"hello")
    return tls.recv(100)


@on_loops()
async def test_backend_hears_first_who_the_peer_is_and_then_what_it_says(yard: Yard) -> None:
    """The name is the one that it is pinned under, whatever its certificate says (here: mallory)."""
    caller = Caller(yard.pin("alice", identity("mallory")))
    with backend() as (where, headers, rest):
        async with running(yard, target=where, proxy_protocol=True) as node:
            tls = await asyncio.to_thread(caller.open, node.port, source="127.0.0.9")
            assert await asyncio.to_thread(talk, tls) == b"hello"
            own = tls.getsockname()
            cipher = tls.cipher()
            tls.close()
    (heard,) = headers
    assert (heard.command, heard.family) == (1, "tcp4")
    assert (heard.source, heard.destination) == (own, ("127.0.0.1", node.port))
    assert cipher is not None
    assert heard.tls == (0x01 | 0x02 | 0x04, 0, {0x21: b"TLSv1.3", 0x22: b"alice", 0x23: cipher[0].encode()})
    fingerprint = str(identity("mallory").certificate.fingerprint).encode()
    assert {kind: value for kind, value in heard.tlvs.items() if kind != 0x20} == {
        0x02: b"node",
        0xE5: b"alice",
        0xE6: fingerprint,
    }
    assert b"".join(rest) == b"hello"
    assert b"mallory" not in b"".join(heard.tlvs.values())


@on_loops("uvloop")
async def test_resumed_session_showed_its_certificate_earlier(yard: Yard) -> None:
    caller = Caller(yard.pin("alice"), tls12=True)
    with backend() as (where, headers, _):
        async with running(yard, target=where, proxy_protocol=True, min_tls="1.2") as node:
            first = await asyncio.to_thread(caller.open, node.port)
            assert await asyncio.to_thread(talk, first) == b"hello"
            again = await asyncio.to_thread(caller.open, node.port, session=first.session)
            assert await asyncio.to_thread(talk, again) == b"hello"
            assert (first.session_reused, again.session_reused) == (False, True)
            first.close()
            again.close()
    flags = [heard.tls[0] for heard in headers if heard.tls is not None]
    assert flags == [0x07, 0x05]
    assert [heard.tls[2][0x21] for heard in headers if heard.tls] == [b"TLSv1.2"] * 2


@on_loops("uvloop")
@pytest.mark.parametrize("listen", ["ipv6", "unix"])
async def test_other_listeners(yard: Yard, tmp_path: Path, listen: str) -> None:
    caller = Caller(yard.pin("alice"))
    path = str(tmp_path / "own.sock")
    address, family = (Address("::1", 0), socket.AF_INET6) if listen == "ipv6" else (Address(path=path), socket.AF_UNIX)

    def visit(where: tuple[str, int] | str) -> tuple[bytes, object]:
        with socket.socket(family) as plain:
            plain.settimeout(10)
            plain.connect(where)
            with caller.context.wrap_socket(plain, server_hostname="node") as tls:
                return talk(tls), tls.getsockname()

    with backend() as (where, headers, _):
        async with running(yard) as node:
            service = Service("db", address, Relay((where,), proxy_protocol=True), EVERY_PEER)
            (bound,) = await node.server.add_service(service)
            there = path if listen == "unix" else ("::1", bound.port)
            said, own = await asyncio.to_thread(visit, there)
    (heard,) = headers
    assert said == b"hello"
    if listen == "unix":
        assert (heard.family, heard.source, heard.destination) == ("unix", "", path)
    else:
        assert isinstance(own, tuple)
        assert (heard.family, heard.source, heard.destination) == ("tcp6", own[:2], there)
    assert heard.tls is not None
    assert heard.tls[2][0x22] == b"alice"


@on_loops("uvloop")
async def test_without_the_setting_nothing_is_said_before_the_peer(yard: Yard) -> None:
    """The twin of all of the above."""
    caller = Caller(yard.pin("alice"))
    heard: list[bytes] = []

    def behave(sock: socket.socket) -> None:
        heard.append(sock.recv(100))
        sock.sendall(heard[0])

    with target(behave) as where:
        async with running(yard, target=where) as node:
            tls = await asyncio.to_thread(caller.open, node.port)
            assert await asyncio.to_thread(talk, tls) == b"hello"
            tls.close()
    assert heard == [b"hello"]


@on_loops("uvloop")
async def test_backend_that_takes_the_header_in_pieces_still_hears_it_first(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No system does so to the first bytes of a connection; the order holds all the same."""
    from peerauth.services import ends  # noqa: PLC0415 - what is changed here

    caller = Caller(yard.pin("alice"))
    offer: Callable[..., int] = ends.Plain.offer
    monkeypatch.setattr(ends.Plain, "offer", lambda self, data: offer(self, data[:7]))
    with backend() as (where, headers, rest):
        async with running(yard, target=where, proxy_protocol=True) as node:
            tls = await asyncio.to_thread(caller.open, node.port)
            assert await asyncio.to_thread(talk, tls) == b"hello"
            tls.close()
    assert headers[0].tlvs[0xE5] == b"alice"
    assert b"".join(rest) == b"hello"

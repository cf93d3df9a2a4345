"""Threat: being talked down to old TLS, or into renegotiation or compression."""

from __future__ import annotations

import asyncio
import select
import ssl
import threading
import time
from contextlib import suppress

import pytest
from cryptography import x509
from OpenSSL import SSL

from peerauth.tls.context import server_context
from peerauth.tls.session import Session, Wait
from peerauth.trust.decision import Admitted
from peerauth.trust.peers import Peer
from tests.support.dropin import DEADLINE_S, tcp_pair
from tests.support.engine import Caller, Yard, hear_line, identity, on_loops, running


@on_loops("uvloop")
async def test_tls_1_2_is_refused_unless_it_is_asked_for(yard: Yard) -> None:
    caller = Caller(yard.pin("alice"), tls12=True)
    async with running(yard) as node:
        assert await asyncio.to_thread(caller.hear, node.port) == "TLSV1_ALERT_PROTOCOL_VERSION"
        refused = await node.hears("refused", code="tls-version")
        assert 'min_tls = "1.2"' in (refused.hint or "")
    async with running(yard, min_tls="1.2") as node:
        assert await asyncio.to_thread(caller.hear, node.port) == "hello alice"
        assert await asyncio.to_thread(Caller(identity("alice")).hear, node.port) == "hello alice"
        assert await asyncio.to_thread(Caller(identity("stranger"), tls12=True).hear, node.port) == "TLSV1_ALERT_UNKNOWN_CA"
        assert await asyncio.to_thread(Caller(None, tls12=True).hear, node.port) in {
            "SSLV3_ALERT_HANDSHAKE_FAILURE",
            "TLSV1_ALERT_UNKNOWN_CA",
        }


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@on_loops("uvloop")
async def test_older_versions_are_refused_even_then(yard: Yard, version: ssl.TLSVersion) -> None:
    caller = Caller(yard.pin("alice"), ciphers="ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        caller.context.minimum_version = caller.context.maximum_version = version
    async with running(yard, min_tls="1.2") as node:
        heard = await asyncio.to_thread(caller.hear, node.port)
        assert "VERSION" in heard or "PROTOCOL" in heard
        assert not node.told("admitted")


@pytest.mark.parametrize(
    ("suite", "heard"),
    [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", "hello alice"),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", "hello alice"),
        ("ECDHE-ECDSA-AES128-SHA256", "SSLV3_ALERT_HANDSHAKE_FAILURE"),
        ("ECDHE-ECDSA-AES256-SHA", "SSLV3_ALERT_HANDSHAKE_FAILURE"),
        ("DHE-RSA-AES128-GCM-SHA256", "SSLV3_ALERT_HANDSHAKE_FAILURE"),
        ("AES128-GCM-SHA256", "SSLV3_ALERT_HANDSHAKE_FAILURE"),
    ],
)
@on_loops("uvloop")
async def test_tls_1_2_takes_only_aead_with_ephemeral_keys(yard: Yard, suite: str, heard: str) -> None:
    caller = Caller(yard.pin("alice"), tls12=True, ciphers=suite)
    async with running(yard, min_tls="1.2") as node:
        assert await asyncio.to_thread(caller.hear, node.port) == heard
        if heard != "hello alice":
            await node.hears("refused", code="no-shared-cipher")


@on_loops("uvloop")
async def test_resumption_in_tls_1_2_is_decided_again(yard: Yard) -> None:
    caller = Caller(yard.pin("alice"), tls12=True)
    async with running(yard, min_tls="1.2") as node:
        _, ticket, _ = await asyncio.to_thread(caller.visit, node.port)
        assert (await asyncio.to_thread(caller.visit, node.port, session=ticket))[::2] == ("hello alice", True)
        yard.unpin("alice")
        await node.hears("peer-removed")
        assert await asyncio.to_thread(caller.hear, node.port, session=ticket) == "TLSV1_ALERT_UNKNOWN_CA"


@on_loops("uvloop")
async def test_nothing_is_compressed(yard: Yard) -> None:
    caller = Caller(yard.pin("alice"), tls12=True)
    caller.context.options &= ~ssl.OP_NO_COMPRESSION
    async with running(yard, min_tls="1.2") as node:
        with await asyncio.to_thread(caller.open, node.port) as tls:
            assert await asyncio.to_thread(hear_line, tls) == "hello alice"
            assert tls.compression() is None


def test_renegotiation_is_refused_and_the_connection_goes_on() -> None:
    far, near = tcp_pair()
    far.setblocking(False)
    alice = identity("alice").certificate
    yes = Admitted(Peer("alice", (alice.fingerprint,)), alice.fingerprint)
    server = Session(server_context(identity("node"), min_tls="1.2"), far, lambda _: yes)
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate(x509.load_der_x509_certificate(alice.der))
    context.use_privatekey(identity("alice").key)
    near.settimeout(None)
    client = SSL.Connection(context, near)
    client.set_connect_state()

    def serve() -> None:
        while server.handshake() is not Wait.NOTHING:
            time.sleep(0)

    thread = threading.Thread(target=serve)
    thread.start()
    client.do_handshake()
    thread.join(DEADLINE_S)
    server.confirm()

    assert client.renegotiate()
    near.setblocking(False)
    with suppress(SSL.WantReadError):
        client.do_handshake()  # sends a ClientHello inside the connection
    select.select([far], [], [], DEADLINE_S)
    assert server.read() is Wait.READABLE
    assert server.write(b"still here") == 10
    select.select([near], [], [], DEADLINE_S)
    with pytest.raises(SSL.Error, match="no renegotiation"):
        client.do_handshake()
    assert client.total_renegotiations() == 1  # it was tried, and refused
    far.close()
    near.close()

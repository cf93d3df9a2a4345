"""Threat: strangers who are told in HTTP why they are refused, and try to get from there to the service.

Each attack has a twin: the same by a peer, who is served.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.bindings.openssl.binding import Binding
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from OpenSSL import SSL

from peerauth.address import Address
from peerauth.server import explainer
from peerauth.server.explainer import MOST, MOST_OF_A_SOURCE
from peerauth.store.config import Limits, Service
from peerauth.store.kinds import Hello
from peerauth.tls.context import MinimumVersion
from peerauth.trust.identity import Identity
from peerauth.trust.policy import Policy
from tests.support.asking import ASK, ASK_AND_LEAVE, Heard, ask, asking, ends_with
from tests.support.dropin import DEADLINE_S, mint
from tests.support.engine import Caller, Running, Yard, descriptors, files_of, how_it_ends, identity, on_loops, running
from tests.threats.test_absurd_certificates import KEYS, over

FAST_S = 2.0
BOTH = ("mallory", "nobody")
HELLO = "Hello, alice!\n"


@contextlib.asynccontextmanager
async def explaining(yard: Yard, *, min_tls: MinimumVersion = "1.3") -> AsyncIterator[Running]:
    """The hello service, which explains; alice is pinned."""
    yard.pin("alice")
    async with running(yard, hello=True, on_unknown="explain", min_tls=min_tls) as node:
        yield node


def caller_of(who: str, *, tls12: bool = False) -> Caller:
    """A client with this identity, or without any: `nobody`."""
    return Caller(None if who == "nobody" else identity(who), tls12=tls12)


async def heard(caller: Caller, node: Running, request: bytes = ASK_AND_LEAVE, **how: object) -> Heard:
    """Ask in a thread."""
    return await asyncio.to_thread(ask, caller, node.port, request, **how)  # type: ignore[arg-type]


def is_refusal(answer: Heard, who: str = "mallory") -> bool:
    """Whether this is one refusal, and nothing else."""
    status, code = (401, "no-certificate") if who == "nobody" else (403, "unknown")
    told = answer.status == status and answer.headers["peerauth-refused"] == code
    return told and answer.answers == 1 and b"ello" not in answer.data and not answer.alert


# What is said over one connection


@pytest.mark.parametrize("who", BOTH)
@on_loops()
async def test_of_several_requests_one_is_answered(yard: Yard, who: str) -> None:
    pipelined = ASK * 3 + ASK_AND_LEAVE
    async with explaining(yard) as node:
        assert is_refusal(await heard(caller_of(who), node, pipelined), who)
        assert not node.told("admitted")
        twin = await heard(caller_of("alice"), node, pipelined)
        assert (twin.status, twin.answers) == (200, 4)


UPGRADES = {
    "websocket": asking(Upgrade="websocket").replace(b"Connection: close", b"Connection: Upgrade"),
    "h2c": asking(Upgrade="h2c").replace(b"Connection: close", b"Connection: Upgrade, HTTP2-Settings"),
    "h2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "connect": b"CONNECT node:443 HTTP/1.1\r\nHost: node\r\n\r\n" + ASK,
    "absolute": asking(path="https://node/hello"),
    "continue": asking(method="POST", Expect="100-continue"),
    "smuggled": b"POST / HTTP/1.1\r\nHost: node\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + ASK,
    "folded": b"GET /hello HTTP/1.1\r\nHost: node\r\nX: a\r\n\tb\r\n\r\n",
    "old": b"GET /hello\r\n\r\n",
    "no HTTP": b"\x00\xff" * 500 + b"\r\n\r\n",
    "newlines": b"\r\n" * 50,
    "endless": b"GET /" + b"a" * 20_000,
    "another peer": asking(**{"X-Peer-Name": "alice", "Peerauth-Refused": "", "Authorization": "Basic YWxpY2U6"}),
}


@pytest.mark.parametrize("how", UPGRADES)
@on_loops("uvloop")
async def test_nothing_that_is_said_leads_further(yard: Yard, how: str) -> None:
    async with explaining(yard) as node:
        assert is_refusal(await heard(caller_of("mallory"), node, UPGRADES[how]))
        assert is_refusal(await heard(caller_of("nobody"), node, UPGRADES[how]), "nobody")
        assert not node.told("admitted")
        assert (await heard(caller_of("alice"), node)).body == HELLO


@on_loops("uvloop")
async def test_nothing_is_answered_after_the_answer(yard: Yard) -> None:
    async with explaining(yard) as node:
        with await asyncio.to_thread(caller_of("mallory").open, node.port) as tls:
            tls.sendall(ASK)
            first = await asyncio.to_thread(tls.recv, 65536)
            assert first.startswith(b"HTTP/1.1 403 ")
            with contextlib.suppress(OSError):
                tls.sendall(ASK)
            with contextlib.suppress(OSError):
                assert await asyncio.to_thread(tls.recv, 65536) == b""
        assert not node.told("admitted")
        with await asyncio.to_thread(caller_of("alice").open, node.port) as tls:
            for _ in range(2):
                tls.sendall(ASK)
                assert await asyncio.to_thread(ends_with, tls, HELLO.encode())


@on_loops()
async def test_answer_arrives_while_a_body_is_still_sent(yard: Yard) -> None:
    large = asking(method="POST", **{"Content-Length": "500000"}) + bytes(500_000)
    async with explaining(yard) as node:
        for _ in range(5):
            assert is_refusal(await heard(caller_of("mallory"), node, large))


# TLS


@pytest.mark.parametrize("tls12", [False, True], ids=["1.3", "1.2"])
@on_loops("uvloop")
async def test_a_strangers_ticket_is_decided_about_again(yard: Yard, *, tls12: bool) -> None:
    """It opens nothing; once its owner is pinned it is a peer's; once the peer is removed it is no ticket any more."""
    caller = caller_of("mallory", tls12=tls12)
    async with explaining(yard, min_tls="1.2") as node:
        first = await heard(caller, node)
        again = await heard(caller, node, session=first.session)
        assert is_refusal(first)
        assert is_refusal(again)
        assert again.resumed
        assert not node.told("admitted")

        yard.pin("mallory")
        await node.hears("peer-added", peer="mallory")
        admitted = await heard(caller, node, session=first.session)
        assert (admitted.body, admitted.resumed) == ("Hello, mallory!\n", True)

        yard.unpin("mallory")
        await node.hears("peer-removed", peer="mallory")
        after = await heard(caller, node, session=admitted.session)
        assert is_refusal(after)
        assert not after.resumed


@on_loops("uvloop")
async def test_a_ticket_of_nobody_stays_nobodys(yard: Yard) -> None:
    """Alice comes without her certificate, and then with it on the same ticket: nothing was proven, and she hears so."""
    caller = caller_of("nobody")
    async with explaining(yard) as node:
        first = await heard(caller, node)
        caller.context.load_cert_chain(*files_of(identity("alice")))
        again = await heard(caller, node, session=first.session)
        assert again.resumed
        assert is_refusal(again, "nobody")
        assert (await heard(caller, node)).body == HELLO


@on_loops("uvloop")
async def test_a_strangers_ticket_is_none_where_strangers_are_refused(yard: Yard) -> None:
    """Two services of one node: what the one gave a stranger is nothing to the other, which refuses in the handshake."""
    caller = caller_of("mallory")
    async with explaining(yard) as node:
        shut = Service("shut", Address("127.0.0.1", 0), Hello(), Policy("shut"))
        port = (await node.server.add_service(shut))[0].port
        first = await heard(caller, node)
        assert is_refusal(first)
        at_other = await asyncio.to_thread(ask, caller, port, session=first.session)
        assert (at_other.data, at_other.alert) == (b"", "TLSV1_ALERT_UNKNOWN_CA")
        without = await asyncio.to_thread(ask, caller_of("nobody"), port)
        assert (without.data, without.alert) == (b"", "TLSV13_ALERT_CERTIFICATE_REQUIRED")
        twin = await asyncio.to_thread(ask, caller_of("alice"), port)
        assert twin.body == HELLO


@on_loops("uvloop")
async def test_no_ticket_lets_anything_be_said_early(yard: Yard) -> None:
    """0-RTT would be said before anything is decided; the tickets of strangers and peers alike allow none of it."""
    async with explaining(yard) as node:
        for who, status in (("mallory", b"403"), ("alice", b"200")):
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.use_certificate_file(files_of(identity(who))[0])
            context.use_privatekey_file(files_of(identity(who))[1])

            def visit(context: SSL.Context = context) -> tuple[bytes, SSL.Session | None]:
                with socket.create_connection(("127.0.0.1", node.port), DEADLINE_S) as sock:
                    sock.settimeout(None)
                    client = SSL.Connection(context, sock)
                    client.set_connect_state()
                    client.sendall(ASK_AND_LEAVE)
                    return client.recv(65536), client.get_session()

            said, ticket = await asyncio.to_thread(visit)
            assert said.startswith(b"HTTP/1.1 " + status)
            assert ticket is not None
            assert Binding.lib.SSL_SESSION_get_max_early_data(ticket._session) == 0


SPOKEN = [(), ("http/1.1",), ("h2", "http/1.1"), ("h2",), ("peerauth/2", "http/1.1"), ("acme-tls/1",)]


@pytest.mark.parametrize("alpn", SPOKEN, ids=lambda alpn: " ".join(alpn) or "none")
@on_loops("uvloop")
async def test_whatever_is_offered_it_is_http_and_a_refusal(yard: Yard, alpn: tuple[str, ...]) -> None:
    async with explaining(yard) as node:
        for who in (*BOTH, "alice"):
            caller = caller_of(who)
            if alpn:
                caller.context.set_alpn_protocols(list(alpn))
            answer = await heard(caller, node)
            assert answer.body == HELLO if who == "alice" else is_refusal(answer, who)


@on_loops("uvloop")
async def test_under_our_own_protocol_no_http_is_spoken(yard: Yard) -> None:
    """Whoever offers peerauth/1 is at the desk, with whatever else it offers; there HTTP is junk."""
    async with explaining(yard) as node:
        for who in ("mallory", "alice"):
            caller = caller_of(who)
            caller.context.set_alpn_protocols(["http/1.1", "peerauth/1"])
            assert (await heard(caller, node)).data == b""
        caller = caller_of("nobody")
        caller.context.set_alpn_protocols(["http/1.1", "peerauth/1"])
        answer = await heard(caller, node)
        assert (answer.data, answer.alert) == (b"", "TLSV13_ALERT_CERTIFICATE_REQUIRED")
        assert not node.told("admitted")
        assert (await heard(caller_of("alice"), node)).body == HELLO


@on_loops("uvloop")
async def test_under_our_own_protocol_in_tls_1_2_a_stranger_is_refused_in_the_handshake(yard: Yard) -> None:
    async with explaining(yard, min_tls="1.2") as node:
        for who, alert in (("mallory", "TLSV1_ALERT_UNKNOWN_CA"), ("nobody", "SSLV3_ALERT_HANDSHAKE_FAILURE")):
            caller = caller_of(who, tls12=True)
            caller.context.set_alpn_protocols(["peerauth/1"])
            answer = await heard(caller, node)
            assert (answer.data, answer.alert) == (b"", alert)
        assert is_refusal(await heard(caller_of("mallory", tls12=True), node))
        assert is_refusal(await heard(caller_of("nobody", tls12=True), node), "nobody")
        assert (await heard(caller_of("alice", tls12=True), node)).body == HELLO


@on_loops("uvloop")
async def test_another_certificate_is_not_asked_for_later(yard: Yard) -> None:
    """Who offers post-handshake authentication (RFC 8446 section 4.6.2) is not asked; in TLS 1.2 nothing is renegotiated."""
    async with explaining(yard, min_tls="1.2") as node:
        caller = caller_of("nobody")
        caller.context.post_handshake_auth = True
        caller.context.load_cert_chain(*files_of(identity("mallory")))
        assert is_refusal(await heard(caller, node))

        def renegotiate() -> bytes:
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
            with socket.create_connection(("127.0.0.1", node.port), DEADLINE_S) as sock:
                sock.settimeout(None)
                client = SSL.Connection(context, sock)
                client.set_connect_state()
                client.do_handshake()
                client.use_certificate(x509.load_der_x509_certificate(identity("alice").certificate.der))
                client.use_privatekey(identity("alice").key)
                client.renegotiate()
                with contextlib.suppress(SSL.Error):  # OpenSSL's own client gives up when it is refused that
                    client.do_handshake()
                    client.sendall(ASK)
                    return client.recv(65536)
                return b"it gave up"

        assert (await asyncio.to_thread(renegotiate))[:13] in (b"it gave up", b"HTTP/1.1 401 ")
        assert not node.told("admitted")
        assert (await heard(caller_of("alice"), node)).body == HELLO


# Certificates


@on_loops("uvloop")
async def test_whom_a_pinned_authority_has_made_is_a_stranger(yard: Yard) -> None:
    authority = mint("authority", ca=True)
    yard.pin("authority", authority)
    async with explaining(yard) as node:
        minted = Caller(mint("alice", issuer=authority))
        assert is_refusal(await heard(minted, node))
        assert (await heard(Caller(authority), node)).body == "Hello, authority!\n"


def with_anothers_key(whose: Identity, key: Identity, place: Path) -> Caller:
    """A client with somebody's certificate and another key: its file says that the public half is the right one."""
    pinned, own = whose.key, key.key
    assert isinstance(pinned, ec.EllipticCurvePrivateKey)
    assert isinstance(own, ec.EllipticCurvePrivateKey)
    halves = [one.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) for one in (pinned, own)]
    der = own.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert halves[1] in der
    text = base64.encodebytes(der.replace(halves[1], halves[0])).decode()
    (place / "bent.key").write_text(f"-----BEGIN EC PRIVATE KEY-----\n{text}-----END EC PRIVATE KEY-----\n")
    caller = Caller(None)
    caller.context.load_cert_chain(files_of(whose)[0], place / "bent.key")
    return caller


@on_loops("uvloop")
async def test_who_has_a_certificate_and_not_its_key_is_told_nothing(yard: Yard, tmp_path: Path) -> None:
    """Not even what is thought of it: the handshake fails before the answer, for a peer's certificate and a stranger's."""
    async with explaining(yard, min_tls="1.2") as node:
        for whose in ("alice", "mallory"):
            for tls12 in (False, True):
                thief = with_anothers_key(identity(whose), identity("thief"), tmp_path)
                if tls12:
                    thief.context.maximum_version = ssl.TLSVersion.TLSv1_2
                answer = await heard(thief, node)
                assert answer.data == b""
                assert answer.alert in ("TLSV1_ALERT_DECRYPT_ERROR", "cut")  # "cut": the alert was lost
        assert not node.told("admitted")
        assert not node.told("refused", code="unknown", peer="alice")
        assert (await heard(with_anothers_key(identity("alice"), identity("alice"), tmp_path), node)).body == HELLO
        assert is_refusal(await heard(with_anothers_key(identity("mallory"), identity("mallory"), tmp_path), node))


MARKUP = "</title><script>alert(1)</script>\"'&\r\nSet-Cookie: a=b\r\n\r\n\x1b[31m"


@pytest.mark.parametrize("form", ["text/html", "application/json", "*/*"])
@on_loops("uvloop")
async def test_what_a_certificate_calls_itself_stays_a_name(yard: Yard, form: str) -> None:
    async with explaining(yard) as node:
        answer = await heard(Caller(mint(MARKUP[:60])), node, asking(Accept=form))
        assert is_refusal(answer)
        assert "script" not in answer.body.replace("--name title-script-alert-1-script", "")
        assert "\x1b" not in answer.body
        assert "set-cookie" not in answer.headers
        named = await heard(Caller(mint("Some.One")), node, asking(Accept=form))
        assert "--name some.one" in named.body


@pytest.mark.parametrize(("kind", "code"), [("RSA 1024", "weak-key"), ("RSA 2048", None), ("RSA 16384", None)])
@on_loops("uvloop")
async def test_strange_keys_are_told_quickly_and_strong_ones_enter_when_pinned(
    yard: Yard, kind: str, code: str | None
) -> None:
    own = over(KEYS[kind][0]())
    caller = Caller(None, ciphers="DEFAULT:@SECLEVEL=0")
    caller.context.load_cert_chain(*files_of(own))
    async with explaining(yard) as node:
        began = time.monotonic()
        assert is_refusal(await heard(caller, node))
        assert (await heard(caller_of("alice"), node)).body == HELLO
        assert time.monotonic() - began < FAST_S + 3 * (kind == "RSA 16384")
        yard.pin("strange", own)
        await node.hears("peer-added", peer="strange")
        answer = await heard(caller, node)
        assert (answer.status, answer.headers.get("peerauth-refused")) == (403 if code else 200, code)


# Floods


@on_loops("uvloop")
async def test_slow_strangers_take_up_their_own_places(yard: Yard) -> None:
    """One source fills its places with requests that never end: it is refused by TLS then, and nobody else notices."""
    slow = caller_of("mallory")
    async with explaining(yard) as node:
        with contextlib.ExitStack() as held:
            for _ in range(MOST_OF_A_SOURCE):
                tls = held.enter_context(await asyncio.to_thread(slow.open, node.port, source="127.0.0.2"))
                tls.sendall(b"GET / HTTP/1.1\r\nX: ")
            await node.until(lambda: not node.server._explainer.has_room("127.0.0.2"))
            one_more = await heard(slow, node, source="127.0.0.2")
            assert (one_more.data, one_more.alert) == (b"", "TLSV1_ALERT_UNKNOWN_CA")
            without = await heard(caller_of("nobody"), node, source="127.0.0.2")
            assert (without.data, without.alert) == (b"", "TLSV13_ALERT_CERTIFICATE_REQUIRED")
            assert (await heard(caller_of("alice"), node, source="127.0.0.2")).body == HELLO
            assert is_refusal(await heard(caller_of("mallory"), node, source="127.0.0.3"))


@on_loops("uvloop")
async def test_a_strangers_time_ends_and_so_does_that_of_its_place(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explainer, "SECONDS", 0.3)
    monkeypatch.setattr(explainer, "MOST_OF_A_SOURCE", 1)
    async with explaining(yard) as node:
        with await asyncio.to_thread(caller_of("mallory").open, node.port) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\nX: ")
            assert await asyncio.to_thread(how_it_ends, slow) == "cut"
        await node.until(lambda: node.server._explainer.has_room("127.0.0.1"))
        assert is_refusal(await heard(caller_of("mallory"), node))


@on_loops("uvloop")
async def test_peers_get_in_while_a_thousand_strangers_want_to_know_why(yard: Yard) -> None:
    """So many are told as there are places; the others are refused by TLS. A peer waits for none of them."""
    strangers = [Caller(mint(f"stranger-{number}")) for number in range(4)]
    heard_by_them: list[Heard] = []

    def storm(number: int) -> None:
        for at in range(250):
            answer = ask(strangers[number], node.port, source=f"127.0.{number + 1}.{at % 20 + 1}")
            heard_by_them.append(answer)

    async with explaining(yard) as node:
        storms = [asyncio.create_task(asyncio.to_thread(storm, number)) for number in range(4)]
        await node.until(lambda: len(heard_by_them) > 50)
        took = []
        while not all(one.done() for one in storms):
            began = time.monotonic()
            assert (await heard(caller_of("alice"), node)).body == HELLO
            took.append(time.monotonic() - began)
        await asyncio.gather(*storms)
        assert statistics.median(took) < FAST_S
        assert len(heard_by_them) == 1000
        told = sum(is_refusal(one) for one in heard_by_them)
        assert told > MOST // 2
        assert {one.alert for one in heard_by_them if not is_refusal(one)} == {"TLSV1_ALERT_UNKNOWN_CA"}
        assert all(not one.data for one in heard_by_them if not is_refusal(one))
        assert len(node.told("admitted")) == len(took)
        assert len(node.told("refused")) < 60  # lines of the log
        assert len(node.server._explainer) == 0


@on_loops()
async def test_strangers_leave_no_descriptor_behind(yard: Yard) -> None:
    async with explaining(yard) as node:
        assert is_refusal(await heard(caller_of("mallory"), node))
        await node.until(lambda: len(node.server._explainer) == 0)
        before = descriptors()
        for request in (ASK, ASK_AND_LEAVE, b"", b"GET / HT") * 4:
            with await asyncio.to_thread(caller_of("mallory").open, node.port) as tls:
                if request:
                    tls.sendall(request)
        await node.until(lambda: descriptors() <= before)


@on_loops("uvloop")
async def test_strangers_take_no_room_from_peers(yard: Yard) -> None:
    """The node is for two connections: strangers are none of them, and the third peer is told that it is full."""
    yard.pin("alice")
    limits = replace(Limits(), max_connections=2)
    async with running(yard, hello=True, on_unknown="explain", limits=limits) as node:
        with contextlib.ExitStack() as held:
            for _ in range(5):
                held.enter_context(await asyncio.to_thread(caller_of("mallory").open, node.port))
            await node.until(lambda: len(node.server._explainer) == 5)
            for _ in range(2):
                tls = held.enter_context(await asyncio.to_thread(caller_of("alice").open, node.port))
                tls.sendall(ASK)
                assert (await asyncio.to_thread(tls.recv, 65536)).startswith(b"HTTP/1.1 200 ")
            full = await heard(caller_of("alice"), node)
            assert (full.status, full.headers["peerauth-refused"]) == (403, "too-many")

"""Who comes to speak peerauth/1: a stranger is heard there, and nowhere else."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.client.control import anyone, conversation, exactly
from peerauth.control.line import Declined
from peerauth.control.messages import Check, Checked, No
from peerauth.control.wire import HEAD, LONGEST, Message, decode, encode
from peerauth.errors import ConnectFailed
from peerauth.server import contexts, desk
from peerauth.tls.session import NotAdmitted
from peerauth.trust.identity import Identity
from peerauth.trust.policy import Policy
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Running, Yard, files_of, identity, on_loops, running

ALPN = "peerauth/1"


async def ask(node: Running, who: str, said: Message | None = None) -> Checked:
    """Ask the node, as this one, which pins it."""
    pin = identity("node").certificate.fingerprint
    async with conversation(identity(who), Address("127.0.0.1", node.port), exactly(pin)) as line:
        await line.send(said or Check())
        return await line.receive(Checked)


def tls(who: Identity, *alpn: str) -> ssl.SSLContext:
    """Python's own TLS, which trusts whatever it meets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(*files_of(who))
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def talk(
    node: Running, context: ssl.SSLContext, data: bytes, session: ssl.SSLSession | None = None
) -> tuple[bytes, ssl.SSLSession | None]:
    """All that comes back after `data`; in a thread."""
    with (
        socket.create_connection(("127.0.0.1", node.port), DEADLINE_S) as plain,
        context.wrap_socket(plain, session=session) as sock,
    ):
        sock.sendall(data)
        heard = b""
        try:
            while piece := sock.recv(65536):
                heard += piece
        except ssl.SSLEOFError:
            pass
        return heard, sock.session


@on_loops()
async def test_a_peer_hears_who_it_is_and_what_it_may_use(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    async with running(yard, policy=Policy("db", frozenset({"alice"}))) as node:
        heard = await ask(node, "alice")
    assert (heard.name, heard.services, heard.code) == ("alice", ("db",), None)
    assert heard.presented == identity("alice").certificate.fingerprint


@on_loops()
async def test_a_service_that_is_not_for_the_peer_is_not_named(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    async with running(yard, policy=Policy("db", frozenset({"bob"}))) as node:
        heard = await ask(node, "alice")
    assert (heard.name, heard.services) == ("alice", ())


@on_loops()
async def test_a_stranger_hears_what_it_presented_and_nothing_of_the_node(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    async with running(yard, policy=Policy("db")) as node:
        heard = await ask(node, "mallory")
    assert heard == Checked(identity("mallory").certificate.fingerprint, "unknown", "the certificate is not pinned")


@on_loops()
async def test_whoever_means_another_node_does_not_speak(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    async with running(yard) as node:
        with pytest.raises(NotAdmitted):
            async with conversation(
                identity("alice"), Address("127.0.0.1", node.port), exactly(identity("other").certificate.fingerprint)
            ):
                pytest.fail("it was let through")
        async with conversation(identity("alice"), Address("127.0.0.1", node.port), anyone, hear_anyone=True) as line:
            await line.send(Check())
            assert (await line.receive(Checked)).code == "unknown"


@on_loops("asyncio")
async def test_a_stranger_without_our_protocol_is_refused_in_the_handshake(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    async with running(yard) as node:
        for alpn in ((), ("http/1.1",), ("peerauth/2",), ("peerauth/1x",)):
            with pytest.raises(ssl.SSLError, match=r"(?i)unknown.ca"):
                await asyncio.to_thread(talk, node, tls(identity("mallory"), *alpn), b"x")
        heard, _ = await asyncio.to_thread(talk, node, tls(identity("mallory"), ALPN), encode(Check()))
        assert isinstance(decode(heard[HEAD:]), Checked)


@on_loops("asyncio")
async def test_a_strangers_ticket_from_our_protocol_opens_no_service(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    async with running(yard) as node:
        context = tls(identity("mallory"), ALPN)
        _, ticket = await asyncio.to_thread(talk, node, context, encode(Check()))
        assert ticket is not None
        context.set_alpn_protocols(["http/1.1"])
        heard, _ = await asyncio.to_thread(talk, node, context, b"hello?", ticket)
        assert heard == b""  # neither a greeting nor an echo
        await node.hears("refused", code="unknown", service="default")  # and not only that it had asked
        assert not node.told("admitted")


@on_loops("asyncio")
async def test_a_pinned_client_of_another_version_gets_no_service_by_mistake(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    async with running(yard) as node:
        heard, _ = await asyncio.to_thread(talk, node, tls(identity("alice"), "peerauth/2"), encode(Check()))
        assert heard == b""
        event = await node.hears("refused", code="other-version")
        assert "another version" in event.message
        assert not node.told("admitted")
        heard, _ = await asyncio.to_thread(talk, node, tls(identity("alice"), "peerauth/2", ALPN), encode(Check()))
        assert isinstance(decode(heard[HEAD:]), Checked)


@on_loops()
async def test_our_client_and_a_newer_server_refuse_each_other_politely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "CONTROL", b"peerauth/2")
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    async with running(yard) as node:
        with pytest.raises(ConnectFailed, match="older or newer") as error:
            await ask(node, "alice")
        assert error.value.code == "not-peerauth"
        event = await node.hears("refused", code="other-version")
        assert event.hint == "the older of the two is to be upgraded"
    monkeypatch.undo()
    async with running(yard) as node:
        assert (await ask(node, "alice")).name == "alice"


@on_loops("asyncio")
async def test_tls_1_2_hears_no_strangers(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    async with running(yard, min_tls="1.2") as node:
        context = tls(identity("mallory"), ALPN)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(talk, node, context, encode(Check()))


@on_loops("asyncio")
@pytest.mark.parametrize(
    "junk",
    [b"\xff" * 4, (LONGEST).to_bytes(4, "big") + b"x" * 100, b"GET / HTTP/1.1\r\n\r\n", encode(No("a", "b")), b"\0\0\0\2{}"],
)
async def test_junk_ends_the_visit_and_nothing_else(tmp_path: Path, junk: bytes) -> None:
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    async with running(yard) as node:
        try:
            heard, _ = await asyncio.to_thread(talk, node, tls(identity("mallory"), ALPN), junk)
        except OSError:
            heard = b""
        assert heard == b""
        assert (await ask(node, "alice")).name == "alice"


@on_loops()
async def test_a_silent_visitor_is_sent_away_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "SECONDS", 0.1)
    yard = Yard(tmp_path / "peers")
    async with running(yard) as node:
        with pytest.raises((ConnectFailed, OSError)):
            await ask_nothing(node, "mallory")
        assert not len(node.server._desk)


async def ask_nothing(node: Running, who: str) -> None:
    async with conversation(
        identity(who), Address("127.0.0.1", node.port), exactly(identity("node").certificate.fingerprint)
    ) as line:
        await line.receive(Checked)


@on_loops()
async def test_visitors_are_bounded_by_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MOST_OF_A_SOURCE", 2)
    yard = Yard(tmp_path / "peers")
    async with running(yard) as node:
        silent = [asyncio.create_task(ask_nothing(node, "mallory")) for _ in range(2)]
        await node.until(lambda: len(node.server._desk) == 2)
        with pytest.raises((ConnectFailed, OSError)):
            await ask(node, "mallory")
        for task in silent:
            task.cancel()
        await asyncio.gather(*silent, return_exceptions=True)
        await node.until(lambda: not len(node.server._desk))
        assert (await ask(node, "mallory")).code == "unknown"


@on_loops()
async def test_a_peer_that_is_removed_is_cut_off_while_it_speaks(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    yard.pin("bob")
    async with running(yard) as node:
        speaking = [asyncio.create_task(ask_nothing(node, who)) for who in ("alice", "bob")]
        await node.until(lambda: len(node.server._desk) == 2)
        yard.unpin("alice")
        with pytest.raises((ConnectFailed, OSError)):
            await speaking[0]
        assert not speaking[1].done()
        speaking[1].cancel()
        await asyncio.gather(speaking[1], return_exceptions=True)


@on_loops()
async def test_a_handler_that_fails_answers_no_and_is_in_the_log(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    async with running(yard) as node:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)

        async def broken(*_: object) -> Message:
            raise RuntimeError("a secret of the handler")

        node.server._desk._handlers = {Check: broken}
        with pytest.raises(Declined) as no:
            await ask(node, "mallory")
        assert no.value.code == "failed"
        assert "secret" not in str(no.value)
        event = await node.hears("problem", code="handler-failed")
        assert "RuntimeError" in event.message


@on_loops()
async def test_both_sides_have_the_same_binding_and_every_connection_another(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    heard: list[bytes] = []
    async with running(yard) as node:
        for_check = node.server._desk._handlers[Check]

        async def note(visit: desk.Visit, request: Check) -> Message:
            heard.append(visit.channel)
            return await for_check(visit, request)

        node.server._desk._handlers = {Check: note}
        ours = []
        for _ in range(2):
            async with conversation(
                identity("alice"), Address("127.0.0.1", node.port), exactly(identity("node").certificate.fingerprint)
            ) as line:
                ours.append(line.session.channel_binding())
                await line.send(Check())
                await line.receive(Checked)
    assert ours == heard
    assert len({*ours}) == 2
    assert all(len(binding) == 32 for binding in ours)

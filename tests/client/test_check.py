"""What `check` makes of servers: ours, those that are none, and those that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.client import observe as observing
from peerauth.client.check import SKEW, Concern, Report, check, check_all, concerns
from peerauth.client.observe import End, Observation
from peerauth.client.verdict import Ourselves, There, judge_there
from peerauth.errors import ConnectFailed, TrustRefused
from peerauth.store.peerdir import PeerDirectory
from peerauth.trust.identity import Identity, self_signed
from peerauth.trust.peers import PeerSet
from peerauth.trust.policy import Policy
from tests.support.dropin import DAY, NOW, mint
from tests.support.engine import Yard, files_of, identity, on_loops, running
from tests.support.targets import target, unused_port

SECONDS = 5.0
Talk = Callable[[ssl.SSLSocket], object]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """These servers have said everything at once."""
    monkeypatch.setattr(observing, "SETTLE", 0.05)


def ourselves(yard: Yard | None = None, own: Identity | None = None) -> Ourselves:
    """The node alice, with this peers directory."""
    return Ourselves("alice", own or identity("alice"), "alice.crt", peers(yard) if yard else PeerSet())


def peers(yard: Yard) -> PeerSet:
    directory = PeerDirectory(yard.path)
    return directory.refresh()


def pinning(place: Path, name: str, own: Identity | None = None, settings: str = "") -> Yard:
    """The peers directory of alice, who has pinned one server."""
    yard = Yard(place / "alices-peers")
    yard.pin(name, own or identity(name), settings=settings)
    return yard


async def look(us: Ourselves, port: int, name: str | None = None, seconds: float = SECONDS) -> Report:
    return await check(us, us.peers.get(name) if name else None, Address("127.0.0.1", port), seconds)


@contextlib.contextmanager
def tls_server(
    talk: Talk, *clients: Identity, alpn: tuple[str, ...] = (), own: str = "node", tls12: bool = False, asks: bool = True
) -> Iterator[Address]:
    """Python's own TLS with the pool of these clients; it does this with each that is let in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files_of(identity(own)))
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata="".join(client.certificate.pem for client in clients))
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2

    def serve(plain: socket.socket) -> None:
        with context.wrap_socket(plain, server_side=True) as tls:
            talk(tls)

    with target(serve) as where:
        yield where


def waits(tls: ssl.SSLSocket) -> None:
    """Wait for the client to leave."""
    while tls.recv(65536):
        pass


def says(answer: bytes) -> Talk:
    """Answers whatever is asked."""

    def answer_once(tls: ssl.SSLSocket) -> None:
        tls.recv(65536)
        tls.sendall(answer)

    return answer_once


def there(report: Report) -> There:
    assert report.there is not None, report.error
    return report.there


def seen(report: Report) -> Observation:
    assert report.seen is not None, report.error
    return report.seen


# Our own


@on_loops()
async def test_two_that_know_each_other_hear_everything(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    async with running(yard, policy=Policy("db", frozenset({"alice"}))) as node:
        report = await look(ourselves(pinning(tmp_path, "node")), node.port)
    assert (report.exit_code, report.troubles, report.peer) == (0, [], "node")
    assert there(report) == There(True, True, "as alice", name="alice", services=("db",))
    one = seen(report)
    assert (one.version, one.protocol, one.group) == ("TLSv1.3", "peerauth/1", "X25519MLKEM768")
    assert one.certificate == identity("node").certificate.der
    assert one.round_trip is not None
    assert 0 < one.round_trip < SECONDS
    assert one.skew is not None
    assert abs(one.skew) < 2
    assert report.verdict == f"node at 127.0.0.1:{node.port} is admitted here, and admits us as alice"
    assert concerns(report, ourselves(), NOW, 0) == []


@on_loops()
async def test_each_side_that_does_not_know_the_other_is_named_with_what_to_type(tmp_path: Path) -> None:
    yard, knowing = Yard(tmp_path / "peers"), ourselves(pinning(tmp_path, "node"))
    own = identity("alice").certificate.fingerprint
    async with running(yard) as node:
        neither = await look(ourselves(), node.port)
        here_only = await look(knowing, node.port)
        yard.pin("alice")
        await node.hears("peer-added")
        there_only = await look(ourselves(), node.port)
    assert [trouble.code for trouble in neither.troubles] == ["unknown", "refused-by-peer"]
    assert f"peerauth peer scan 127.0.0.1:{node.port} --add NAME --expect FINGERPRINT" in (neither.troubles[0].hint or "")
    assert str(identity("node").certificate.fingerprint) in neither.troubles[0].message
    assert neither.troubles[1].hint == (
        f"there: peerauth peer approve {own} --name alice, "
        f"or with our certificate: peerauth peer add alice.crt --expect {own}"
    )
    assert there(neither).code == "unknown"
    assert [trouble.code for trouble in here_only.troubles] == ["refused-by-peer"]
    assert [trouble.code for trouble in there_only.troubles] == ["unknown"]
    assert {report.exit_code for report in (neither, here_only, there_only)} == {3}


@pytest.mark.parametrize(
    ("settings", "code", "hint"),
    [
        ("until = 2001-01-01T00:00:00Z", "until-passed", "'until'"),
        ('from = ["192.0.2.0/24"]', "not-from-here", "'from'"),
        ("", None, None),
    ],
)
@on_loops("uvloop")
async def test_what_a_node_has_against_us_is_said_in_its_words(
    tmp_path: Path, settings: str, code: str | None, hint: str | None
) -> None:
    yard = Yard(tmp_path / "peers")
    yard.pin("alice", settings=settings)
    async with running(yard) as node:
        report = await look(ourselves(pinning(tmp_path, "node")), node.port)
    assert there(report).code == code
    assert report.exit_code == (3 if code else 0)
    if hint:
        assert hint in (report.troubles[0].hint or "")


@on_loops("uvloop")
async def test_a_node_that_has_no_service_for_us_is_of_no_use(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    async with running(yard, policy=Policy("db", frozenset({"bob"}))) as node:
        report = await look(ourselves(pinning(tmp_path, "node")), node.port)
    assert (there(report).code, there(report).name, report.exit_code) == ("not-allowed", "alice", 3)
    assert "'allow'" in (report.troubles[0].hint or "")


@on_loops("uvloop")
async def test_our_own_end_is_what_the_node_says_and_what_we_warn_of(tmp_path: Path) -> None:
    late, soon = (mint("alice", since=NOW - 2 * DAY, until=NOW + days * DAY) for days in (-1, 5))
    yard = Yard(tmp_path / "peers")
    yard.pin("alice", late, soon)
    known = pinning(tmp_path, "node")
    async with running(yard) as node:
        expired, fine = [await look(ourselves(known, own), node.port) for own in (late, soon)]
    assert there(expired).code == "expired"
    assert "keygen --force" in (expired.troubles[0].hint or "")
    assert (fine.exit_code, there(fine).name) == (0, "alice")

    def said(own: Identity, report: Report, days: int) -> list[Concern]:
        return [one for one in concerns(report, ourselves(own=own), NOW, days) if "our own" in one.text]

    assert [one.critical for one in said(late, expired, 14)] == [True]
    assert [one.critical for one in said(soon, fine, 14)] == [False]
    assert said(soon, fine, 4) == []
    assert [one.hint for one in said(soon, fine, 14)] == ["type: peerauth rotate"]
    assert ["keygen --force" in (one.hint or "") for one in said(late, expired, 14)] == [True]


# Who it is


@on_loops("uvloop")
async def test_another_than_the_one_that_is_meant_is_refused_here(tmp_path: Path) -> None:
    known = pinning(tmp_path, "db-1")
    known.pin("db-2")
    with tls_server(waits, identity("alice"), own="db-2") as where:
        wrong, right = [await look(ourselves(known), where.port, name) for name in ("db-1", "db-2")]
    assert [trouble.code for trouble in wrong.troubles] == ["unknown"]
    assert "that is db-2, not db-1" in wrong.troubles[0].message
    assert wrong.here is not None
    assert (wrong.here.pinned_as, wrong.exit_code) == ("db-2", 3)
    assert right.exit_code == 0


@on_loops("uvloop")
async def test_a_server_with_a_new_certificate_or_an_old_one_is_said_to_be_so(tmp_path: Path) -> None:
    late = mint("db-1", since=NOW - 2 * DAY, until=NOW - DAY)
    known = pinning(tmp_path, "db-1", late)
    known.pin("key", self_signed(identity("db-2").key, "before", NOW), settings='pin = "key"')
    with tls_server(waits, identity("alice"), own="db-2") as where:
        anew = await look(ourselves(known), where.port, "db-1")
        by_key = await look(ourselves(known), where.port)
    assert "db-1 is pinned as" in anew.troubles[0].message
    assert (by_key.peer, by_key.exit_code) == ("key", 0)
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    async with running(yard, own=late) as node:
        expired = await look(ourselves(known), node.port)
    assert [trouble.code for trouble in expired.troubles] == ["expired"]
    assert there(expired).admitted  # and the other side is heard all the same
    assert [one.critical for one in concerns(expired, ourselves(), NOW, 14)] == [True]


# Others


@pytest.mark.parametrize("tls12", [False, True])
@on_loops("uvloop")
async def test_a_server_that_is_none_of_ours_is_read_by_what_it_does(tls12: bool) -> None:
    us = replace(ourselves(), min_tls="1.2")
    with tls_server(waits, identity("alice"), tls12=tls12) as where:
        admitted = await look(us, where.port)
        refused = await look(replace(us, identity=identity("mallory")), where.port)
    assert (there(admitted).admitted, there(admitted).certain) == (True, True)
    assert (seen(admitted).version, seen(admitted).end) == ("TLSv1.2" if tls12 else "TLSv1.3", End.QUIET)
    assert (there(refused).admitted, there(refused).certain, seen(refused).alert) == (False, True, 48)
    assert "peer add alice.crt" in (refused.troubles[-1].hint or "")


@on_loops("uvloop")
async def test_tls_1_2_is_looked_at_and_not_used() -> None:
    with tls_server(waits, identity("alice"), tls12=True) as where:
        report = await look(ourselves(), where.port)
    assert (seen(report).version, report.troubles[0].code) == ("TLSv1.2", "tls-version")
    assert 'min_tls = "1.2"' in (report.troubles[0].hint or "")
    assert there(report).admitted


@on_loops("uvloop")
async def test_a_server_that_asks_for_no_certificate_admits_anybody() -> None:
    with tls_server(waits, asks=False) as where:
        report = await look(ourselves(), where.port)
    assert there(report) == There(True, True, "yes, as anybody: it asks for no certificate")
    assert any("no certificate" in one.text and not one.critical for one in concerns(report, ourselves(), NOW, 0))


@on_loops("uvloop")
async def test_asyncio_ends_without_a_word_and_that_is_no_certainty() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files_of(identity("node")))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=identity("alice").certificate.pem)

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with await asyncio.start_server(wait, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        admitted = await look(ourselves(), port)
        refused = await look(replace(ourselves(), identity=identity("mallory")), port)
    assert there(admitted).admitted
    assert (there(refused).admitted, there(refused).certain, there(refused).code) == (False, False, "closed")
    assert "without a word" in there(refused).how
    assert refused.exit_code == 3


@on_loops("uvloop")
async def test_one_that_lets_us_in_and_hangs_up_is_another_trouble(tmp_path: Path) -> None:
    with tls_server(lambda tls: tls.unwrap(), identity("alice")) as where:
        report = await look(ourselves(pinning(tmp_path, "node")), where.port)
    assert (there(report).admitted, there(report).code) == (True, "closed")
    assert [(trouble.code, trouble.exit_code) for trouble in report.troubles] == [("closed-unanswered", 4)]
    assert report.exit_code == 4


@pytest.mark.parametrize(
    ("answer", "admitted", "certain"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True, True),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", True, True),
        (b"HTTP/1.1 502\r\n\r\n", True, True),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", True, True),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n<h1>No required SSL certificate was sent</h1>", False, True),
        (b"HTTP/1.1 495 SSL Certificate Error\r\n\r\n", False, True),
        (b"HTTP/1.1 403 Forbidden\r\n\r\nnot to /", False, False),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\na client certificate is missing", False, True),
        (b"220 mail.example ESMTP\r\n", True, True),
    ],
)
@on_loops("uvloop")
async def test_an_answer_of_http_is_read(answer: bytes, admitted: bool, certain: bool) -> None:
    with tls_server(says(answer), identity("alice"), alpn=("http/1.1",)) as where:
        report = await look(ourselves(), where.port)
    assert (there(report).admitted, there(report).certain) == (admitted, certain), there(report).how
    assert any("502" in one.text for one in concerns(report, ourselves(), NOW, 0)) == (b"502" in answer)


@on_loops("uvloop")
async def test_nothing_is_sent_but_a_question_to_http() -> None:
    heard: list[bytes] = []
    with tls_server(lambda tls: heard.append(tls.recv(65536)), identity("alice"), alpn=("http/1.1",)) as where:
        await look(ourselves(), where.port)
    with tls_server(lambda tls: heard.append(tls.recv(65536)), identity("alice")) as silent:
        await look(ourselves(), silent.port)
    asked, silence = heard[0].decode(), heard[-1]
    assert asked.startswith("HEAD / HTTP/1.1\r\n")
    assert f"\r\nHost: 127.0.0.1:{where.port}\r\n" in asked
    assert "alice" not in asked
    assert silence == b""


@on_loops("uvloop")
async def test_a_node_of_another_version_is_asked_as_any_client_asks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("peerauth.server.contexts.CONTROL", b"peerauth/9")
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    async with running(yard) as node:
        admitted = await look(ourselves(), node.port)
        refused = await look(replace(ourselves(), identity=identity("mallory")), node.port)
    assert (there(admitted).admitted, seen(admitted).end, seen(admitted).protocol) == (True, End.SPOKE, "")
    assert (there(refused).admitted, seen(refused).alert) == (False, 48)


AFTER = Observation(identity("node").certificate.der, "", "TLSv1.3", "", "", True, True, False, 0.001, 0.001)


@pytest.mark.parametrize(
    ("number", "refusal", "certain"),
    [
        (42, "our certificate is not acceptable to it", True),
        (46, "our certificate is not acceptable to it", True),
        (48, "our certificate is not pinned there", True),
        (49, "we are not allowed", True),
        (116, "it wants a certificate and got none", True),
        (40, "handshake failure", False),
        (80, "internal error", False),
    ],
)
def test_an_alert_about_certificates_is_certain_and_another_is_not(number: int, refusal: str, certain: bool) -> None:
    verdict = judge_there(replace(AFTER, end=End.ALERT, alert=number, refusal=refusal), ourselves(), "h:1")
    assert (verdict.admitted, verdict.certain, verdict.code) == (False, certain, "alert")
    assert refusal in verdict.how
    assert isinstance(verdict.error, TrustRefused)
    nobody = replace(AFTER, end=End.ALERT, alert=number, refusal=refusal, asked=False, presented=False)
    other = judge_there(nobody, ourselves(), "h:1").error
    assert isinstance(other, TrustRefused if certain else ConnectFailed)


def test_our_certificate_expired_by_their_clock_alone_is_a_matter_of_clocks() -> None:
    expired = replace(AFTER, end=End.ALERT, alert=45, refusal="our certificate is expired, by its clock")
    verdict = judge_there(expired, ourselves(), "h:1")
    assert verdict.error is not None
    assert verdict.error.hint == "compare the clocks of the two machines"
    late = ourselves(own=mint("alice", since=NOW - 2 * DAY, until=NOW - DAY))
    truly = judge_there(expired, late, "h:1").error
    assert truly is not None
    assert "keygen --force" in (truly.hint or "")


@pytest.mark.parametrize("skew", [SKEW - 1, SKEW + 1, -SKEW - 1])
def test_two_clocks_that_differ_much_are_worth_a_word(skew: float) -> None:
    report = Report(Address("h", 1), "node", replace(AFTER, skew=skew))
    said = [one.text for one in concerns(report, ourselves(), NOW, 0)]
    expected = [] if abs(skew) < SKEW else [f"the clock of node at h:1 is 61 s {'ahead of' if skew > 0 else 'behind'} ours"]
    assert said == expected


# Those that mean no good


@pytest.mark.parametrize(
    ("behave", "code"),
    [
        (lambda sock: sock.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"), "not-tls"),
        (lambda sock: (sock.recv(65536), sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")), "not-tls"),
        (lambda sock: sock.sendall(bytes(range(256)) * 256), "not-tls"),
        (socket.socket.getsockname, "closed"),
        (lambda sock: sock.recv(65536) and sock.recv(65536), "timeout"),
    ],
    ids=["a banner", "plain HTTP", "garbage", "hangs up", "silence"],
)
@on_loops("uvloop")
async def test_a_port_where_no_tls_is_spoken_is_not_reached(behave: Callable[[socket.socket], object], code: str) -> None:
    with target(behave) as where:
        report = await look(ourselves(), where.port, seconds=0.5)
    assert report.seen is None
    assert [(one.code, one.exit_code) for one in report.troubles] == [(code, 4)]
    assert str(where) in report.troubles[0].message


@on_loops("uvloop")
async def test_nobody_there_is_not_reached(tmp_path: Path) -> None:
    addresses = (Address("127.0.0.1", unused_port()), Address(path=str(tmp_path / "door")), Address("x.invalid", 1))
    closed, gone, nowhere = [await check(ourselves(), None, address, SECONDS) for address in addresses]
    assert [one.troubles[0].code for one in (closed, gone)] == ["connection-refused", "connection-refused"]
    assert nowhere.exit_code == 4


def framed(**fields: object) -> bytes:
    data = json.dumps({"type": "checked", "presented": "0" * 64, **fields}).encode()
    return len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"\0\0\0\5hello", "not-peerauth"),
        (b"\xff" * 8, "not-peerauth"),
        (b'\0\0\0\x0f{"type":"check"}', "not-peerauth"),
        (framed(), "refused-by-peer"),
        (framed(name="alice"), "refused-by-peer"),
        (framed(name="alice", services=["db"], code="unknown"), "refused-by-peer"),
        (b"", "closed-unanswered"),
    ],
)
@on_loops("uvloop")
async def test_who_chooses_our_protocol_and_speaks_another_is_no_node(tmp_path: Path, answer: bytes, code: str) -> None:
    with tls_server(says(answer), identity("alice"), alpn=("peerauth/1",)) as where:
        report = await look(ourselves(pinning(tmp_path, "node")), where.port)
    assert [one.code for one in report.troubles] == [code]
    assert not there(report).admitted


@on_loops("uvloop")
async def test_who_says_nothing_costs_no_longer_than_we_want_to_wait(tmp_path: Path) -> None:
    us = ourselves(pinning(tmp_path, "node"))
    for alpn in ("peerauth/1", "http/1.1"):
        with tls_server(waits, identity("alice"), alpn=(alpn,)) as where:
            report = await look(us, where.port, seconds=0.4)
        assert [(one.code, one.exit_code) for one in report.troubles] == [("timeout", 4)]
        assert seen(report).certificate == identity("node").certificate.der


@on_loops("uvloop")
async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    sent: list[int] = []

    def pour(tls: ssl.SSLSocket) -> None:
        tls.recv(65536)
        tls.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while True:
            tls.sendall(b"x" * 65536)
            sent.append(65536)

    with tls_server(pour, identity("alice"), alpn=("http/1.1",)) as where:
        report = await look(ourselves(), where.port)
    assert there(report).admitted
    assert sum(sent) < 16 << 20  # what fits into the buffers of two sockets


@on_loops("uvloop")
async def test_nothing_that_a_server_says_reaches_a_person_as_it_is() -> None:
    evil = "\x1b[2J\x07\u202e|\nOK - fake"
    with tls_server(says(framed(name=evil, services=[evil] * 500)), identity("alice"), alpn=("peerauth/1",)) as node:
        report = await look(ourselves(), node.port)
        assert there(report).admitted
        assert all(text.isprintable() for text in (there(report).how, there(report).name or "", *there(report).services))
    with tls_server(says(framed(code=evil, reason=evil)), identity("alice"), alpn=("peerauth/1",)) as node:
        refused = await look(ourselves(), node.port)
    bad = b"HTTP/1.1 403 " + evil.encode() + b"\r\n\r\nyour certificate " + evil.encode()
    with tls_server(says(bad), identity("alice"), alpn=("http/1.1",)) as web:
        forbidden = await look(ourselves(), web.port)
    for report in (refused, forbidden):
        assert not there(report).admitted
        assert there(report).how.isprintable()
        assert all(trouble.message.isprintable() for trouble in report.troubles)
        assert (there(report).code or "").isprintable()


# Many


@on_loops("uvloop")
async def test_many_are_looked_at_together_and_reported_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerauth.client.check.AT_ONCE", 3)
    there_now, most = [0], [0]
    lock = threading.Lock()

    def counted(tls: ssl.SSLSocket) -> None:
        with lock:
            there_now[0] += 1
            most[0] = max(most[0], there_now[0])
        waits(tls)
        with lock:
            there_now[0] -= 1

    with tls_server(counted, identity("alice")) as where:
        nobody = Address("127.0.0.1", unused_port())
        reports = await check_all(ourselves(), [(None, where)] * 5 + [(None, nobody)] + [(None, where)] * 3, SECONDS)
    assert [report.seen is not None for report in reports] == [True] * 5 + [False] + [True] * 3
    assert 1 < most[0] <= 4  # one that has just left may still be counted

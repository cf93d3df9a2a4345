"""The drop-in context admits exactly the pinned leaf, in both roles, and says why it refuses.

Each refusal has an accepted twin in the same test, which differs in one fact.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
from datetime import datetime, timedelta

import pytest

from peerauth.store.peerdir import PeerDirectory
from peerauth.tls import judged
from peerauth.tls.stdlib import PeerRefused, peer_of
from peerauth.trust.decision import Code
from peerauth.trust.identity import KeyType, new_key, self_signed
from peerauth.trust.policy import Policy
from tests.support.dropin import DAY, NOW, Bio, Node, Nodes, admitted, ask, meet, mint, refusal, tcp_pair

# Who is admitted (promise 1), and what either side is told (promise 5)


def test_pinned_peers_talk_and_know_each_other_by_name(node: Nodes) -> None:
    a, b = node("a"), node("b")
    a.knows(b)
    b.knows(a)

    def name_of_server(tls: ssl.SSLSocket) -> str:
        ask(tls)
        found = peer_of(tls)
        return found.name if found else ""

    assert meet(a.server(), b.client("a"), call=name_of_server) == (b"hello", "a")


@pytest.mark.parametrize("min_tls", ["1.2", "1.3"])
def test_stranger_is_refused_and_both_ends_are_told(node: Nodes, min_tls: str) -> None:
    """OpenSSL refuses a stranger by the pool; its words are in ours, and the alert is explained to the client."""
    a, b, stranger = node("a"), node("b"), node("stranger")
    server = a.knows(b).server(min_tls=min_tls)
    for who in (b, stranger):
        who.knows(a)
    options: dict[str, object] = {"min_tls": min_tls}

    def client(of: Node) -> ssl.SSLContext:
        context = of.client("a", **options)
        if min_tls == "1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    assert admitted(server, client(b), "b")
    ours, theirs = meet(server, client(stranger))
    text = refusal(ours, Code.UNKNOWN)
    assert "peerauth peer add" in text
    assert "None" not in text, "no fingerprint is known here, so none may be in the command"
    assert isinstance(theirs, ssl.SSLError)
    assert "TLSV1_ALERT_UNKNOWN_CA" in str(theirs)
    assert str(theirs).count("our certificate is not pinned there") == 1


def test_client_without_a_certificate_is_refused(node: Nodes) -> None:
    a, b = node("a"), node("b")
    server = a.knows(b).server()
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.load_verify_locations(cadata=a.identity.certificate.der)

    ours, theirs = meet(server, bare)
    bare.load_cert_chain(b.cert, b.key)

    assert "must present its certificate" in refusal(ours, Code.NO_CERTIFICATE)
    assert isinstance(theirs, OSError)
    assert admitted(server, bare, "b")


def test_client_means_one_peer_and_accepts_its_pin_alone(node: Nodes) -> None:
    """Promise 9: another pinned peer's certificate is refused, by its name, where the meant one's is accepted."""
    a, b, me = node("a"), node("b"), node("me")
    me.knows(a, b)
    for other in (a, b):
        other.knows(me)

    _, refused = meet(b.server(), me.client("a"))

    text = refusal(refused, Code.UNKNOWN)
    assert "that is b, not a" in text
    assert b.pin in text
    assert admitted(a.server(), me.client("a"), "me")
    assert admitted(b.server(), me.client("b"), "me")


def test_client_is_shown_an_unknown_servers_fingerprint(node: Nodes) -> None:
    """OpenSSL has refused it, and still the text has what was presented beside what is pinned."""
    a, impostor, me = node("a"), node("a"), node("me")
    me.knows(a)
    for other in (a, impostor):
        other.knows(me)

    _, refused = meet(impostor.server(), me.client("a"))

    text = refusal(refused, Code.UNKNOWN)
    assert impostor.pin in text
    assert a.pin in text
    assert "example.test:" in text
    assert admitted(a.server(), me.client("a"), "me")


def test_host_name_is_not_compared_unless_the_application_asks(node: Nodes) -> None:
    """The meetings are at example.test, which no certificate names; with `check_hostname` the name counts as well."""
    a, me = node("a"), node("me")
    a.knows(me)
    context = me.knows(a).client("a")

    assert admitted(a.server(), context, "me")
    context.check_hostname = True
    _, refused = meet(a.server(), context)
    assert "Hostname mismatch" in refusal(refused, Code.MALFORMED)


@pytest.mark.parametrize("emptied", ["empty", "gone", "raises"])
def test_empty_peers_admit_nobody(node: Nodes, emptied: str) -> None:
    """Promise 1: nothing is in the pool then, the system's CAs least of all. The twin has one peer."""
    a, b = node("a"), node("b")
    b.knows(a)
    options: dict[str, object] = {}
    if emptied == "gone":
        a.directory.path.rmdir()
    if emptied == "raises":
        options["peers"] = lambda: 1 / 0
    server = a.server(**options)

    assert server.cert_store_stats()["x509"] == 0
    ours, theirs = meet(server, b.client("a"))
    refusal(ours, Code.UNKNOWN)
    assert isinstance(theirs, OSError)
    a.directory.path.mkdir(exist_ok=True)
    assert admitted(a.knows(b).server(), b.client("a"), "b")


# What else the decision knows: dates, policy, addresses


@pytest.mark.parametrize(("passed", "code"), [(timedelta(400), Code.EXPIRED), (timedelta(-3), Code.NOT_YET_VALID)])
def test_dates_are_judged_by_the_given_clock(node: Nodes, passed: timedelta, code: Code) -> None:
    a, b = node("a"), node("b")
    a.knows(b)
    b.knows(a)

    assert admitted(a.server(now=lambda: NOW), b.client("a"), "b")
    text = refusal(meet(a.server(now=lambda: NOW + passed), b.client("a"))[0], code)
    assert b.pin in text
    assert "peer b" in text


@pytest.mark.parametrize(
    ("since", "until", "code", "alert"),
    [
        (NOW - 2 * DAY, NOW - DAY, Code.EXPIRED, "ALERT_CERTIFICATE_EXPIRED"),
        (NOW + DAY, NOW + 2 * DAY, Code.NOT_YET_VALID, "ALERT_BAD_CERTIFICATE"),
        (NOW - DAY, NOW + DAY, None, ""),
    ],
)
def test_dates_that_openssl_refuses_have_their_own_codes(
    node: Nodes, since: datetime, until: datetime, code: Code | None, alert: str
) -> None:
    a, b = node("a"), node("b", mint("b", since=since, until=until))
    a.knows(b)
    b.knows(a)

    served, answer = meet(a.server(), b.client("a"))
    _, called = meet(b.server(), a.client("b"))

    if code is None:
        assert (served, answer, called) == (b"hello", b"b", b"a")
    else:
        refusal(served, code)
        assert alert in str(answer)
        assert b.pin in refusal(called, code)


def test_policy_narrows_a_server(node: Nodes) -> None:
    a, b, c = node("a"), node("b"), node("c")
    for who in (b, c):
        who.knows(a)
    server = a.knows(b, c).server(policy=Policy("db", names=frozenset({"b"})))

    assert admitted(server, b.client("a"), "b")
    assert "allow" in refusal(meet(server, c.client("a"))[0], Code.NOT_ALLOWED)


@pytest.mark.parametrize(("sources", "fine"), [("127.0.0.0/8", True), ("10.0.0.0/8", False)])
def test_from_is_compared_with_the_address_of_the_socket(node: Nodes, sources: str, fine: bool) -> None:
    a, b = node("a"), node("b")
    a.knows(b, settings=f'from = ["{sources}"]\n')
    b.knows(a)

    served, answer = meet(a.server(), b.client("a"))

    if fine:
        assert answer == b"b"
    else:
        refusal(served, Code.NOT_FROM_HERE)


def test_peer_with_from_is_refused_on_memory_bios_which_see_no_address(node: Nodes) -> None:
    """Fail closed, and say so; without `from` the same peer enters."""
    a, b = node("a"), node("b")
    a.knows(b)
    b.knows(a)

    assert Bio(a.server(), b.client("a")).shake() == (None, None)
    a.knows(b, settings='from = ["0.0.0.0/0"]\n')
    ours, _ = Bio(a.server(), b.client("a")).shake()
    assert "memory BIOs" in refusal(ours, Code.NOT_FROM_HERE)


@pytest.mark.parametrize("settings", ["", 'from = ["10.0.0.0/8"]\n'])
def test_client_asks_nobody_where_he_comes_from(node: Nodes, settings: str) -> None:
    """`from` says where a peer may come from, not where it is; and who is reached is told with all his settings."""
    a, me = node("a"), node("me")
    a.knows(me)
    me.knows(a, settings=settings)

    def sources(tls: ssl.SSLSocket) -> int:
        ask(tls)
        found = peer_of(tls)
        return len(found.settings.sources) if found else -1

    assert meet(a.server(), me.client("a"), call=sources)[1] == settings.count("from")


def test_key_pin_admits_what_is_in_the_directory_only(node: Nodes) -> None:
    """A documented limit: a certificate made anew with the pinned key is not in the pool until it is in peers/."""
    a, b = node("a"), node("b")
    renewed = node("b-renewed", self_signed(b.identity.key, "b", NOW, days=7))
    for who in (b, renewed):
        who.knows(a)
    server = a.knows(b, settings='pin = "key"\n').server()

    assert admitted(server, b.client("a"), "b")
    refusal(meet(server, renewed.client("a"))[0], Code.UNKNOWN)
    a.knows(renewed)
    assert admitted(server, renewed.client("a"), "b-renewed")


def test_client_that_pins_a_key_says_that_the_certificate_is_missing_and_how_to_have_it(node: Nodes) -> None:
    """The same limit, met from the other side; over another key it is simply not that peer."""
    a, b = node("a"), node("b")
    renewed = node("b-renewed", self_signed(b.identity.key, "b", NOW, days=7))
    other = node("b-other", self_signed(new_key(KeyType.P256), "b", NOW))
    a.knows(b, settings='pin = "key"\n')
    for who in (b, renewed, other):
        who.knows(a)

    assert admitted(b.server(), a.client("b"), "a")
    text = str(refusal(meet(renewed.server(), a.client("b"))[1], Code.UNKNOWN))
    assert "the key of b is pinned, but this context must have its certificate, too" in text
    assert re.search(r"peerauth peer scan \S+ --add b", text)
    text = str(refusal(meet(other.server(), a.client("b"))[1], Code.UNKNOWN))
    assert f"its key is {other.identity.certificate.key_fingerprint}, while b is pinned by the key" in text
    PeerDirectory(a.home / "peers").add("b", [renewed.identity.certificate])  # as `peer add` and `peer scan --add` do
    assert admitted(renewed.server(), a.client("b"), "a")


# Who is it?


def test_peer_of_knows_sockets_objects_and_transports(node: Nodes) -> None:
    a, b = node("a"), node("b")
    a.knows(b)
    b.knows(a)
    bio = Bio(a.server(), b.client("a"))

    class Transport:
        def __init__(self, **extra: object) -> None:
            self.get_extra_info = extra.get

    assert peer_of(bio.server) is None
    bio.shake()
    found = peer_of(bio.server)
    assert found is not None
    assert found.name == "b"
    assert peer_of(Transport(ssl_object=bio.server)) == found
    assert peer_of(Transport(peer=found)) == found
    assert peer_of(Transport(peer="b")) is None
    assert peer_of(Transport()) is None
    assert peer_of(None) is None


def test_peer_of_a_refused_or_foreign_connection_is_none(node: Nodes) -> None:
    a, gone = node("a"), node("gone")
    gone.knows(a)
    server = a.knows(gone).server()
    a.forgets(gone)
    bio = Bio(server, gone.client("a"))

    refused, _ = bio.shake()

    refusal(refused, Code.UNKNOWN)
    assert peer_of(bio.server) is None
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    plain.check_hostname = False
    assert peer_of(plain.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())) is None


def test_peer_of_asyncio_streams(node: Nodes) -> None:
    a, b = node("a"), node("b")
    a.knows(b)
    b.knows(a)

    async def main() -> tuple[bytes, str]:
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = peer_of(writer)
            writer.write(peer.name.encode() if peer else b"nobody")
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=a.server())
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2], ssl=b.client("a"))
            answer, peer = await reader.read(), peer_of(writer)
            writer.close()
            await writer.wait_closed()
        return answer, peer.name if peer else ""

    assert asyncio.run(main()) == (b"b", "a")


# How a refusal ends


def test_refused_connection_is_closed_and_stays_refused(node: Nodes) -> None:
    """The socket is closed, and whatever is called on it afterwards gives the same refusal."""
    a, gone = node("a"), node("gone")
    gone.knows(a)
    server = a.knows(gone).server()
    a.forgets(gone)

    def serve(tls: ssl.SSLSocket) -> list[object]:
        seen: list[object] = []
        for call in (tls.do_handshake, tls.recv, lambda: tls.sendall(b"x"), tls.do_handshake):
            with pytest.raises(PeerRefused) as error:
                call()
            seen.append(str(error.value))
        return [len(set(seen)), tls.fileno()]

    assert meet(server, gone.client("a"), serve, on_connect=False)[0] == [1, -1]


def test_refusal_is_logged_for_the_servers_person(node: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    """What asyncio and socketserver swallow, the log has. An admission says nothing."""
    a, b = node("a"), node("b")
    b.knows(a)
    server = a.knows(b).server()
    with caplog.at_level(logging.INFO, "peerauth"):
        assert admitted(server, b.client("a"), "b")
        assert caplog.text == ""
        a.forgets(b)
        meet(server, b.client("a"))

    assert b.pin in caplog.text
    assert "127.0.0.1" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING


def test_alert_reaches_a_client_that_is_still_writing(node: Nodes) -> None:
    """FACTS, 5: closing with unread data loses the alert. The twin's megabyte arrives."""
    a, b, stranger = node("a"), node("b"), node("stranger")
    server = a.knows(b).server()
    load = b"x" * 200_000

    def post(tls: ssl.SSLSocket) -> object:
        with contextlib.suppress(OSError):  # a client whose write fails must still read
            tls.sendall(load)
        return tls.recv(100)

    def take(tls: ssl.SSLSocket) -> int:
        read = 0
        while read < len(load):
            read += len(tls.recv(65536))
        tls.sendall(b"taken")
        return read

    for _ in range(5):
        assert "TLSV1_ALERT_UNKNOWN_CA" in str(meet(server, stranger.knows(a).client("a"), take, post)[1])
    assert meet(server, b.knows(a).client("a"), take, post) == (len(load), b"taken")


def test_refused_client_cannot_hold_a_server_for_long(node: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lingers for the alert's sake, bounded in time, and not at all on a socket that may not block."""
    monkeypatch.setattr(judged, "LINGER_S", 0.05)
    a, stranger = node("a"), node("stranger")
    server, client = a.server(), stranger.knows(a).client("a")
    far, near = tcp_pair()
    with far, client.wrap_socket(near, do_handshake_on_connect=False) as tls:
        tls.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        accepted = server.wrap_socket(far, server_side=True, do_handshake_on_connect=False)
        accepted.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            accepted.do_handshake()
        tls.setblocking(True)
        tls.do_handshake()
        accepted.setblocking(True)
        with pytest.raises(PeerRefused):  # and the client, which never closes, does not keep it here
            accepted.do_handshake()
        assert accepted.fileno() == -1


@pytest.mark.parametrize(("seconds", "size"), [(0.05, 1 << 40), (3600.0, 1 << 16)])
def test_refused_client_that_goes_on_writing_is_left(
    node: Nodes, monkeypatch: pytest.MonkeyPatch, seconds: float, size: int
) -> None:
    """Either bound ends it, the time or the bytes; the twin's flood is read for as long as the server likes."""
    monkeypatch.setattr(judged, "LINGER_S", seconds)
    monkeypatch.setattr(judged, "LINGER_BYTES", size)
    a, b, stranger = node("a"), node("b"), node("stranger")
    server = a.knows(b).server()

    def flood(tls: ssl.SSLSocket) -> None:
        while True:
            tls.sendall(b"x" * 10_000)

    def take(tls: ssl.SSLSocket) -> int:
        return sum(len(tls.recv(10_000)) for _ in range(20))

    refused, cut = meet(server, stranger.knows(a).client("a"), take, flood)
    refusal(refused, Code.UNKNOWN)
    assert isinstance(cut, OSError)
    taken, _ = meet(server, b.knows(a).client("a"), take, flood)
    assert taken > 20


def test_unix_sockets_have_no_address(node: Nodes) -> None:
    a, b = node("a"), node("b")
    a.knows(b)
    b.knows(a)
    far, near = socket.socketpair()
    near.setblocking(False)
    server, client = a.server(), b.client("a")
    with (
        client.wrap_socket(near, do_handshake_on_connect=False) as tls,
        server.wrap_socket(far, server_side=True, do_handshake_on_connect=False) as accepted,
    ):
        accepted.setblocking(False)
        done: set[ssl.SSLSocket] = set()
        for side in (tls, accepted) * 4:
            if side not in done:
                try:
                    side.do_handshake()
                    done.add(side)
                except ssl.SSLWantReadError:
                    continue
        found = peer_of(accepted)
        assert found is not None
        assert found.name == "b"

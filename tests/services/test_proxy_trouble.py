"""What a proxy does when something is wrong: with a request, the backend, the connections, or with who is calling."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.http.via import MOST_TIMES
from peerauth.services import proxy as proxy_module
from peerauth.services import visit
from peerauth.tls.session import Goodbye
from tests.support.engine import Caller, Yard, identity, on_loops
from tests.support.talking import GET, OK, Talk, answers, calling, notes_its_end, proxied, proxied_to
from tests.support.targets import unused_port

BIG = 1 << 28  # bytes: more than sockets hold
HELD = 1 << 20  # bytes: 256 KB each way, and what a chunk or a head may add


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """A peers directory with alice in it."""
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    return yard


@pytest.fixture
def caller() -> Caller:
    """Alice."""
    return Caller(identity("alice"))


def error(peer: Talk) -> int:
    """The status of an answer of the proxy itself, of which the body is read."""
    head = peer.head()
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert peer.exactly(length).startswith(head.split(b" ")[1])
    return int(head.split(b" ")[1])


@on_loops("uvloop")
async def test_a_malformed_request_is_answered_never_asked_and_ends_the_connection(yard: Yard, caller: Caller) -> None:
    bad = {
        b"GET / HTTP/1.1\nHost: h\n\n": 400,
        b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n": 400,
        b"GET / HTTP/2.0\r\nHost: h\r\n\r\n": 505,
        b"A" * 40_000: 431,
    }
    async with proxied(yard, answers(OK)) as proxy:

        def run() -> None:
            for data, status in bad.items():
                with calling(caller, proxy.node.port) as peer:
                    peer.say(data + GET)
                    assert error(peer) == status, data
                    assert peer.ends() == "goodbye"

        await asyncio.to_thread(run)
        assert proxy.connections == []


@on_loops("uvloop")
async def test_a_body_that_turns_out_malformed_never_looks_complete(yard: Yard, caller: Caller) -> None:
    ends: list[str] = []
    async with proxied(yard, notes_its_end(ends, b"abc")) as proxy:

        def run() -> None:
            with calling(caller, proxy.node.port) as peer:
                peer.say(b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
                while not proxy.connections:
                    pass
                peer.say(b"x\r\n")
                assert error(peer) == 400
                assert peer.ends() == "goodbye"

        await asyncio.to_thread(run)
        await proxy.node.until(lambda: bool(ends))
    assert ends == ["reset"]


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nxx\r\n",
    ],
    ids=["sized", "in a chunk", "between chunks", "malformed chunk"],
)
@on_loops("uvloop")
async def test_an_answer_that_breaks_off_never_looks_complete(yard: Yard, caller: Caller, said: bytes) -> None:
    heard = threading.Event()

    def behave(talk: Talk) -> None:
        talk.head()
        talk.say(said[: said.index(b"ab") + 2])
        assert heard.wait(10)
        talk.say(said[said.index(b"ab") + 2 :])

    async with proxied(yard, behave) as proxy:

        def run() -> None:
            with calling(caller, proxy.node.port) as peer:
                peer.say(GET)
                peer.until(b"ab")
                heard.set()
                assert peer.ends() == "cut"

        await asyncio.to_thread(run)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 66_000,
    ],
    ids=["nothing", "half a head", "two lengths", "bare LF", "bad chunk", "unasked 101", "not HTTP", "too long"],
)
@on_loops("uvloop")
async def test_an_answer_that_is_none_is_said_to_be_and_to_the_log(yard: Yard, caller: Caller, said: bytes) -> None:
    async with proxied(yard, lambda talk: (talk.head(), talk.say(said))) as proxy:

        def run() -> None:
            with calling(caller, proxy.node.port) as peer:
                for _ in range(2):  # and the connection goes on
                    peer.say(GET.replace(b"GET", b"POST"))
                    assert error(peer) == 502

        await asyncio.to_thread(run)
        event = await proxy.node.hears("problem", code="bad-answer")
        assert "127.0.0.1" in event.message


@on_loops()
async def test_a_backend_that_is_not_there_is_said_to_be_and_to_the_log(yard: Yard, caller: Caller) -> None:
    for where, reason in (
        (Address("127.0.0.1", unused_port()), "refused"),
        (Address(path=str(yard.path / "none.sock")), "No such file"),
        (Address("backend.invalid", 80), "."),
    ):
        async with proxied_to(yard, where) as node:

            def run(port: int = node.port) -> None:
                with calling(caller, port) as peer:
                    peer.say(GET)
                    assert error(peer) == 502
                    peer.say(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
                    assert error(peer) == 502
                    assert peer.ends() == "goodbye"

            await asyncio.to_thread(run)
            event = await node.hears("target-down")
            assert reason in event.message


@on_loops("uvloop")
async def test_a_slow_backend_is_waited_for_so_long(yard: Yard, caller: Caller) -> None:
    async with proxied(yard, lambda talk: talk.ends(), timeout=0.3) as proxy:

        def run() -> None:
            with calling(caller, proxy.node.port) as peer:
                peer.say(GET)
                assert error(peer) == 504
                peer.say(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
                assert error(peer) == 408
                assert peer.ends() == "goodbye"

        await asyncio.to_thread(run)
        await proxy.node.hears("problem", code="bad-answer")


@on_loops("uvloop")
async def test_an_answer_that_stops_is_cut_after_so_long(yard: Yard, caller: Caller) -> None:
    half = OK[:-1]
    async with proxied(yard, lambda talk: (talk.head(), talk.say(half), talk.ends()), timeout=0.3) as proxy:

        def run() -> None:
            with calling(caller, proxy.node.port) as peer:
                peer.say(GET)
                assert peer.exactly(len(half)) == half
                assert peer.ends() == "cut"

        await asyncio.to_thread(run)


@on_loops("uvloop")
async def test_an_idle_connection_ends_and_half_a_head_is_answered(
    yard: Yard, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit, "IDLE", 0.3)
    monkeypatch.setattr(proxy_module, "IDLE", 0.3)
    monkeypatch.setattr(proxy_module, "HEAD", 0.2)
    async with proxied(yard, answers(OK), timeout=0.4) as proxy:

        def run() -> None:
            with calling(caller, proxy.node.port) as peer:
                assert peer.ends() == "goodbye"
            with calling(caller, proxy.node.port) as peer:
                peer.say(GET)
                assert peer.exactly(len(OK)) == OK
                assert peer.ends() == "goodbye"
            with calling(caller, proxy.node.port) as peer:
                peer.say(GET[:9])
                assert error(peer) == 408
                assert peer.ends() == "goodbye"

        await asyncio.to_thread(run)


@on_loops()
async def test_what_is_safe_is_asked_again_where_the_backend_has_closed_meanwhile(yard: Yard, caller: Caller) -> None:
    asked = []

    def behave(talk: Talk) -> None:
        asked.append(talk.head())
        talk.say(OK)
        asked.append(talk.head())  # and it is gone

    async with proxied(yard, behave) as proxy:

        def run() -> None:
            with calling(caller, proxy.node.port) as peer:
                for _ in range(2):
                    peer.say(GET)
                    assert peer.exactly(len(OK)) == OK
                peer.say(b"POST / HTTP/1.1\r\nHost: h\r\n\r\n")  # was it done? Nobody knows
                assert error(peer) == 502

        await asyncio.to_thread(run)
        assert len(proxy.connections) == 2
    assert [head[:4] for head in asked] == [b"GET ", b"GET ", b"GET ", b"POST"]


@on_loops()
async def test_what_is_not_safe_is_asked_on_a_new_connection_where_the_old_one_is_known_to_be_closed(
    yard: Yard, caller: Caller
) -> None:
    gone = threading.Event()

    def behave(talk: Talk) -> None:
        talk.head()
        talk.say(OK)
        talk.sock.close()
        gone.set()

    async with proxied(yard, behave) as proxy:

        def run() -> None:
            with calling(caller, proxy.node.port) as peer:
                for _ in range(3):
                    peer.say(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\na")
                    assert peer.exactly(len(OK)) == OK
                    assert gone.wait(10)
                    gone.clear()

        await asyncio.to_thread(run)
        assert len(proxy.connections) == 3


@on_loops()
async def test_a_peer_that_goes_away_takes_its_request_along(yard: Yard, caller: Caller) -> None:
    ends, asked = [], threading.Event()

    def behave(talk: Talk) -> None:
        talk.head()
        asked.set()
        ends.append(talk.ends())

    async with proxied(yard, behave) as proxy:

        def run() -> None:
            with contextlib.ExitStack() as stack:
                peer = stack.enter_context(calling(caller, proxy.node.port))
                peer.say(GET)
                assert asked.wait(10)

        await asyncio.to_thread(run)
        await proxy.node.until(lambda: bool(ends))
        await proxy.node.until(lambda: not len(proxy.node.server.live))
    assert ends == ["reset"]


class HalfClosing:
    """A peer that says goodbye and still listens, which Python's sockets do not."""

    def __init__(self, caller: Caller, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), 10)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = caller.context.wrap_bio(self._in, self._out, server_hostname="node")
        self._until_done(self._tls.do_handshake)

    def say_all(self, data: bytes) -> None:
        """Send this, and a goodbye."""
        self._tls.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._sock.sendall(self._out.read())

    def everything(self) -> bytes:
        """What is answered, up to the other side's goodbye."""
        heard = b""
        with self._sock, contextlib.suppress(ssl.SSLZeroReturnError):
            while piece := self._until_done(lambda: self._tls.read(1000)):
                heard += piece
        return heard

    def _until_done(self, step: object) -> bytes:
        while True:
            try:
                result = step()  # type: ignore[operator]
            except ssl.SSLWantReadError:
                self._sock.sendall(self._out.read())
                data = self._sock.recv(65536)
                if not data:
                    self._in.write_eof()
                self._in.write(data)
                continue
            self._sock.sendall(self._out.read())
            return result or b""


@on_loops()
async def test_a_peer_that_has_said_everything_still_gets_its_answers(yard: Yard, caller: Caller) -> None:
    async with proxied(yard, answers(OK)) as proxy:

        def run() -> bytes:
            peer = HalfClosing(caller, proxy.node.port)
            peer.say_all(GET * 3)
            return peer.everything()

        assert await asyncio.to_thread(run) == OK * 3


@on_loops("uvloop")
async def test_a_goodbye_does_not_overtake_a_request_that_waits_for_its_turn(yard: Yard, caller: Caller) -> None:
    async with proxied(yard, answers(OK)) as proxy:
        with calling(caller, proxy.node.port) as peer:
            await proxy.node.until(lambda: bool(proxy.node.server.live.everyone()))
            (one,) = proxy.node.server.live.everyone()
            assert isinstance(one, proxy_module.Proxy)
            one._came = GET  # as between the end of an answer and the next turn of the loop
            one._stopped(Goodbye())
            assert await asyncio.to_thread(peer.exactly, len(OK)) == OK
            assert await asyncio.to_thread(peer.ends) == "goodbye"


@on_loops("uvloop")
async def test_half_a_request_never_looks_complete_to_the_backend(yard: Yard, caller: Caller) -> None:
    ends: list[str] = []
    async with proxied(yard, notes_its_end(ends, b"abc")) as proxy:

        def run() -> None:
            peer = HalfClosing(caller, proxy.node.port)
            peer.say_all(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                assert peer.everything() == b""

        await asyncio.to_thread(run)
        await proxy.node.until(lambda: bool(ends))
    assert ends == ["reset"]


@on_loops()
async def test_a_removed_peer_is_cut_in_the_middle_of_an_answer(yard: Yard, caller: Caller) -> None:
    ends: list[str] = []

    def behave(talk: Talk) -> None:
        talk.head()
        talk.say(OK.replace(b"2", b"9"))
        ends.append(talk.ends())

    async with proxied(yard, behave) as proxy:
        with calling(caller, proxy.node.port) as peer:
            await asyncio.to_thread(lambda: peer.say(GET).until(b"ok"))
            yard.unpin("alice")
            assert await asyncio.to_thread(peer.ends) == "cut"
        await proxy.node.until(lambda: bool(ends))
    assert ends == ["reset"]


@on_loops("uvloop")
async def test_a_peer_that_does_not_read_costs_little_memory(yard: Yard, caller: Caller) -> None:
    for head in (b"Content-Length: %d\r\n" % BIG, b"Transfer-Encoding: chunked\r\n", b""):
        sent = [0]

        def behave(talk: Talk, head: bytes = head, sent: list[int] = sent) -> None:
            talk.head()
            talk.say(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
            piece = bytes(100_000)
            while True:
                talk.say(b"%x\r\n%b\r\n" % (len(piece), piece) if b"chunked" in head else piece)
                sent[0] += len(piece)

        async with proxied(yard, behave) as proxy:
            with calling(caller, proxy.node.port) as peer:
                await asyncio.to_thread(lambda: peer.say(GET).head())
                before = -1
                while sent[0] != before or not sent[0]:  # until nothing moves any more
                    before = sent[0]
                    await asyncio.sleep(0.2)
                assert sent[0] < BIG / 2
                assert 0 < proxy.waiting <= HELD
                await asyncio.to_thread(peer.exactly, 2_000_000)  # and it goes on when it does


@on_loops("uvloop")
async def test_a_backend_that_does_not_read_costs_little_memory(yard: Yard, caller: Caller) -> None:
    go_on = threading.Event()
    heads = (b"Content-Length: %d\r\n" % BIG, b"Transfer-Encoding: chunked\r\n")
    for head in heads:
        go_on.clear()
        sent = [0]
        took: list[bytes] = []

        def behave(talk: Talk, took: list[bytes] = took) -> None:
            talk.head()
            assert go_on.wait(20)
            took.append(talk.exactly(2_000_000))

        async with proxied(yard, behave) as proxy:

            def push(peer: Talk, head: bytes = head, sent: list[int] = sent) -> None:
                piece = bytes(100_000)
                with contextlib.suppress(OSError):
                    peer.say(b"PUT / HTTP/1.1\r\nHost: h\r\n" + head + b"\r\n")
                    while True:
                        peer.say(b"%x\r\n%b\r\n" % (len(piece), piece) if b"chunked" in head else piece)
                        sent[0] += len(piece)

            with calling(caller, proxy.node.port) as peer:
                pushing = asyncio.ensure_future(asyncio.to_thread(push, peer))
                before = -1
                while sent[0] != before or not sent[0]:
                    before = sent[0]
                    await asyncio.sleep(0.2)
                assert 0 < proxy.waiting <= HELD
                go_on.set()
                await proxy.node.until(lambda took=took: bool(took))  # type: ignore[misc]
                await pushing  # which ends when the backend has enough


@on_loops("uvloop")
async def test_who_reads_slowly_is_not_taken_for_stuck(yard: Yard, caller: Caller) -> None:
    """What the peer has not taken is one piece to us; that it grows smaller is seen in what TCP has acknowledged."""
    size = 20_000_000

    def behave(talk: Talk) -> None:
        talk.head()
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))

    async with proxied(yard, behave, timeout=0.2) as proxy:

        def run() -> int:
            with socket.socket() as plain:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                plain.settimeout(10)
                plain.connect(("127.0.0.1", proxy.node.port))
                with caller.context.wrap_socket(plain, suppress_ragged_eofs=False) as tls:
                    peer = Talk(tls)
                    peer.say(GET)
                    peer.head()
                    for _ in range(20):
                        time.sleep(0.05)  # slow is what it is
                        peer.exactly(16_000)
                    return proxy.waiting

        assert await asyncio.to_thread(run) > 100_000, "the sockets have taken it all, and nothing was shown"


@on_loops("uvloop")
async def test_who_does_not_read_at_all_is_cut_after_a_while(yard: Yard, caller: Caller) -> None:
    ends: list[str] = []

    def behave(talk: Talk) -> None:
        talk.head()
        try:
            talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + bytes(BIG // 8))
        except ConnectionError:
            ends.append("reset")

    async with proxied(yard, behave, timeout=0.2) as proxy:
        with calling(caller, proxy.node.port) as peer:
            await asyncio.to_thread(lambda: peer.say(GET).head())
            await proxy.node.until(lambda: bool(ends) and not len(proxy.node.server.live))
    assert ends == ["reset"]


@on_loops("uvloop")
async def test_a_request_that_goes_in_a_circle_is_ended(yard: Yard, caller: Caller) -> None:
    """As where the program behind the door is a tunnel that leads to the door."""
    ports: list[int] = []

    def lead_back(talk: Talk) -> None:
        with calling(caller, ports[0]) as peer:
            peer.say(talk.until(b"\r\n\r\n"))
            head = peer.until(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            talk.say(head + peer.exactly(length))

    async with proxied(yard, lead_back) as proxy:
        ports.append(proxy.node.port)

        def run() -> None:
            with calling(caller, proxy.node.port) as peer:
                peer.say(GET)
                assert error(peer) == 508

        await asyncio.to_thread(run)
        assert len(proxy.connections) == MOST_TIMES
        event = await proxy.node.hears("problem", code="proxy-loop")
        assert "127.0.0.1" in event.message


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", "it is in TLS, and is to be in the clear"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "it does not begin with HTTP/1.1"),
        (b"<html>\n", "it does not begin with HTTP/1.1"),
    ],
    ids=["TLS", "SSH", "HTTP/0.9"],
)
@on_loops("uvloop")
async def test_an_answer_that_cannot_become_one_is_not_waited_for(yard: Yard, caller: Caller, said: bytes, why: str) -> None:
    """As where the program behind the door is another than was thought, and waits itself."""
    async with proxied(yard, lambda talk: (talk.head(), talk.say(said), talk.ends())) as proxy:

        def run() -> None:
            with calling(caller, proxy.node.port) as peer:
                peer.say(GET)
                assert error(peer) == 502

        await asyncio.to_thread(run)
        event = await proxy.node.hears("problem", code="bad-answer")
        assert event.message.endswith(why)


@on_loops("uvloop")
async def test_the_beginning_of_an_answer_is_waited_for_byte_by_byte(yard: Yard, caller: Caller) -> None:
    def behave(talk: Talk) -> None:
        talk.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        talk.head()
        for at in range(len(OK)):
            talk.say(OK[at : at + 1])
            time.sleep(0.001)  # or TCP puts them together

    async with proxied(yard, behave) as proxy:

        def run() -> None:
            with calling(caller, proxy.node.port) as peer:
                peer.say(GET)
                assert peer.exactly(len(OK)) == OK

        await asyncio.to_thread(run)

"""What goes through an HTTP proxy, there and back, as both sides see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from peerauth.http.routes import Route, Routes
from peerauth.trust.policy import Policy
from tests.support.engine import Caller, Yard, identity, on_loops
from tests.support.talking import GET, OK, Talk, answers, calling, proxied

CHUNKS = b"Transfer-Encoding: chunked\r\n"


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """A peers directory with alice in it."""
    yard = Yard(tmp_path / "peers")
    yard.pin("alice", settings='tags = ["ops"]\n')
    return yard


async def told(yard: Yard, behave: Callable[[Talk], object], talk: Callable[[Talk], object], **options: object) -> int:
    """Let alice talk to a backend that behaves like this; returns how many connections the backend had."""
    caller = Caller(identity("alice"))
    async with proxied(yard, behave, **options) as proxy:  # type: ignore[arg-type]

        def run() -> None:
            with calling(caller, proxy.node.port) as peer:
                talk(peer)

        await asyncio.to_thread(run)
        assert not proxy.node.told("problem"), proxy.node.events
        return len(proxy.connections)


@on_loops()
async def test_the_backend_hears_who_is_calling_and_the_peer_what_it_answers(yard: Yard) -> None:
    heard = []

    def behave(talk: Talk) -> None:
        heard.append(talk.until(b"\r\n\r\n"))
        talk.say(OK)
        talk.ends()

    def ask(peer: Talk) -> None:
        peer.say(b"GET /a%7Eb?c HTTP/1.1\r\nHost: h\r\nX-Peer-Name: mallory\r\nAccept:*/*\r\n\r\n")
        assert peer.exactly(len(OK)) == OK

    await told(yard, behave, ask)
    (head,) = heard
    assert head.startswith(b"GET /a~b?c HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n")
    fingerprint = str(identity("alice").certificate.fingerprint)
    for line in (
        "X-Peer-Name: alice",
        f"X-Peer-Fingerprint: {fingerprint}",
        "X-Peer-Tags: ops",
        "X-Forwarded-For: 127.0.0.1",
    ):
        assert f"\r\n{line}\r\n".encode() in head
    assert b"mallory" not in head


@on_loops()
async def test_a_connection_is_kept_on_both_sides(yard: Yard) -> None:
    def ask(peer: Talk) -> None:
        for _ in range(3):
            peer.say(GET)
            assert peer.exactly(len(OK)) == OK

    assert await told(yard, answers(OK), ask) == 1


@on_loops()
async def test_requests_that_come_ahead_are_answered_in_order_one_at_a_time(yard: Yard) -> None:
    under_way = []

    def behave(talk: Talk) -> None:
        for number in range(5):
            assert f"GET /{number} ".encode() in talk.head()
            under_way.append(talk._held)
            talk.say(OK.replace(b"ok", b"#%d" % number))
        talk.ends()

    def ask(peer: Talk) -> None:
        peer.say(b"".join(GET.replace(b"/ ", b"/%d " % number) for number in range(5)))
        for number in range(5):
            assert peer.exactly(len(OK)) == OK.replace(b"ok", b"#%d" % number)

    await told(yard, behave, ask)
    assert under_way == [b""] * 5


@on_loops("uvloop")
async def test_answers_without_a_body_leave_the_connection_as_it_was(yard: Yard) -> None:
    bodiless = [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\n" + CHUNKS + b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n"),
        (b"GET", OK, OK),
    ]

    def behave(talk: Talk) -> None:
        for _, answer, _ in bodiless:
            talk.head()
            talk.say(answer)
        talk.ends()

    def ask(peer: Talk) -> None:
        for method, _, heard in bodiless:
            peer.say(GET.replace(b"GET", method))
            assert peer.exactly(len(heard)) == heard

    assert await told(yard, behave, ask) == 1


@on_loops()
async def test_chunks_go_both_ways_and_are_made_anew(yard: Yard) -> None:
    def behave(talk: Talk) -> None:
        assert talk.head() == b"POST / HTTP/1.1\r\nHost: h\r\n" + CHUNKS + b"Trailer: X-Sum\r\n\r\n"
        assert talk.until(b"0\r\nX-Sum: 1\r\n\r\n") == b"4\r\nabcd\r\n0\r\nX-Sum: 1\r\n\r\n"
        said = b"\r\n2;x=y\r\nef\r\n0002\r\ngh\r\n0\r\nX-Sum:  2\r\nSet-Cookie: a\r\n\r\n"
        talk.say(b"HTTP/1.1 200 OK\r\n" + CHUNKS + said)
        talk.ends()

    def ask(peer: Talk) -> None:
        head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:Chunked\r\nTrailer: X-Sum\r\n\r\n"
        peer.say(head + b'01;a="b"\r\na\r\n3\r\nbcd\r\n0\r\nX-Sum: 1\r\nX-Peer-Name: mallory\r\n\r\n')
        assert peer.head() == b"HTTP/1.1 200 OK\r\n" + CHUNKS + b"\r\n"
        assert peer.until(b"\r\n\r\n") == b"4\r\nefgh\r\n0\r\nX-Sum: 2\r\n\r\n"

    await told(yard, behave, ask)


@on_loops("uvloop")
async def test_http_1_0_gets_no_chunks_and_no_interim_answers(yard: Yard) -> None:
    def behave(talk: Talk) -> None:
        assert talk.head().startswith(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:")
        said = b"\r\n2\r\nab\r\n1\r\nc\r\n0\r\nT: 1\r\n\r\n"
        talk.say(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n" + CHUNKS + said)
        talk.ends()

    def ask(peer: Talk) -> None:
        peer.say(b"GET / HTTP/1.0\r\n\r\n")
        assert peer.until(b"abc") == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc"
        assert peer.ends() == "goodbye"

    await told(yard, behave, ask)


@on_loops()
async def test_an_answer_that_ends_with_its_connection_goes_on_in_chunks(yard: Yard) -> None:
    def behave(talk: Talk) -> None:
        talk.head()
        talk.say(b"HTTP/1.1 200 OK\r\n\r\nabc")

    def ask(peer: Talk) -> None:
        for _ in range(2):
            peer.say(GET)
            assert peer.until(b"0\r\n\r\n") == b"HTTP/1.1 200 OK\r\n" + CHUNKS + b"\r\n3\r\nabc\r\n0\r\n\r\n"

    assert await told(yard, behave, ask) == 2


@on_loops()
async def test_the_peer_waits_for_100_continue_of_the_backend(yard: Yard) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"

    def behave(talk: Talk) -> None:
        assert talk.head().endswith(b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert not talk._held
        talk.say(interim)
        assert talk.exactly(3) == b"abc"
        talk.say(OK)
        talk.ends()

    def ask(peer: Talk) -> None:
        peer.say(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert peer.exactly(len(interim)) == interim
        peer.say(b"abc")
        assert peer.exactly(len(OK)) == OK

    await told(yard, behave, ask)


@on_loops()
async def test_an_answer_before_the_end_of_the_request_arrives_and_ends_the_connection(yard: Yard) -> None:
    no = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"

    def behave(talk: Talk) -> None:
        talk.head()
        talk.say(no)  # and ends the connection, of which it has not read everything

    def ask(peer: Talk) -> None:
        peer.say(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n" + bytes(100_000))
        assert peer.until(b"no") == no.replace(b"Content-", b"Connection: close\r\nContent-")
        assert peer.ends() == "goodbye"

    await told(yard, behave, ask)


@on_loops("uvloop")
async def test_interim_answers_are_passed_on(yard: Yard) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

    def ask(peer: Talk) -> None:
        peer.say(GET)
        assert peer.exactly(len(hints + OK)) == hints + OK

    await told(yard, answers(hints + OK), ask)


@on_loops("uvloop")
async def test_close_is_heard_and_said(yard: Yard) -> None:
    def ask(peer: Talk) -> None:
        peer.say(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert peer.until(b"ok") == OK.replace(b"Content-", b"Connection: close\r\nContent-")
        assert peer.ends() == "goodbye"

    await told(yard, answers(OK), ask)


@on_loops("uvloop")
async def test_what_the_backend_says_unasked_reaches_nobody(yard: Yard) -> None:
    """It would be taken for the answer to the next request."""
    asked = []

    def behave(talk: Talk) -> None:
        asked.append(talk.head())
        talk.say(OK + (b"" if len(asked) > 1 else b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"))
        talk.ends()

    def ask(peer: Talk) -> None:
        for _ in range(2):
            peer.say(GET)
            assert peer.exactly(len(OK)) == OK

    assert await told(yard, behave, ask) == 2


@on_loops()
async def test_requests_and_answers_are_the_same_in_any_pieces(yard: Yard) -> None:
    post = b"POST / HTTP/1.1\r\nHost: h\r\n" + CHUNKS + b"\r\n3\r\nabc\r\n0\r\n\r\n"
    put = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\ndefg"
    answer = b"HTTP/1.1 200 OK\r\n" + CHUNKS + b"\r\n2\r\nhi\r\n0\r\n\r\n"
    content = []

    def behave(talk: Talk) -> None:
        while True:
            if b"chunked" in talk.head():
                while (size := int(talk.until(b"\r\n"), 16)) > 0:
                    content.append(talk.exactly(size))
                    talk.until(b"\r\n")
                talk.until(b"\r\n")
            else:
                content.append(talk.exactly(4))
            for at in range(len(answer)):
                talk.say(answer[at : at + 1])

    def ask(peer: Talk) -> None:
        said = post + put + post
        for at in range(len(said)):
            peer.say(said[at : at + 1])
        for _ in range(3):
            peer.until(b"\r\n\r\n")
            heard = b""
            while (size := int(peer.until(b"\r\n"), 16)) > 0:
                heard += peer.exactly(size)
                peer.until(b"\r\n")
            peer.until(b"\r\n")
            assert heard == b"hi"

    await told(yard, behave, ask)
    assert b"".join(content) == b"abcdefgabc"


@on_loops("uvloop")
async def test_what_no_route_allows_is_denied_and_the_connection_goes_on(yard: Yard) -> None:
    bobs = Policy("default", frozenset({"bob"}))
    routes = Routes([Route("/open/"), Route("/bob", policy=bobs)])

    def behave(talk: Talk) -> None:
        assert b"GET /open/a " in talk.head()
        talk.say(OK)
        talk.ends()

    def ask(peer: Talk) -> None:
        for path in (b"/bob", b"/open/../bob", b"/other"):
            peer.say(GET.replace(b"/ ", path + b" "))
            head = peer.head()
            assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
            assert b"Connection: close" not in head
            assert peer.until(b"\n").startswith(b"403 Forbidden: ")
        peer.say(GET.replace(b"/ ", b"/x/../open//a "))
        assert peer.exactly(len(OK)) == OK
        peer.say(GET.replace(b"GET / ", b"POST /bob ").replace(b"\r\n\r\n", b"\r\nContent-Length: 4\r\n\r\nGET "))
        assert peer.head().startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert peer.ends() == "goodbye"

    assert await told(yard, behave, ask, routes=routes) == 1


@on_loops("uvloop")
async def test_a_change_of_a_peers_notes_counts_from_the_next_request(yard: Yard) -> None:
    heard = []

    def behave(talk: Talk) -> None:
        while True:
            heard.append(talk.until(b"\r\n\r\n"))
            talk.say(OK)

    caller = Caller(identity("alice"))
    async with proxied(yard, behave) as proxy:
        with calling(caller, proxy.node.port) as peer:

            def ask() -> None:
                peer.say(GET)
                assert peer.exactly(len(OK)) == OK

            await asyncio.to_thread(ask)
            yard.place("alice.toml", 'tags = ["admin"]\n')
            await proxy.node.hears("peer-changed", peer="alice")
            await asyncio.to_thread(ask)
    assert [b"X-Peer-Tags: ops\r\n" in head for head in heard] == [True, False]
    assert b"X-Peer-Tags: admin\r\n" in heard[1]

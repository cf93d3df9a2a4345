"""Threat: a request that the proxy reads in one way and the program behind it in another, and so one that nobody judged.

What is malformed never reaches the program: not a byte of it, and not what was sent behind it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.http.doors import Door, door, say
from tests.http.malformed import CHUNK, MALFORMED, SMUGGLED, Malformed


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with door(tmp_path_factory.mktemp("door")) as one:
        yield one


def test_there_are_many_of_them_and_no_two_are_the_same() -> None:
    assert len({case.data for case in MALFORMED}) == len({case.name for case in MALFORMED}) == len(MALFORMED) > 150


@pytest.mark.parametrize("case", MALFORMED, ids=str)
def test_nothing_of_a_malformed_request_reaches_the_program(shared: Door, case: Malformed) -> None:
    answer = shared.say(case.data + SMUGGLED)
    first = re.match(rb"HTTP/1\.1 (\d\d\d) ", answer)
    assert first is not None, answer
    assert int(first[1]) in case.status
    assert len(re.findall(rb"HTTP/1\.[01] \d\d\d ", answer)) == 1, "what was sent behind it was answered"
    assert shared.reached() == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([case for case in MALFORMED if len(case.data) < 500]), st.data())
def test_however_it_is_cut_it_is_refused(shared: Door, case: Malformed, data: st.DataObject) -> None:
    """What is wrong with a body may come when its beginning is on its way; then the program sees that it broke off."""
    cuts = data.draw(st.sets(st.integers(1, len(case.data) - 1), max_size=8))
    places = [0, *sorted(cuts), len(case.data)]
    answer = shared.say(*(case.data[a:b] for a, b in itertools.pairwise(places)), SMUGGLED)
    assert not answer or re.match(rb"HTTP/1\.1 [45]\d\d ", answer), answer
    assert len(re.findall(rb"HTTP/1\.[01] \d\d\d ", answer)) <= 1
    heard = shared.reached()
    assert not any(request for request in shared.program.requests if not request.startswith(b"GET /mark "))
    if case not in CHUNK:
        assert heard == []


@pytest.mark.parametrize("case", [case for case in CHUNK if b"hello" in case.data and len(case.data) < 500], ids=str)
def test_what_is_wrong_with_a_later_chunk_breaks_the_request_off(shared: Door, case: Malformed) -> None:
    head, _, chunks = case.data.partition(b"\r\n\r\n")
    shared.program.forget()
    with shared.open() as tls:
        tls.sendall(head + b"\r\n\r\n2\r\nab\r\n")
        shared.until(lambda: b"2\r\nab\r\n" in shared.program.heard)
        assert say(tls, [chunks + SMUGGLED]).count(b"HTTP/1.1 ") <= 1
    shared.until(lambda: [one.ended for one in shared.program.connections] == ["reset"])
    assert shared.program.requests == []
    assert b"smuggled" not in shared.program.heard


def test_a_body_that_breaks_off_is_no_complete_request(shared: Door) -> None:
    for framing, part in ((b"Content-Length: 10", b"hello"), (b"Transfer-Encoding: chunked", b"a\r\nhello")):
        shared.program.forget()
        with shared.open() as tls:
            tls.sendall(b"POST /a HTTP/1.1\r\nHost: node\r\n" + framing + b"\r\n\r\n" + part)
            shared.until(lambda: b"hello" in shared.program.heard)
        shared.until(lambda: [one.ended for one in shared.program.connections] == ["reset"])
        assert shared.program.requests == []


def test_what_comes_before_a_malformed_request_is_answered_and_nothing_after_it(shared: Door) -> None:
    good = b"GET /good HTTP/1.1\r\nHost: node\r\n\r\n"
    answer = shared.say(good + good + b"GET /a HTTP/1.1\r\nHost : node\r\n\r\n" + SMUGGLED)
    assert re.findall(rb"HTTP/1\.1 (\d\d\d)", answer) == [b"200", b"200", b"400"]
    assert [request.split(b" ")[1] for request in shared.program.requests] == [b"/good", b"/good"]


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 777\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize("status", [b"426 Upgrade Required", b"400 Bad Request", b"200 OK"])
def test_an_upgrade_that_was_not_agreed_to_is_no_tunnel(shared: Door, status: bytes) -> None:
    """WebSocket smuggling: a proxy that believes in a tunnel judges nothing of what goes in, which is HTTP."""
    shared.program.forget()
    shared.program.answers = [b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"]
    claim = b"GET /a HTTP/1.1\r\nHost: node\r\nX-Peer-Name: bob\r\nConnection: close\r\n\r\n"
    with shared.open() as tls:
        answer = say(tls, [HANDSHAKE, claim])
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"bob" not in shared.program.heard
    assert len(re.findall(rb"X-Peer-Name: alice\r\n", shared.program.heard)) == 2

"""What an HTTP proxy does for a request, counted in calls, not seconds: a guard of its speed, as test_relay_calls.py."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peerauth.http import fields
from peerauth.services import ends
from peerauth.tls import scratch
from peerauth.tls.session import RECORD
from peerauth.trust.certificate import Certificate
from tests.support.engine import Caller, Yard, identity, on_loops
from tests.support.talking import GET, OK, Talk, answers, calling, proxied

REQUESTS = 200
MUCH = 8 << 20


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """A peers directory with alice in it."""
    yard = Yard(tmp_path / "peers")
    yard.pin("alice")
    return yard


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> collections.Counter[str]:
    """How often each of these was called."""
    counted: collections.Counter[str] = collections.Counter()

    def count(where: Any, name: str) -> None:  # noqa: ANN401 - a module or a class
        function: Callable[..., Any] = getattr(where, name)

        def counting(*values: Any) -> Any:  # noqa: ANN401 - as the original
            counted[f"{where.__name__.rpartition('.')[2]}.{name}"] += 1
            return function(*values)

        monkeypatch.setattr(where, name, counting)

    for name in ("ssl_read", "ssl_write", "ssl_get_error"):
        count(scratch, name)
    for name in ("fill", "offer", "put"):
        count(ends.Plain, name)
    count(fields, "sort")
    count(Certificate, "__init__")
    return counted


async def talked(yard: Yard, behave: Callable[[Talk], object], talk: Callable[[Talk], object]) -> None:
    caller = Caller(identity("alice"))
    async with proxied(yard, behave) as proxy:

        def run() -> None:
            with calling(caller, proxy.node.port) as peer:
                talk(peer)

        await asyncio.to_thread(run)


@on_loops()
async def test_a_small_request_costs_one_call_of_each_kind(yard: Yard, calls: collections.Counter[str]) -> None:
    def ask(peer: Talk) -> None:
        for number in range(REQUESTS):
            peer.say(GET.replace(b"/ ", b"/%d " % number))
            assert peer.exactly(len(OK)) == OK
            if number == 1:
                calls.clear()

    await talked(yard, answers(OK), ask)
    for name in ("scratch.ssl_read", "Plain.offer", "Plain.fill", "scratch.ssl_write"):
        assert REQUESTS - 5 <= calls[name] <= REQUESTS * 1.05 + 5, name
    assert calls["scratch.ssl_get_error"] < REQUESTS * 0.05 + 5, "there is a second try after a short record"
    assert calls["fields.sort"] == 0, "fields that are said again are read again"
    assert calls["Certificate.__init__"] == 0, "a certificate is read for a request"


@on_loops("uvloop")
async def test_a_large_body_is_passed_on_in_large_pieces(yard: Yard, calls: collections.Counter[str]) -> None:
    length = b"Content-Length: %d\r\n\r\n" % MUCH

    def behave(talk: Talk) -> None:
        talk.head()
        size = 0
        while size < MUCH:
            size += len(talk.exactly(1 << 16))
        talk.say(b"HTTP/1.1 200 OK\r\n" + length + bytes(MUCH))
        talk.ends()

    def ask(peer: Talk) -> None:
        peer.say(b"PUT / HTTP/1.1\r\nHost: h\r\n" + length + bytes(MUCH)).head()
        for _ in range(MUCH >> 16):
            peer.exactly(1 << 16)

    await talked(yard, behave, ask)
    assert calls["Plain.put"] + calls["Plain.offer"] < MUCH // RECORD, "each record is sent by itself"
    assert calls["scratch.ssl_write"] < MUCH // RECORD, "each record is written by a call of its own"

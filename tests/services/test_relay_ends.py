"""How a relay ends when one side takes nothing more: what that side has said already still arrives."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import pytest

from peerauth.address import Address
from peerauth.services import relay, targets
from peerauth.services.awake import Awake
from peerauth.services.ends import Plain
from peerauth.services.guest import Guest, Served
from peerauth.services.relay import Relay
from peerauth.tls.scratch import Scratch
from peerauth.tls.session import Session
from peerauth.trust.decision import Admitted
from tests.services.test_flow import Scripted
from tests.support.engine import on_loops

WORDS = b"the last words"


class Side(Scripted):
    """A scripted end that notes how it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed: list[str] = []

    def close(self, *, reset: bool = False) -> None:
        self.closed.append("reset" if reset else "closed")

    def leave(self) -> None:
        self.closed.append("left")


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> tuple[Relay, Side, Side, list[Served]]:
    """A relay, its near and far side, and what was told of its end."""
    near, far = Side(), Side()
    lost: list[Served] = []
    loop = asyncio.new_event_loop()
    loop.close()
    monkeypatch.setattr(relay, "Tls", lambda *_: near)
    monkeypatch.setattr(relay, "Plain", lambda *_: far)
    monkeypatch.setattr(targets, "connected_at_once", lambda _: near.sock)
    monkeypatch.setattr(relay, "linger", lambda *_: near.closed.append("lingers"))
    asleep = Awake(loop.call_soon, lambda: False, lambda: 0.0)
    guest = Guest(loop, near.sock, cast("Session", None), cast("Admitted", None), Scratch(), asleep, lost.append)
    made = Relay(guest, targets.Targets("db", (Address("127.0.0.1", 1),), cast("Any", None)))
    made.start()
    return made, near, far, lost


def test_peer_that_takes_nothing_more_has_said_something_before(joined: tuple[Relay, Side, Side, list[Served]]) -> None:
    made, near, far, lost = joined
    near.says.append((WORDS, None))
    far.says.append((b"an answer", None))
    near.takes.append(-1)  # broken
    assert far.readable is not None
    far.readable()
    assert far.heard == WORDS
    assert (near.closed, far.closed, lost) == (["reset"], ["reset"], [made])


def test_target_that_takes_nothing_more_has_answered_before(joined: tuple[Relay, Side, Side, list[Served]]) -> None:
    """The peer gets the answer and no goodbye, because the target did not say one; and no reset, which might overtake it."""
    made, near, far, lost = joined
    far.says.append((WORDS, None))
    near.says.append((b"more of the question", None))
    far.takes.append(-1)
    assert near.readable is not None
    near.readable()
    assert near.heard == WORDS
    assert near.goodbyes == 0
    assert (near.closed, far.closed, lost) == (["left", "lingers"], ["closed"], [made])


def test_end_comes_once(joined: tuple[Relay, Side, Side, list[Served]]) -> None:
    made, near, far, lost = joined
    made.abort()
    made.abort()
    assert (near.closed, far.closed, lost) == (["reset"], ["reset"], [made])


@on_loops()
async def test_who_has_left_a_socket_hears_nothing_of_it_any_more() -> None:
    """Its descriptor may be somebody else's by then."""
    here, there = socket.socketpair()
    here.setblocking(False)
    end, called = Plain(asyncio.get_running_loop(), here), asyncio.Event()

    def close() -> None:
        end.close()
        asyncio.get_running_loop().call_later(0.05, called.set)

    told: list[str] = []
    end.when_writable(close)
    end.when_writable(lambda: told.append("writable"))
    await called.wait()
    end.when_readable(lambda: told.append("readable"))
    end.when_writable(lambda: told.append("writable again"))
    there.close()
    assert told == []

"""Waiting for sockets, each once: by epoll and by what `selectors` has, to the same effect."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from peerauth.net.readiness import Epoll, Readiness, Selector, readiness


@pytest.fixture(params=[Epoll, Selector])
def waiting(request: pytest.FixtureRequest) -> Iterator[Readiness]:
    made: Readiness = request.param()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with contextlib.closing(here), contextlib.closing(there):
        yield here, there


def test_once_is_once_until_it_is_asked_for_again(waiting: Readiness, pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    waiting.once(here.fileno())
    assert waiting.wait(0) == []
    there.send(b"x")
    assert waiting.wait(5) == [here.fileno()]
    assert waiting.wait(0) == []
    waiting.once(here.fileno(), again=True)
    assert waiting.wait(5) == [here.fileno()]
    waiting.once(here.fileno(), writable=True, again=True)
    assert waiting.wait(5) == [here.fileno()]
    assert waiting.wait(0) == []


def test_always_is_as_long_as_there_is_something(waiting: Readiness, pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    waiting.always(here.fileno())
    there.send(b"x")
    assert waiting.wait(5) == waiting.wait(5) == [here.fileno()]
    here.recv(1)
    assert waiting.wait(0) == []


def test_forgotten_is_not_heard_of_and_may_come_again(waiting: Readiness, pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    waiting.forget(here.fileno())  # it never was waited for
    waiting.once(here.fileno())
    there.send(b"x")
    waiting.forget(here.fileno())
    assert waiting.wait(0) == []
    waiting.always(here.fileno())
    assert waiting.wait(5) == [here.fileno()]
    waiting.forget(here.fileno())
    waiting.forget(here.fileno())
    assert waiting.wait(0) == []


def test_descriptor_of_a_socket_that_was_closed_is_another_when_it_comes_again(waiting: Readiness) -> None:
    here, there = socket.socketpair()
    waiting.once(here.fileno())
    fd = here.fileno()
    waiting.forget(fd)
    here.close()
    there.close()
    again, other = socket.socketpair()
    with contextlib.closing(again), contextlib.closing(other):
        waiting.once(again.fileno())
        other.send(b"x")
        assert waiting.wait(5) == [again.fileno()]


def test_the_best_there_is() -> None:
    made = readiness()
    assert isinstance(made, Epoll | Selector)
    made.close()

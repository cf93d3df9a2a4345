"""One direction of a relay, with ends that do as they are told: no byte is lost, doubled or out of order."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from peerauth.services.ends import End
from peerauth.services.flow import Flow
from peerauth.tls.scratch import SIZE, Scratch
from peerauth.tls.session import Goodbye, Stop, Wait


class Scripted(End):
    """An end without a socket: what it says and how much it takes each time is written down beforehand."""

    def __init__(self, says: list[tuple[bytes, Stop]] | None = None, takes: list[int] | None = None) -> None:
        self.says = deque(says or [])
        self.takes = deque(takes or [])
        self.heard = b""
        self.goodbyes = 0
        self.readable: Callable[[], None] | None = None
        self.writable: list[Callable[[], None]] = []
        self.sock = socket.socket()
        self.sock.close()

    def fill(self, buffer: Scratch) -> tuple[int, Stop]:
        data, stop = self.says.popleft() if self.says else (b"", Wait.READABLE)
        buffer.view[: len(data)] = data
        return len(data), stop

    def put(self, buffer: Scratch, size: int) -> int:
        return self.offer(bytes(buffer.view[:size]))

    def offer(self, data: bytes) -> int:
        taken = min(self.takes.popleft(), len(data)) if self.takes else len(data)
        if taken < 0:
            raise BrokenPipeError
        self.heard += data[:taken]
        return taken

    def end(self) -> bool:
        self.goodbyes += 1
        return self.goodbyes > 1  # it asks to be asked again

    def when_readable(self, call: Callable[[], None] | None) -> None:
        self.readable = call

    def when_writable(self, call: Callable[[], None]) -> None:
        self.writable.append(call)


class Owner:
    """Notes how a flow ends."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def ended(self, _: Flow) -> None:
        self.told.append("ended")

    def lost(self, _: Flow, error: Exception) -> None:
        self.told.append(f"lost {type(error).__name__}")

    def deaf(self, _: Flow, error: Exception) -> None:
        self.told.append(f"deaf {type(error).__name__}")


def run(source: Scripted, sink: Scripted) -> tuple[Owner, Flow]:
    """Wake the flow up as a loop would, until it is told of an end or nothing happens any more."""
    owner = Owner()
    flow = Flow(owner, Scratch(), source, sink)
    flow.start()
    for _ in range(1000):
        if owner.told:
            break
        assert not (flow.pending and source.readable), "it reads on although something is pending"
        waiting = sink.writable or source.writable
        if waiting:
            waiting.pop(0)()
        elif source.readable and source.says:
            source.readable()
        else:
            break
    return owner, flow


PIECES = st.lists(
    st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from([None, Wait.READABLE, Wait.WRITABLE])), max_size=12
)
TAKES = st.lists(st.integers(0, 50), max_size=60)


@given(PIECES, TAKES)
def test_everything_arrives_in_order_and_the_goodbye_after_it(pieces: list[tuple[bytes, Stop]], takes: list[int]) -> None:
    source, sink = Scripted([*pieces, (b"", Goodbye())]), Scripted(takes=takes)
    owner, flow = run(source, sink)
    assert sink.heard == b"".join(data for data, _ in pieces)
    assert owner.told == ["ended"]
    assert sink.goodbyes == 2
    assert flow.pending == b""


@given(PIECES, TAKES, st.binary(max_size=40))
def test_goodbye_that_comes_with_the_last_bytes_waits_for_them(
    pieces: list[tuple[bytes, Stop]], takes: list[int], last: bytes
) -> None:
    source, sink = Scripted([*pieces, (last, Goodbye())]), Scripted(takes=takes)
    owner, _ = run(source, sink)
    assert sink.heard == b"".join(data for data, _ in pieces) + last
    assert owner.told == ["ended"]


@given(PIECES, TAKES)
def test_source_that_breaks_is_lost_and_no_goodbye_is_said(pieces: list[tuple[bytes, Stop]], takes: list[int]) -> None:
    source, sink = Scripted([*pieces, (b"", ConnectionResetError())]), Scripted(takes=takes)
    owner, _ = run(source, sink)
    assert owner.told == ["lost ConnectionResetError"]
    assert sink.goodbyes == 0


@given(PIECES.filter(bool), TAKES)
def test_sink_that_breaks_is_deaf_and_what_went_before_is_a_beginning(
    pieces: list[tuple[bytes, Stop]], takes: list[int]
) -> None:
    source, sink = Scripted([*pieces, (b"x" * 100, None)]), Scripted(takes=[*takes, -1])
    owner, _ = run(source, sink)
    said = b"".join(data for data, _ in pieces) + b"x" * 100
    if owner.told:
        assert owner.told == ["deaf BrokenPipeError"]
        assert said.startswith(sink.heard)
    else:
        assert sink.heard == said


def test_last_words_are_passed_on_at_once_but_never_around_what_is_pending() -> None:
    source, sink = Scripted([(b"one", None), (b"two", None), (b"three", None)]), Scripted()
    flow = Flow(Owner(), Scratch(), source, sink)
    flow.last_words()
    assert sink.heard == b"onetwothree"
    source, sink = Scripted([(b"one", None), (b"two", None)]), Scripted(takes=[1])
    _, flow = Owner(), Flow(Owner(), Scratch(), source, sink)
    flow.start()
    assert source.readable is not None
    source.readable()
    assert (sink.heard, flow.pending) == (b"o", b"ne")
    flow.last_words()
    assert sink.heard == b"o"


def test_a_whole_buffer_may_wait() -> None:
    """The most that a direction holds."""
    source, sink = Scripted([(bytes(SIZE), None)]), Scripted(takes=[0])
    flow = Flow(Owner(), Scratch(), source, sink)
    flow.start()
    assert source.readable is not None
    source.readable()
    assert len(flow.pending) == SIZE
    assert source.readable is None

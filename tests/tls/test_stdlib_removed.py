"""Open connections of the drop-in context that nobody uses: a removed peer's end all the same, and nobody else's.

Every test has a peer that stays, for whom the same goes on as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from peerauth import peer_of, when_removed
from peerauth.store.lookout import Lookout
from peerauth.tls.stdlib import PeerRefused
from tests.support.dropin import DEADLINE_S, Bio, Node, Nodes, tcp_pair
from tests.support.engine import on_loops
from tests.support.workers import Home

PROMPT_S = 1.0  # 250 ms on a quiet machine


@contextmanager
def connected(server: ssl.SSLContext, client: ssl.SSLContext) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """Both ends of an open connection: the accepted one and the connecting one."""
    far, near = tcp_pair()
    with ThreadPoolExecutor(1) as thread:
        accepting = thread.submit(server.wrap_socket, far, True)
        with client.wrap_socket(near) as ours, accepting.result(DEADLINE_S) as theirs:
            yield theirs, ours


def following(node: Node) -> Callable[[Callable[[], object]], None]:
    return Lookout(node.directory).tell


def end_of(sock: ssl.SSLSocket) -> str:
    """How a connection ends, for whoever reads there."""
    try:
        while sock.recv(100):
            pass
    except PeerRefused:
        return "refused"
    except (ssl.SSLError, ConnectionError):
        return "cut"
    return "goodbye"


def test_reader_that_waits_for_a_removed_peer_is_woken_and_told(three: tuple[Node, Node, Node]) -> None:
    a, gone, stays = three
    server = a.server(follow=following(a))
    with (
        connected(server, gone.client("a")) as (theirs, ours),
        connected(server, stays.client("a")) as (kept, other),
        ThreadPoolExecutor(2) as threads,
    ):
        woken, waiting = threads.submit(end_of, theirs), threads.submit(kept.recv, 100)
        began = time.monotonic()
        a.forgets(gone)
        assert woken.result(DEADLINE_S) == "refused"
        assert time.monotonic() - began < PROMPT_S
        assert (theirs.fileno(), peer_of(theirs)) == (-1, None)
        assert end_of(ours) in ("cut", "goodbye")  # Python's ssl takes an end without a goodbye for an end
        other.sendall(b"still there?")
        assert waiting.result(DEADLINE_S) == b"still there?"


def test_connection_that_nobody_uses_is_cut_for_a_removed_peer(three: tuple[Node, Node, Node]) -> None:
    a, gone, stays = three
    server = a.server(follow=following(a))
    with connected(server, gone.client("a")) as (theirs, ours), connected(server, stays.client("a")) as (kept, other):
        began = time.monotonic()
        a.forgets(gone)
        assert end_of(ours) in ("cut", "goodbye")
        assert time.monotonic() - began < PROMPT_S
        for use in (lambda: theirs.recv(1), lambda: theirs.sendall(b"x")):
            with pytest.raises(PeerRefused):
                use()
        kept.sendall(b"x")
        assert other.recv(1) == b"x"


def test_client_that_has_removed_the_server_is_woken_and_told(three: tuple[Node, Node, Node]) -> None:
    a, gone, stays = three
    server, follow = a.server(), following(gone)
    with (
        connected(server, gone.client("a", follow=follow)) as (_, ours),
        connected(server, stays.client("a", follow=following(stays))) as (kept, other),
        ThreadPoolExecutor(1) as thread,
    ):
        woken = thread.submit(end_of, ours)
        gone.forgets(a)
        assert woken.result(DEADLINE_S) == "refused"
        kept.sendall(b"x")
        assert other.recv(1) == b"x"


def test_descriptor_that_was_given_away_is_left_alone(three: tuple[Node, Node, Node]) -> None:
    """It may belong to anybody by now; so may that of a connection that was closed."""
    a, gone, _ = three
    server = a.server(follow=following(a))
    woken = threading.Event()
    with (
        connected(server, gone.client("a")) as (detached, _),
        connected(server, gone.client("a")) as (closed, _),
        connected(server, gone.client("a")) as (open_still, _),
        contextlib.ExitStack() as held,
    ):
        number = closed.fileno()
        closed.close()
        given = [held.enter_context(socket.socket(fileno=detached.detach()))]
        while number not in [sock.fileno() for sock in given]:  # others in this process may take descriptors, too
            given += [held.enter_context(sock) for sock in socket.socketpair()]
        when_removed(open_still, woken.set)
        a.forgets(gone)
        assert woken.wait(DEADLINE_S)
        assert end_of(open_still) == "refused"
        for sock in given:
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):  # an end would be read
                sock.recv(1)


def streams_of(server: ssl.SSLContext) -> tuple[list[asyncio.StreamWriter], Callable[..., object]]:
    """Whoever has come to a server of asyncio that cuts off whom it hears of."""
    accepted: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        when_removed(writer, writer.transport.abort)
        writer.write(b"hello")
        with contextlib.suppress(OSError):
            while data := await reader.read(100):
                writer.write(data)
        writer.close()

    return accepted, lambda: asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)


@on_loops()
async def test_program_on_asyncio_cuts_off_whom_it_is_told_of(three: tuple[Node, Node, Node]) -> None:
    a, gone, stays = three
    accepted, start = streams_of(a.server(follow=following(a)))
    listening = await start()  # type: ignore[misc]
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        leaving = await asyncio.open_connection("127.0.0.1", port, ssl=gone.client("a"))
        staying = await asyncio.open_connection("127.0.0.1", port, ssl=stays.client("a"))
        for reader, _ in (leaving, staying):
            assert await reader.readexactly(5) == b"hello"
        began = time.monotonic()
        a.forgets(gone)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            async with asyncio.timeout(DEADLINE_S):
                assert await leaving[0].read() == b""
        assert time.monotonic() - began < PROMPT_S
        staying[1].write(b"still there?")
        assert await staying[0].readexactly(12) == b"still there?"
        for _, writer in (leaving, staying):
            writer.close()
        for writer in accepted:
            writer.close()


def test_who_asks_late_is_told_at_once_and_nobody_twice(three: tuple[Node, Node, Node]) -> None:
    a, gone, stays = three
    server = a.server(follow=following(a))
    leaving, staying = Bio(server, gone.client("a")), Bio(server, stays.client("a"))
    assert [pair.shake() for pair in (leaving, staying)] == [(None, None)] * 2
    told: list[str] = []
    first = threading.Event()
    when_removed(leaving.server, lambda: told.append("first"))
    when_removed(leaving.server, first.set)
    when_removed(staying.server, lambda: told.append("never"))
    a.forgets(gone)
    assert first.wait(DEADLINE_S)
    when_removed(leaving.server, lambda: told.append("late"))
    with pytest.raises(PeerRefused):
        leaving.server.write(b"x")
    assert told == ["first", "late"]
    staying.server.write(b"x")


def test_when_removed_is_for_connections_that_are_followed(three: tuple[Node, Node, Node]) -> None:
    a, gone, _ = three
    here, there = socket.socketpair()
    with here, there, connected(a.server(), gone.client("a")) as (theirs, _):
        for other in (here, theirs, None):
            with pytest.raises(TypeError, match="follows the list"):
                when_removed(other, print)


def test_connection_ends_with_its_peers_time(three: tuple[Node, Node, Node], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerauth.store.lookout.LOOK", 0.05)
    a, gone, stays = three
    soon = datetime.now(UTC) + timedelta(seconds=1)
    a.knows(gone, settings=f"until = {soon.isoformat()}")
    server = a.server(follow=following(a))
    with connected(server, gone.client("a")) as (theirs, _), connected(server, stays.client("a")) as (kept, other):
        assert end_of(theirs) == "refused"
        assert datetime.now(UTC) >= soon
        kept.sendall(b"x")
        assert other.recv(1) == b"x"


def test_nothing_is_kept_alive_by_being_looked_after(three: tuple[Node, Node, Node]) -> None:
    a, gone, _ = three
    server = a.server(follow=following(a))
    with connected(server, gone.client("a")) as (theirs, _):
        known = weakref.ref(theirs), weakref.ref(server.sslsocket_class.judge)  # type: ignore[attr-defined]
    del theirs, server
    give_up = time.monotonic() + DEADLINE_S
    while any(one() is not None for one in known):  # the thread may be looking at them
        assert time.monotonic() < give_up
        gc.collect()


def test_thread_ends_with_the_last_context_and_begins_again(
    three: tuple[Node, Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peerauth.store.lookout.LOOK", 0.02)
    a, gone, _ = three
    lookout = Lookout(a.directory)

    def threads() -> list[threading.Thread]:
        return [one for one in threading.enumerate() if getattr(one, "_target", None) == lookout._follow]

    for _ in range(2):
        a.knows(gone)
        server = a.server(follow=lookout.tell)
        with connected(server, gone.client("a")) as (theirs, _):
            (thread,) = threads()
            a.forgets(gone)
            assert end_of(theirs) == "refused"
        del theirs, server
        gc.collect()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def test_one_who_fails_when_told_keeps_nobody_from_being_told(
    three: tuple[Node, Node, Node], caplog: pytest.LogCaptureFixture
) -> None:
    a, gone, _ = three
    server = a.server(follow=following(a))
    told = [threading.Event() for _ in range(3)]
    pairs = [Bio(server, gone.client("a")) for _ in told]
    for pair, event in zip(pairs, told, strict=True):
        assert pair.shake() == (None, None)
        when_removed(pair.server, lambda: 1 // 0)
        when_removed(pair.server, event.set)
    a.forgets(gone)
    assert all(event.wait(DEADLINE_S) for event in told)
    assert caplog.text.count("ZeroDivisionError") == 3


CONNECTED = """
import os, socket, ssl, sys, threading
from peerauth import Node
server, client = Node.load(sys.argv[1]).server_context(), Node.load(sys.argv[2]).client_context("node")
near, far = socket.socketpair()
made = []
thread = threading.Thread(target=lambda: made.append(server.wrap_socket(far, server_side=True)))
thread.start()
ours = client.wrap_socket(near)
thread.join()
"""

PROGRAM = f"""{CONNECTED}
print("open", flush=True)
if sys.stdin.readline():
    try:
        made[0].recv(1)
    except ssl.SSLError as error:
        print(type(error).__name__, flush=True)
"""


@pytest.mark.parametrize("waits", [True, False], ids=["is told", "ends"])
def test_program_with_a_nodes_contexts(node: Nodes, tmp_path: object, *, waits: bool) -> None:
    """As a program has them, from `Node`; and one that ends is not held up, and ends as programs do."""
    del tmp_path
    place = node("place").home
    here, alice = Home(place, "node"), Home(place, "alice")
    here.pin("alice")
    alice.pin("node")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, here.home, alice.home],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "open\n"
        began = time.monotonic()
        if waits:
            program.stdin.write("go on\n")
            program.stdin.flush()
            here.unpin("alice")
            assert program.stdout.readline() == "PeerRefused\n"
            assert time.monotonic() - began < PROMPT_S
        _, errors = program.communicate(timeout=DEADLINE_S)
        assert program.returncode == 0, errors
        assert time.monotonic() - began < 2 * PROMPT_S


FORKING = f"""{CONNECTED}
begun = threading.Event()
def look():
    with server.sslsocket_class.judge._lock:  # as the thread has it that follows the peers
        begun.set()
        threading.Event().wait()
threading.Thread(target=look, daemon=True).start()
begun.wait()
pid = os.fork()
if pid == 0:
    ours.sendall(b"1")
    print("open", made[0].recv(1), flush=True)
    try:
        made[0].recv(1)
    except ssl.SSLError as error:
        print(type(error).__name__, flush=True)
    os._exit(0)
print(os.waitpid(pid, 0)[1], flush=True)
os._exit(0)
"""


def test_fork_of_a_program_looks_after_what_it_has(node: Nodes) -> None:
    """As with `socketserver.ForkingMixIn`; whatever the thread of its parent was doing, which the fork has not."""
    place = node("place").home
    here, alice = Home(place, "node"), Home(place, "alice")
    here.pin("alice")
    alice.pin("node")
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKING, here.home, alice.home],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        killer = threading.Timer(DEADLINE_S, lambda: os.killpg(program.pid, signal.SIGKILL))  # and its fork
        killer.start()
        assert program.stdout.readline() == "open b'1'\n"
        here.unpin("alice")
        assert program.stdout.read() == "PeerRefused\n0\n"
        killer.cancel()

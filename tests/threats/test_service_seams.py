"""Threat: a service that becomes another one lets somebody in by what it was, or loses what was under way."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import stat
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.server.test_commands import BACKEND
from tests.server.test_reload import Node, several
from tests.support.engine import Caller, Halting, hear_line, how_it_ends, identity
from tests.support.talking import GET, OK, Talk
from tests.support.targets import target
from tests.support.web import ask
from tests.support.workers import Home, started

FOR_BOB = 'routes = [{ path = "/", allow = ["bob"] }]'


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A node's home in which alice and bob are pinned, and whose path is short."""
    made = Home(tmp_path_factory.mktemp("s"))
    made.pin("alice")
    made.pin("bob")
    return made


def answering(sock: socket.socket, answer: bytes = OK) -> None:
    """A program that gives every request the same answer."""
    talk = Talk(sock)
    while True:
        try:
            talk.head()
        except EOFError:
            return
        talk.say(answer)


def web(node: Node, extra: str = "", name: str = "one") -> str:
    """A `[[serve]]` block that passes HTTP on to where the node leads."""
    return f'[[serve]]\nname = "{name}"\nlisten = "127.0.0.1:{node.ports[name]}"\nhttp = "http://{node.where}"\n{extra}\n'


@contextlib.contextmanager
def being(
    home: Home, workers: int, make: Callable[[Node], str], behave: Callable[[socket.socket], object] = answering
) -> Iterator[Node]:
    """A node with this service, named "one", in front of a program that does this."""
    with target(behave) as where:
        node = Node(home, where, workers)
        node.write(make(node))
        with started(home, "up") as node.serving:
            node.serving.hears("listening", service="one")
            yield node


def turn_into(node: Node, block: str) -> None:
    """Have its one service be this from now on."""
    node.write(block)
    assert node.reload().endswith(": 1 changed")


def status_for_alice(node: Node) -> int:
    """What she gets: several workers go over one after the other."""
    with Caller(identity("alice")).open(node.ports["one"]) as tls:
        return ask(tls, "/").status


@several
def test_somebody_in_the_handshake_while_routes_come_is_under_them(home: Home, workers: int) -> None:
    """A handshake takes as long as its client wants: alice must not bring the old service with her out of one."""
    with being(home, workers, web) as node:
        with Halting(Caller(identity("alice")), node.ports["one"]) as alice:
            last = b"".join(alice.answer())
            turn_into(node, web(node, FOR_BOB))
            node.serving.until(lambda: all(status_for_alice(node) == 403 for _ in range(10 * workers)))
            alice.sock.sendall(last)
            alice.say(GET)
            assert alice.read().startswith(b"HTTP/1.1 403 ")
        with Caller(identity("bob")).open(node.ports["one"]) as bob:
            assert ask(bob, "/").status == 200


@several
def test_whom_a_changed_service_is_for_counts_for_who_is_in_and_who_is_on_the_way(home: Home, workers: int) -> None:
    with being(home, workers, lambda node: node.service("one")) as node:
        alice, bob = (Caller(identity(name)).open(node.ports["one"]) for name in ("alice", "bob"))
        with alice, bob, Halting(Caller(identity("alice")), node.ports["one"]) as late:
            for tls in (alice, bob):
                assert ask(tls, "/").status == 200
            last = b"".join(late.answer())
            turn_into(node, node.service("one", extra='allow = ["bob"]\nproxy_protocol = "v2"'))
            assert how_it_ends(alice) == "cut"
            late.sock.sendall(last)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                late.read()
            assert ask(bob, "/").status == 200


@several
def test_idle_connections_of_a_proxy_leave_at_once_when_it_becomes_another_thing(home: Home, workers: int) -> None:
    with being(home, workers, web) as node, Caller(identity("alice")).open(node.ports["one"]) as idle:
        assert ask(idle, "/").status == 200
        turn_into(node, web(node, FOR_BOB))
        assert how_it_ends(idle) == "goodbye"


def test_services_with_the_same_command_keep_each_its_own(home: Home) -> None:
    """Two stores by the same words hold what different peers have entrusted to them."""
    node = Node(home, None, 1)

    def block(name: str, extra: str = "") -> str:
        words = json.dumps([sys.executable, BACKEND])
        at = f'[[serve]]\nname = "{name}"\nlisten = "127.0.0.1:{node.ports[name]}"\n'
        return f'{at}command = {words}\nspeaks = "tcp"\n{extra}'

    def programs() -> list[int]:
        found = []
        for name in ("one", "two"):
            with Caller(identity("alice")).open(node.ports[name]) as tls:
                tls.sendall(b"?\n")
                found.append(int(json.loads(hear_line(tls))["pid"]))
        return found

    node.write(block("one"), block("two"))
    with started(home, "up") as node.serving:
        for name in ("one", "two"):
            node.serving.hears("listening", service=name)
        before = programs()
        assert len(set(before)) == 2
        node.write(block("two", 'allow = ["alice"]\n'), block("one"))
        assert node.reload().endswith(": 1 changed, 1 as before")
        assert programs() == before


def test_other_mode_of_a_socket_that_is_there_is_not_passed_over_in_silence(home: Home) -> None:
    path = home.home / "socket"

    def block(node: Node, mode: str) -> str:
        return f'{web(node)}[[serve]]\nname = "u"\nlisten = "unix:{path}"\nmode = "{mode}"\n'

    with being(home, 2, lambda node: block(node, "0660")) as node:
        node.write(block(node, "0600"))
        assert "another mode or owner" in node.reload("problem", code="restart-needed")
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        node.write(web(node))
        node.reload()
        node.serving.until(lambda: not path.exists())
        node.write(block(node, "0600"))
        node.reload()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


APPLICATION = """
open_now = 0

async def app(scope, receive, send):
    global open_now
    if scope["type"] == "lifespan":
        await receive()
        open_now = 1
        await send({"type": "lifespan.startup.complete"})
        await receive()
        open_now = 0
        print(f"{scope['state']} is over", file=__import__("sys").stderr, flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200 if open_now else 500, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
"""


@several
def test_application_with_other_routes_is_not_told_to_end_when_the_old_door_is_left(home: Home, workers: int) -> None:
    """It is one and the same application: a shutdown for the old door would close what the new one needs."""
    (home.home / "seams_app.py").write_text(APPLICATION)

    def block(node: Node, extra: str = "", name: str = "one") -> str:
        at = f'listen = "127.0.0.1:{node.ports[name]}"'
        return f'[[serve]]\nname = "{name}"\n{at}\napp = "seams_app:app"\n{extra}\n'

    with being(home, workers, block) as node:
        before = Caller(identity("bob")).open(node.ports["one"])
        assert ask(before, "/").status == 200
        turn_into(node, block(node, 'routes = [{ path = "/", allow = ["alice"] }]'))
        assert how_it_ends(before) == "goodbye"
        before.close()
        node.write(block(node, name="two"))
        node.reload()
        node.serving.until(lambda: node.is_shut("one"))
        with Caller(identity("alice")).open(node.ports["two"]) as tls:
            assert [ask(tls, "/").status for _ in range(20)] == [200] * 20
        assert "is over" not in node.serving.errors
        node.write("")
        node.reload()
        node.serving.until(lambda: node.serving.errors.count("is over") == workers)

"""An application of ours behind routes, over real TLS: it hears what they allow, and the log of what they do not."""

from __future__ import annotations

import asyncio
import http.client
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peerauth.address import Address
from peerauth.audit import Audit, Event
from peerauth.http.routes import Route, Routes
from peerauth.services.guarded import Receive, Scope, Send, guarded
from peerauth.store.config import Service
from peerauth.trust.peers import Peer
from peerauth.trust.policy import Policy
from tests.support.engine import Caller, Yard, identity, on_loops, running

OPS = Policy("default", frozenset(), frozenset({"ops"}))
ROUTES = Routes([Route("/hello"), Route("/", frozenset({"GET"}), OPS)])
PIN = identity("alice").certificate.fingerprint


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path / "peers")


class Conversation:
    """One connection of a peer, on which it asks several things."""

    def __init__(self, name: str, port: int) -> None:
        self._wire = http.client.HTTPConnection("node", port)
        self._wire.sock = Caller(identity(name)).open(port)

    async def ask(self, method: str, target: str, body: bytes = b"", **fields: str) -> tuple[int, str]:
        def exchange() -> tuple[int, str]:
            self._wire.putrequest(method, target, skip_accept_encoding=True)
            for name, value in fields.items():
                self._wire.putheader(name.replace("_", "-"), value)
            if body:
                self._wire.putheader("Content-Length", str(len(body)))
            self._wire.endheaders(body)
            answer = self._wire.getresponse()
            return answer.status, answer.read().decode()

        return await asyncio.to_thread(exchange)

    def close(self) -> None:
        self._wire.close()


@on_loops("asyncio", "uvloop")
async def test_hello_is_open_as_far_as_routes_say(yard: Yard) -> None:
    yard.pin("alice")
    async with running(yard, hello=True, routes=ROUTES) as node:
        alice = Conversation("alice", node.port)
        assert await alice.ask("GET", "/hello") == (200, "Hello, alice!\n")
        assert await alice.ask("GET", "//x/../%68ello?a=b") == (200, "Hello, alice!\n")
        assert await alice.ask("HEAD", "/hello") == (200, "")
        assert await alice.ask("GET", "/") == (403, "403 Forbidden: the route / (GET) is not for alice\n")
        assert await alice.ask("POST", "/") == (403, "403 Forbidden: the route / is for GET, not for POST\n")
        hidden = b"GET /hello HTTP/1.1\r\nHost: node\r\n\r\n"
        assert (await alice.ask("POST", "/", hidden))[0] == 403
        assert (await alice.ask("GET", "/HELLO"))[0] == 403
        assert (await alice.ask("GET", "/hello/"))[0] == 403
        assert (await alice.ask("GET", "/hello%2f"))[0] == 400
        assert (await alice.ask("GET", "/..%2fhello"))[0] == 400
        assert (await alice.ask("GET", "/..")) == (400, "400 Bad Request: the path climbs above the root\n")
        assert (await alice.ask("GET", "/hello", X_HTTP_Method_Override="DELETE"))[0] == 400
        assert await alice.ask("GET", "/hello") == (200, "Hello, alice!\n")  # the connection lives
        alice.close()
        event = await node.hears("denied", code="route")
        assert event.message.endswith(": GET /: the route / (GET) is not for alice")
        assert (event.peer, event.service, event.fingerprint) == ("alice", "default", str(PIN))
        assert event.address is not None
        assert event.address.startswith("127.0.0.1:")


@on_loops("asyncio")
async def test_a_tag_that_is_given_or_taken_counts_on_an_open_connection(yard: Yard) -> None:
    yard.pin("alice")
    async with running(yard, hello=True, routes=ROUTES) as node:
        alice = Conversation("alice", node.port)
        assert (await alice.ask("GET", "/"))[0] == 403
        yard.place("alice.toml", 'tags = ["ops"]')
        await node.hears("peer-changed", peer="alice")
        assert (await alice.ask("GET", "/"))[0] == 200
        alice.close()


@on_loops("asyncio")
async def test_a_peer_that_asks_for_what_it_may_not_fills_no_log(yard: Yard) -> None:
    yard.pin("alice")
    async with running(yard, hello=True, routes=Routes([])) as node:
        alice = Conversation("alice", node.port)
        for number in range(60):
            assert (await alice.ask("GET", f"/{number}"))[0] == 403
        alice.close()
        assert len(node.told("denied", code="no-route")) < 40


def heard(scope: dict[str, Any], routes: Routes) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[Event]]:
    """What the application was given, what was answered, and what was said."""
    given: list[dict[str, Any]] = []
    sent: list[dict[str, Any]] = []
    said: list[Event] = []

    async def application(inner: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        given.append(dict(inner))

    async def receive() -> None:
        raise AssertionError("nothing is read")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    service = Service("web", Address("", 1), routes=routes)

    async def ask() -> None:
        await guarded(application, service, Audit(said.append, lambda: 0.0))(scope, receive, send)

    asyncio.run(ask())
    return given, sent, said


def scope(kind: str, path: bytes, **more: bytes) -> dict[str, Any]:
    state = {"peer": Peer("alice", (PIN,)), "fingerprint": str(PIN)}
    facts: dict[str, Any] = {"type": kind, "raw_path": path, "headers": [], "query_string": b"", "client": None}
    facts["state"] = state
    facts["peerauth.caller"] = SimpleNamespace(transport=SimpleNamespace(rule=None))
    return facts | ({"method": "GET"} if kind == "http" else {}) | more


def test_the_application_gets_the_path_that_was_judged() -> None:
    ((inner,), sent, said) = heard(scope("http", b"/a/%2e%2e/%C3%BC%20b", query_string=b"c=%2e"), Routes([Route("/")]))
    assert (inner["path"], inner["raw_path"], inner["query_string"]) == ("/ü b", b"/%C3%BC%20b", b"c=%2e")
    assert (sent, said) == ([], [])


def test_a_websocket_that_no_route_allows_is_closed_before_it_opens() -> None:
    given, sent, said = heard(scope("websocket", b"/b"), Routes([Route("/a")]))
    assert (given, sent) == ([], [{"type": "websocket.close"}])
    assert said[0].message == "alice from a Unix socket: GET /b: no route of this service leads to /b"
    given, sent, said = heard(scope("websocket", b"/a"), Routes([Route("/a", frozenset({"GET"}))]))
    assert (len(given), sent, said) == (1, [], [])


def test_what_is_no_request_passes() -> None:
    given, sent, said = heard({"type": "lifespan"}, Routes([]))
    assert (given, sent, said) == ([{"type": "lifespan"}], [], [])


def test_without_routes_an_application_is_itself() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive, send

    assert guarded(application, Service("web", Address("", 1)), Audit(print, lambda: 0.0)) is application

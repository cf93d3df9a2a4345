"""Seeds 000, 002 and 004 make their certificates with a CA: such a leaf is pinned like any other, by exact match.

Its twin, another leaf of the same CA with the same subject, is refused: in both roles, by the engine and by the drop-in
context, with each document's own programs on the other side.
"""

from __future__ import annotations

import http.client
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import peerauth
from tests.seeds.actors import DEADLINE_S, PROGRAMS, Home, Pair, Result, Server, run
from tests.seeds.callers import Caller
from tests.seeds.conftest import Door, Go, Start
from tests.seeds.documents import Leaves

SEEDS = ("000", "002", "004")
pytestmark = [pytest.mark.parametrize("seed", SEEDS), pytest.mark.timeout(200)]


@pytest.fixture
def leaves(request: pytest.FixtureRequest, seed: str) -> Leaves:
    """The certificates of the document."""
    made: Leaves = request.getfixturevalue(f"seed_{seed}")
    return made


@pytest.fixture
def client(request: pytest.FixtureRequest, seed: str, tmp_path: Path) -> Callable[[str, Path, Pair], Result]:
    """The client program of the document: calls a URL, trusts a server's file, presents a pair."""
    if seed == "002":
        curl = request.getfixturevalue("curl")
        return lambda url, ca, me: run(*(curl, "-sS", "--cacert", ca, "--key", me.key, "--cert", me.cert, url), cwd=tmp_path)
    if seed == "000":
        go: Go = request.getfixturevalue("go")
        return lambda url, ca, me: run(go("go_client"), url, ca, me.cert, me.key, cwd=tmp_path)
    script = PROGRAMS / "python_requests.py"
    return lambda url, ca, me: run(sys.executable, script, url, ca, me.cert, me.key, cwd=tmp_path)


@pytest.fixture
def server(request: pytest.FixtureRequest, seed: str, start: Start) -> Callable[[Pair, Path], Server]:
    """The server program of the document: presents a pair, trusts a client's file."""
    if seed == "002":
        node_js = request.getfixturevalue("node_js")
        return lambda me, ca: start(node_js, PROGRAMS / "node_server.js", ca, me.cert, me.key)
    if seed == "000":
        go: Go = request.getfixturevalue("go")
        return lambda me, ca: start(go("go_server"), me.cert, me.key, ca)
    script = PROGRAMS / "python_plain_server.py"
    return lambda me, ca: start(sys.executable, script, me.cert, me.key, ca)


def ask_with_drop_in(home: Home, peer: str, port: int) -> str:
    """GET /hello through the drop-in client context."""
    context = peerauth.Node.load(home.path).client_context(peer)
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=DEADLINE_S)
    try:
        connection.request("GET", "/hello")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("kind", ["serve", "connection"])
def test_pinned_leaf_enters_and_its_twin_does_not(
    door: Door, node: Home, leaves: Leaves, client: Callable[[str, Path, Pair], Result], kind: str
) -> None:
    """As a client: `peer add client.crt` admits that leaf, not the CA's next one."""
    assert "client" in node.add(leaves.client.cert)
    opened = door(kind, node)

    admitted = client(opened.url(), node.pair.cert, leaves.client)
    refused = client(opened.url(), node.pair.cert, leaves.other_client)

    assert admitted.code == 0, admitted.out + admitted.err
    assert ("Hello, client!" if kind == "serve" else "Hello, mutual TLS client!") in admitted.out
    assert refused.code != 0
    assert "Hello" not in refused.out


@pytest.mark.parametrize("kind", ["serve", "connection"])
def test_leaf_that_brings_its_ca_along_is_judged_alike(
    door: Door, node: Home, leaves: Leaves, kind: str, tmp_path: Path
) -> None:
    """Sending the chain, as many programs do, changes neither answer, and hides no alert."""

    def chain(pair: Pair) -> Pair:
        file = tmp_path / f"chain-{pair.cert.name}"
        file.write_bytes(pair.cert.read_bytes() + leaves.ca.read_bytes())
        return Pair(file, pair.key)

    node.pin("client", leaves.client.cert)
    port = door(kind, node).port

    admitted = Caller(chain(leaves.client), node.pair.cert).ask(port)
    refused = Caller(chain(leaves.other_client), node.pair.cert).ask(port)

    assert admitted.body.startswith("Hello"), admitted.refusal
    assert refused.body == ""
    if kind == "serve":
        assert refused.refusal == "TLSV1_ALERT_UNKNOWN_CA"


def test_get_accepts_the_pinned_leaf_and_not_its_twin(
    server: Callable[[Pair, Path], Server], caller: Home, leaves: Leaves
) -> None:
    """As a server, for `get`: the document's server is accepted with the pinned leaf, refused (3) with the CA's next."""
    assert "server" in caller.add(leaves.server.cert)

    accepted = caller.get(server(leaves.server, caller.pair.cert).url(), peer="server")
    refused = caller.get(server(leaves.other_server, caller.pair.cert).url(), peer="server")

    assert accepted.code == 0, accepted.err
    assert accepted.out.startswith("Hello")
    assert (refused.code, refused.out) == (3, "")
    assert leaves.other_server.fingerprint in refused.err


def test_drop_in_client_accepts_the_pinned_leaf_and_not_its_twin(
    server: Callable[[Pair, Path], Server], caller: Home, leaves: Leaves
) -> None:
    """As a server, for the drop-in context: the same, the refusal being an error of the connection."""
    caller.pin("server", leaves.server.cert)

    answer = ask_with_drop_in(caller, "server", server(leaves.server, caller.pair.cert).port)
    with pytest.raises(OSError, match=r"(?i)certificate|peer|pin"):
        ask_with_drop_in(caller, "server", server(leaves.other_server, caller.pair.cert).port)

    assert answer.startswith("Hello")


@pytest.mark.parametrize("kind", ["serve", "connection"])
def test_leaf_is_a_nodes_own_identity(
    door: Door, node: Home, caller: Home, stranger: Home, leaves: Leaves, kind: str
) -> None:
    """Two nodes whose identities a CA issued pin each other and talk; the CA's next leaf is refused on either side."""
    node.become(leaves.server)
    caller.become(leaves.client)
    node.pin("client", leaves.client.cert)
    caller.pin("server", leaves.server.cert)
    opened = door(kind, node)

    def ask(home: Home) -> str:
        if kind == "serve":
            return home.get(opened.url(), peer="server").out
        with suppress(OSError):
            return ask_with_drop_in(home, "server", opened.port)
        return ""

    assert ask(caller).startswith("Hello")

    stranger.become(leaves.other_client)
    stranger.pin("server", leaves.server.cert)
    assert ask(stranger) == "", "the node admitted a twin of its peer"

    caller.pin("server", leaves.other_server.cert)
    assert ask(caller) == "", "the caller accepted a twin of its peer"

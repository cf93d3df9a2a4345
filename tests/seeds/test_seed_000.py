"""Seed 000: mutual TLS with a Go server and a Go client, both ways, with certificates that peerauth made.

The document's own certificates come from a CA: see `test_ca_issued_leaves.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.seeds.actors import Home, run
from tests.seeds.conftest import Go, Serve, Start

pytestmark = pytest.mark.timeout(200)  # the first `go build` on a machine compiles Go's library


def test_go_server_and_go_client_admit_each_other_by_our_certificates(
    go: Go, start: Start, node: Home, caller: Home, stranger: Home, tmp_path: Path
) -> None:
    """Two Go programs that hold each other's `NAME.crt` talk; a third one, made alike and pinned by nobody, does not."""
    server = start(go("go_server"), node.pair.cert, node.pair.key, caller.pair.cert)

    def ask(who: Home) -> list[str | Path]:
        return [go("go_client"), server.url(), node.pair.cert, who.pair.cert, who.pair.key]

    admitted = run(*ask(caller), cwd=tmp_path)
    refused = run(*ask(stranger), cwd=tmp_path)

    assert (admitted.code, admitted.out) == (0, "Hello, caller\n"), admitted.err
    assert (refused.code, refused.out) == (1, "")
    assert "remote error: tls:" in refused.err


def test_go_client_is_admitted_by_serve_and_told_its_name(
    go: Go, serve: Serve, node: Home, caller: Home, stranger: Home, tmp_path: Path
) -> None:
    """`serve` greets the pinned Go client by its peer's name, and a stranger's Go client names the alert."""
    node.add(caller.pair.cert)
    server = serve(node)

    def ask(who: Home) -> list[str | Path]:
        return [go("go_client"), server.url(), node.pair.cert, who.pair.cert, who.pair.key]

    admitted = run(*ask(caller), cwd=tmp_path)
    refused = run(*ask(stranger), cwd=tmp_path)

    assert admitted.code == 0, admitted.err
    assert "Hello, caller!" in admitted.out
    assert (refused.code, refused.out) == (1, "")
    assert "remote error: tls: unknown certificate authority" in refused.err


def test_get_is_admitted_by_a_go_server_that_has_our_certificate_in_its_pool(
    go: Go, start: Start, node: Home, caller: Home, stranger: Home
) -> None:
    """`get` sends our identity to a ClientCAs pool: the node in the pool is greeted, one that is not is refused (3)."""
    server = start(go("go_server"), node.pair.cert, node.pair.key, caller.pair.cert)
    for home in (caller, stranger):
        home.pin("node", node.pair.cert)

    admitted = caller.get(server.url(), peer="node")
    refused = stranger.get(server.url(), peer="node")

    assert (admitted.code, admitted.out) == (0, "Hello, caller\n"), admitted.err
    assert (refused.code, refused.out) == (3, "")
    assert stranger.pair.fingerprint in refused.err


def test_get_refuses_a_go_server_that_presents_another_certificate(
    go: Go, start: Start, node: Home, caller: Home, stranger: Home
) -> None:
    """Meaning to reach `node`, `get` accepts the pin of `node` alone, and says what was presented instead."""
    caller.add(node.pair.cert)
    caller.pin("stranger", stranger.pair.cert)
    right = start(go("go_server"), node.pair.cert, node.pair.key, caller.pair.cert)
    wrong = start(go("go_server"), stranger.pair.cert, stranger.pair.key, caller.pair.cert)

    admitted = caller.get(right.url(), peer="node")
    refused = caller.get(wrong.url(), peer="node")

    assert (admitted.code, admitted.out) == (0, "Hello, caller\n"), admitted.err
    assert (refused.code, refused.out) == (3, "")
    assert stranger.pair.fingerprint in refused.err

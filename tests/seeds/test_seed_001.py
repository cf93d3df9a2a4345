"""Seed 001: self-signed certificates by `openssl req -x509`, a Go server with a pool of them, curl."""

from __future__ import annotations

import shlex
import time

import pytest

from tests.seeds.actors import DEADLINE_S, Home, Result, Server, run
from tests.seeds.conftest import Go, Seed001, Serve, Start

pytestmark = pytest.mark.timeout(200)  # the first `go build` on a machine compiles Go's library


def document_curl(line: str, server: Server, seed_001: Seed001) -> Result:
    """Run a curl line of the document where its certificates are, with the port that the server got."""
    words = shlex.split(line.replace("localhost:9443", f"localhost:{server.port}"))
    return run(*words, cwd=seed_001("client").cert.parent)


GOOD = "curl -ik -X GET --cert clientCrt.pem --key clientKey.pem https://localhost:9443/hello"
BAD = "curl -ik -X GET --cert badCrt.pem --key badKey.pem https://localhost:9443/hello"


def test_peer_add_prints_the_name_that_the_file_gives(node: Home, seed_001: Seed001) -> None:
    """`peer add clientCrt.pem` pins it as `clientcrt`, and warns that it could act as a CA."""
    result = node.peerauth("peer", "add", seed_001("client").cert)

    assert result.code == 0, result.err
    assert "clientcrt" in result.out
    assert "CA:TRUE" in result.out + result.err


@pytest.mark.usefixtures("curl")
def test_good_curl_is_answered_and_bad_curl_is_refused(serve: Serve, node: Home, seed_001: Seed001) -> None:
    """The document's good command gets its hello; the bad one, equal but for the pair of files, gets a named alert."""
    node.add(seed_001("client").cert)
    server = serve(node)

    good = document_curl(GOOD, server, seed_001)
    bad = document_curl(BAD, server, seed_001)

    assert good.code == 0, good.err
    assert good.out.startswith("HTTP/1.1 200 ")
    assert "Hello, clientcrt!" in good.out
    assert (bad.code, bad.out) == (56, "")
    assert "alert unknown ca" in bad.err


@pytest.mark.usefixtures("curl")
def test_bad_curl_becomes_good_when_its_certificate_is_added_to_the_running_server(
    serve: Serve, node: Home, seed_001: Seed001
) -> None:
    """The step "for each additional client" is done while `serve` runs, and the first client stays."""
    node.add(seed_001("client").cert)
    server = serve(node)
    assert document_curl(BAD, server, seed_001).code == 56

    node.add(seed_001("bad").cert)

    give_up = time.monotonic() + DEADLINE_S
    while (bad := document_curl(BAD, server, seed_001)).code and time.monotonic() < give_up:
        pass
    assert "Hello, badcrt!" in bad.out
    assert "Hello, clientcrt!" in document_curl(GOOD, server, seed_001).out


@pytest.mark.usefixtures("curl")
def test_serve_takes_the_documents_server_pair_as_its_identity(serve: Serve, node: Home, seed_001: Seed001) -> None:
    """A node need not have been made by keygen: `serverKey.pem` and `serverCrt.pem` serve, and curl can check them."""
    node.become(seed_001("server"))
    node.pin("clientcrt", seed_001("client").cert)
    server = serve(node)

    good = document_curl(GOOD, server, seed_001)
    pinned = document_curl(GOOD.replace("-ik", "-i --cacert serverCrt.pem"), server, seed_001)

    assert "Hello, clientcrt!" in good.out, good.err
    assert "Hello, clientcrt!" in pinned.out, pinned.err


@pytest.mark.parametrize("ours", ["keygen", "openssl"])
def test_go_server_of_the_document_admits_get(
    go: Go, start: Start, caller: Home, stranger: Home, seed_001: Seed001, ours: str
) -> None:
    """The ClientCAs server admits `get` with our certificate, keygen's or the document's, and refuses a stranger (3)."""
    if ours == "openssl":
        caller.become(seed_001("client"))
        stranger.become(seed_001("bad"))
    pair = seed_001("server")
    server = start(go("go_server"), pair.cert, pair.key, caller.pair.cert)
    caller.add(pair.cert)
    stranger.pin("servercrt", pair.cert)

    admitted = caller.get(server.url(), peer="servercrt")
    refused = stranger.get(server.url(), peer="servercrt")

    name = "client" if ours == "openssl" else "caller"
    assert (admitted.code, admitted.out) == (0, f"Hello, {name}\n"), admitted.err
    assert (refused.code, refused.out) == (3, "")
    assert stranger.pair.fingerprint in refused.err

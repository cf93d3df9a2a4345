"""Seed 003: key stores made by keytool, curl with a PKCS12 file, and Java on either side."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.seeds.actors import Home, Result, Server, run
from tests.seeds.conftest import Serve, Start
from tests.seeds.documents import PASSWORD, truststore

PATH = "/api/v1/user/1"
pytestmark = pytest.mark.timeout(120)  # three RSA-4096 keys by keytool


def ask(store: str, server: Server, path: str, seed_003: Path) -> Result:
    """Run the document's command where its key stores are."""
    words = f"curl -k -v --cert-type P12 --cert {store}.p12:{PASSWORD}".split()
    return run(*words, server.url(path), cwd=seed_003)


@pytest.fixture
def application() -> Iterator[str]:
    """What the document's Spring application is here: plain HTTP behind the relay. Its address."""

    class Users(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"you asked for {self.path}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Users) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("curl")
def test_pkcs12_client_is_admitted_by_the_exported_certificate(serve: Serve, node: Home, seed_003: Path) -> None:
    """`peer add client.cer` (DER), then curl with `client.p12`: greeted; `bad.p12`, made alike: the alert is named."""
    assert "client" in node.add(seed_003 / "client.cer")
    server = serve(node)

    admitted = ask("client", server, "/hello", seed_003)
    refused = ask("bad", server, "/hello", seed_003)

    assert admitted.code == 0, admitted.err
    assert "Hello, client!" in admitted.out
    assert (refused.code, refused.out) == (56, "")
    assert re.search("alert.*unknown (ca|CA)", refused.err), refused.err


@pytest.mark.usefixtures("curl")
def test_the_documents_url_is_answered_by_the_application_behind_the_relay(
    serve: Serve, node: Home, application: str, seed_003: Path
) -> None:
    """`serve --target` in front of the application: the document's URL reaches it from the pinned client alone."""
    node.pin("client", seed_003 / "client.cer")
    server = serve(node, "--target", application)

    admitted = ask("client", server, PATH, seed_003)
    refused = ask("bad", server, PATH, seed_003)

    assert admitted.code == 0, admitted.err
    assert admitted.out == f"you asked for {PATH}"
    assert (refused.code, refused.out) == (56, "")


def test_java_client_is_admitted_by_serve(
    java: tuple[str, ...], serve: Serve, node: Home, seed_003: Path, tmp_path: Path
) -> None:
    """Java's HttpClient with keytool's key store, and our certificate in its trust store, is greeted; `bad.p12` is not."""
    node.pin("client", seed_003 / "client.cer")
    server = serve(node)
    trust = truststore(tmp_path, "client-truststore", node.pair.cert)

    def visit(store: str) -> Result:
        return run(*java, "MutualClient", server.url(), seed_003 / f"{store}.p12", trust, PASSWORD, cwd=tmp_path)

    admitted, refused = visit("client"), visit("bad")

    assert admitted.code == 0, admitted.err
    assert "Hello, client!" in admitted.out
    assert (refused.code, refused.out) == (1, "")
    assert "unknown_ca" in refused.err


@pytest.mark.usefixtures("curl")
def test_our_own_identity_as_pkcs12_is_read_by_curl_and_java(
    java: tuple[str, ...], serve: Serve, node: Home, caller: Home, tmp_path: Path
) -> None:
    """`id --p12` writes what keytool would have: the document's curl line and Java's HttpClient come in with it."""
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    exported = caller.peerauth("id", "--p12", tmp_path / "client.p12", "--p12-password-file", tmp_path / "password")
    assert exported.code == 0, exported.err
    node.pin("caller", caller.pair.cert)
    server = serve(node)
    trust = truststore(tmp_path, "client-truststore", node.pair.cert)

    by_curl = ask("client", server, "/hello", tmp_path)
    by_java = run(*java, "MutualClient", server.url(), tmp_path / "client.p12", trust, PASSWORD, cwd=tmp_path)

    assert "Hello, caller!" in by_curl.out, by_curl.err
    assert "Hello, caller!" in by_java.out, by_java.err


def test_java_server_with_our_certificate_in_its_truststore_admits_get(
    java: tuple[str, ...], start: Start, caller: Home, stranger: Home, seed_003: Path, tmp_path: Path
) -> None:
    """An HttpsServer that needs client authentication answers `get`, and refuses the node that it does not trust.

    Its certificate, keytool's, names no host: it is accepted because it is the pinned one.
    """
    trust = truststore(tmp_path, "server-truststore", caller.pair.cert)
    server = start(*java, "MutualServer", seed_003 / "server.p12", trust, PASSWORD)
    caller.add(seed_003 / "server.cer")
    stranger.pin("server", seed_003 / "server.cer")

    admitted = caller.get(server.url(PATH), peer="server")
    refused = stranger.get(server.url(PATH), peer="server")

    assert admitted.code == 0, admitted.err
    assert "CN=caller" in admitted.out
    # HttpsServer closes without an alert: whether it was a refusal can only be guessed.
    assert refused.code in {1, 3, 4}
    assert refused.out == ""
    assert stranger.pair.fingerprint in refused.err

"""Seed 004: Python on both sides, requests and its neighbours, and http.server in our drop-in context.

The document's certificates come from a CA; the pinned one of them is trusted, not the CA.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path

import aiohttp
import httpx
import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter

import peerauth
from tests.seeds.actors import PROGRAMS, Home, Pair, Result, Server, run
from tests.seeds.conftest import Door, Serve, Start
from tests.seeds.documents import Leaves

SENTENCE = "Hello, mutual TLS client!"


@pytest.mark.parametrize("kind", ["serve", "listener", "connection"])
def test_python_clients_are_answered_when_pinned(
    door: Door, node: Home, seed_004: Leaves, kind: str, subtests: pytest.Subtests
) -> None:
    """Each library gets `Success:` with the pinned certificate, `Failed:` with its twin from the same CA."""
    node.pin("client", seed_004.client.cert)
    server = door(kind, node)

    for library in ("requests", "httpx", "aiohttp", "urllib3"):
        with subtests.test(library=library):
            admitted = visit(library, server, node, seed_004.client)
            refused = visit(library, server, node, seed_004.other_client)

            greeting = "Hello, client!" if kind == "serve" else SENTENCE
            assert admitted.code == 0, admitted.out + admitted.err
            assert admitted.out.startswith(f"Success: {greeting}")
            assert refused.code == 1, refused.out
            assert refused.out.startswith("Failed: ")
            assert "Hello" not in refused.out
            if kind == "serve":
                assert "unknown_ca" in refused.out.lower().replace(" ", "_")


@pytest.mark.parametrize("kind", ["listener", "connection"])
def test_a_refused_client_does_not_end_the_drop_in_server(door: Door, node: Home, seed_004: Leaves, kind: str) -> None:
    """A refusal is an error that http.server knows how to survive: the next pinned client is answered."""
    node.add(seed_004.client.cert)
    server = door(kind, node)

    assert visit("urllib3", server, node, seed_004.other_client).out.startswith("Failed")
    assert visit("urllib3", server, node, seed_004.client).out.startswith(f"Success: {SENTENCE}")


def visit(library: str, server: Server, node: Home, pair: Pair) -> Result:
    """Run the client that is written with this library."""
    script = PROGRAMS / f"python_{library}.py"
    return run(sys.executable, script, server.url(), node.pair.cert, pair.cert, pair.key, cwd=node.path)


def anonymous(library: str, url: str, ca: Path) -> tuple[int, str]:
    """Status and reason of what a client without a certificate gets."""
    context = ssl.create_default_context(cafile=ca)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if library == "requests":
        answer = requests.get(url, verify=str(ca), timeout=10)
        return answer.status_code, answer.reason
    if library == "httpx":
        heard = httpx.get(url, verify=context, trust_env=False, timeout=10)
        return heard.status_code, heard.reason_phrase
    if library == "urllib3":
        with urllib3.PoolManager(ssl_context=context, retries=False, timeout=10) as pool:
            found = pool.request("GET", url)
            return found.status, found.reason or ""

    async def ask() -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as response:
            return response.status, response.reason or ""

    return asyncio.run(ask())


def test_who_has_no_valid_certificate_sees_what_the_document_says(
    serve: Serve, node: Home, seed_004: Leaves, subtests: pytest.Subtests
) -> None:
    """`Success: ...` for the pinned client; `Failed: 401 - Unauthorized` without a certificate, a reason with another."""
    node.pin("client", seed_004.client.cert)
    server = serve(node, "--on-unknown", "explain")

    for library in ("requests", "httpx", "aiohttp", "urllib3"):
        with subtests.test(library=library):
            status, reason = anonymous(library, server.url(), node.pair.cert)
            admitted = visit(library, server, node, seed_004.client)
            unknown = visit(library, server, node, seed_004.other_client)

            assert f"Failed: {status} - {reason}" == "Failed: 401 - Unauthorized"
            assert admitted.out == "Success: Hello, client!\n\n"
            assert unknown.code == 1
            assert unknown.out.startswith("Failed: Forbidden: the certificate is not pinned (unknown)\n")
            assert f"you present: {seed_004.other_client.fingerprint}\n" in unknown.out


def test_our_own_client_says_that_it_was_refused_where_strangers_are_told(
    serve: Serve, node: Home, caller: Home, stranger: Home
) -> None:
    """`get` and `check` have the exit code of a refusal (3), and print no page; the twin is pinned."""
    node.pin("caller", caller.pair.cert)
    server = serve(node, "--on-unknown", "explain")
    for home in (caller, stranger):
        home.pin("node", node.pair.cert)

    for command in (("get", server.url()), ("check", server.url().removeprefix("https://").partition("/")[0])):
        admitted = caller.peerauth(*command, "--peer", "node")
        refused = stranger.peerauth(*command, "--peer", "node")

        assert admitted.code == 0, admitted.err
        assert refused.code == 3
        assert "Forbidden:" not in refused.out
        assert "(unknown)" in refused.err
        assert stranger.pair.fingerprint in refused.err


def by_requests(url: str, context: ssl.SSLContext) -> str:
    """GET by requests: its pool is given the context."""
    with requests.Session() as session:
        session.trust_env = False
        adapter = HTTPAdapter()
        adapter.init_poolmanager(1, 1, ssl_context=context)
        session.mount("https://", adapter)
        return session.get(url, timeout=10).text


def by_httpx(url: str, context: ssl.SSLContext) -> str:
    """GET by httpx."""
    return httpx.get(url, verify=context, trust_env=False, timeout=10).text


def by_urllib3(url: str, context: ssl.SSLContext) -> str:
    """GET by urllib3."""
    with urllib3.PoolManager(ssl_context=context, retries=False, timeout=10) as pool:
        return pool.request("GET", url).data.decode()


def by_aiohttp(url: str, context: ssl.SSLContext) -> str:
    """GET by aiohttp, which runs the context on memory BIOs."""

    async def ask() -> str:
        async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as response:
            return await response.text()

    return asyncio.run(ask())


def documents_server(start: Start, seed_004: Leaves, trusted: Home) -> Server:
    """Run http.server in the standard library's context, which trusts one node."""
    script = PROGRAMS / "python_plain_server.py"
    return start(sys.executable, script, seed_004.server.cert, seed_004.server.key, trusted.pair.cert)


ASKERS = (by_requests, by_httpx, by_urllib3, by_aiohttp)
REFUSALS = (requests.ConnectionError, httpx.TransportError, urllib3.exceptions.HTTPError, aiohttp.ClientError, OSError)


@pytest.mark.parametrize("kind", ["serve", "connection"])
def test_drop_in_client_context_reaches_the_named_peer_alone(
    door: Door, node: Home, caller: Home, stranger: Home, kind: str, subtests: pytest.Subtests
) -> None:
    """`client_context("node")` reaches node, and refuses a server that has another pinned peer's certificate."""
    for home in (node, stranger):
        home.pin("caller", caller.pair.cert)
        caller.pin(home.name, home.pair.cert)
    context = peerauth.Node.load(caller.path).client_context("node")
    right, wrong = door(kind, node), door(kind, stranger)

    for ask in ASKERS:
        with subtests.test(library=ask.__name__):
            assert ask(right.url(), context).startswith("Hello, caller!" if kind == "serve" else SENTENCE)
            with pytest.raises(REFUSALS):
                ask(wrong.url(), context)


def test_drop_in_client_context_is_admitted_by_the_documents_server(
    start: Start, caller: Home, stranger: Home, seed_004: Leaves, subtests: pytest.Subtests
) -> None:
    """The document's own server, given our certificate to trust, says its sentence to us and to nobody else."""
    server = documents_server(start, seed_004, caller)
    for home in (caller, stranger):
        home.pin("server", seed_004.server.cert)
    pinned, unknown = (peerauth.Node.load(home.path).client_context("server") for home in (caller, stranger))

    for ask in ASKERS:
        with subtests.test(library=ask.__name__):
            assert ask(server.url(), pinned) == SENTENCE
            with pytest.raises(REFUSALS):
                ask(server.url(), unknown)


def test_get_is_admitted_by_the_documents_server(start: Start, caller: Home, stranger: Home, seed_004: Leaves) -> None:
    """`get` reaches the plain server of the document; the node that it does not trust is refused (3)."""
    server = documents_server(start, seed_004, caller)
    for home in (caller, stranger):
        home.pin("server", seed_004.server.cert)

    admitted = caller.get(server.url(), peer="server")
    refused = stranger.get(server.url(), peer="server")

    assert (admitted.code, admitted.out.strip()) == (0, SENTENCE), admitted.err
    assert (refused.code, refused.out) == (3, "")
    assert stranger.pair.fingerprint in refused.err


@pytest.mark.parametrize("kind", ["listener", "connection"])
def test_get_is_admitted_by_a_server_in_the_drop_in_context(
    door: Door, node: Home, caller: Home, stranger: Home, kind: str
) -> None:
    """`get` reaches http.server in our context; a node that it has not pinned is refused and gets no body."""
    node.pin("caller", caller.pair.cert)
    server = door(kind, node)
    for home in (caller, stranger):
        home.pin("node", node.pair.cert)

    admitted = caller.get(server.url(), peer="node")
    refused = stranger.get(server.url(), peer="node")

    assert (admitted.code, admitted.out.strip()) == (0, SENTENCE), admitted.err
    assert refused.code in {1, 3}
    assert refused.out == ""

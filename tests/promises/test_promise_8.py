"""Promise 8: any TLS stack can be the other side: curl, openssl and Python here; Go, Node and Java in tests/seeds."""

from __future__ import annotations

import asyncio
import subprocess

import pytest

from peerauth.trust.identity import Identity, KeyType, new_key, self_signed
from tests.support import needs
from tests.support.dropin import NOW
from tests.support.engine import Yard, files_of, identity, on_loops, running


async def run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return await asyncio.to_thread(subprocess.run, words, input=stdin, capture_output=True, timeout=20, check=False)


def curl(own: Identity, node: Identity, port: int) -> tuple[str, ...]:
    certificate, key = files_of(own)
    trusted, _ = files_of(node)
    url = f"https://localhost:{port}/hello"
    return (needs("curl"), "-sS", "--cacert", trusted, "--cert", certificate, "--key", key, url)


@pytest.mark.parametrize("kind", [KeyType.P256, KeyType.ED25519, KeyType.RSA3072])
@on_loops("uvloop")
async def test_curl_checks_the_name_and_is_told_its_own(yard: Yard, kind: KeyType) -> None:
    node_identity = self_signed(new_key(kind), "node", NOW)
    alice = yard.pin("alice", self_signed(new_key(kind), "alice", NOW))
    async with running(yard, own=node_identity, hello=True) as node:
        admitted = await run(*curl(alice, node_identity, node.port))
        refused = await run(*curl(identity("stranger"), node_identity, node.port))
        distrusting = await run(*curl(alice, identity("other"), node.port))
    assert (admitted.returncode, admitted.stdout) == (0, b"Hello, alice!\n"), admitted.stderr
    assert refused.returncode == 56
    assert b"unknown ca" in refused.stderr
    assert distrusting.returncode == 60


@pytest.mark.parametrize("version", ["-tls1_3", "-tls1_2"])
@on_loops("uvloop")
async def test_openssl_s_client_verifies_us_strictly(yard: Yard, version: str) -> None:
    alice = yard.pin("alice")
    certificate, key = files_of(alice)
    trusted, _ = files_of(identity("node"))
    async with running(yard, min_tls="1.2") as node:
        words = [needs("openssl"), "s_client", "-connect", f"127.0.0.1:{node.port}", version, "-cert", certificate]
        words += ["-key", key, "-CAfile", trusted, "-verify_return_error", "-x509_strict", "-verify_hostname", "localhost"]
        client = await asyncio.create_subprocess_exec(
            *words, "-quiet", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert client.stdin is not None
        assert client.stdout is not None
        assert await client.stdout.readline() == b"hello alice\n"
        client.stdin.write(b"and back\n")
        assert await client.stdout.readline() == b"and back\n"
        client.kill()
        await client.communicate()

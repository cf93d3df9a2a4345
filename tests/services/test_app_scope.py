"""An application is told who calls by us, and by nothing that the caller says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from peerauth.trust.certificate import Certificate
from tests.support.applications import Scope, answer, applying, heard, request, status
from tests.support.engine import Caller, Yard, identity, on_loops


async def mirror(scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    """Says what it is told, and starts with a state of its own."""
    if scope["type"] == "lifespan":
        scope["state"].update(colour="blue", peer="nobody", fingerprint="none")
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    state = scope["state"]
    told = {
        "peer": state["peer"].name,
        "tags": state["peer"].tags,
        "fingerprint": state["fingerprint"],
        "state": sorted(state),
        "colour": state["colour"],
        "tls": scope["extensions"]["tls"],
        "client": scope["client"],
        "scheme": scope["scheme"],
        "names": [name.decode() for name, _ in scope["headers"]],
    }
    await answer(send, json.dumps(told).encode())


def told(data: bytes) -> dict[str, Any]:
    assert status(data) == 200, data
    return json.loads(data.partition(b"\r\n\r\n")[2])  # type: ignore[no-any-return]


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    made = Yard(tmp_path / "peers")
    made.pin("alice")
    return made


@on_loops()
async def test_the_scope_names_the_peer_and_its_certificate_and_no_header_does(yard: Yard) -> None:
    lies = ("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: http", "Forwarded: for=6.6.6.6", "Remote-User: root")
    async with applying(yard, mirror) as node:

        def call() -> tuple[dict[str, Any], tuple[str, int]]:
            with Caller(identity("alice")).open(node.port) as tls:
                tls.sendall(request("/", *lies))
                return told(heard(tls)), tls.getsockname()

        seen, here = await asyncio.to_thread(call)
    own = identity("alice").certificate
    assert (seen["peer"], seen["fingerprint"]) == ("alice", str(own.fingerprint))
    assert (seen["client"], seen["scheme"]) == (list(here), "https")
    assert seen["colour"] == "blue"
    assert seen["state"] == ["colour", "fingerprint", "peer"]
    assert "x-forwarded-for" in seen["names"]  # it is a header, and nothing more
    assert seen["tls"] == {
        "server_cert": identity("node").certificate.pem,
        "client_cert_chain": [own.pem],
        "client_cert_name": own.distinguished_name,
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": 0x1302,
    }


@on_loops("uvloop")
async def test_the_scope_has_the_numbers_of_an_older_version_and_every_suite_that_is_spoken(yard: Yard) -> None:
    suites = {
        "ECDHE-ECDSA-AES128-GCM-SHA256": 0xC02B,
        "ECDHE-ECDSA-AES256-GCM-SHA384": 0xC02C,
        "ECDHE-ECDSA-CHACHA20-POLY1305": 0xCCA9,
    }
    async with applying(yard, mirror, min_tls="1.2") as node:

        def call(suite: str) -> dict[str, Any]:
            with Caller(identity("alice"), tls12=True, ciphers=suite).open(node.port) as tls:
                tls.sendall(request())
                return told(heard(tls))["tls"]  # type: ignore[no-any-return]

        for suite, number in suites.items():
            seen = await asyncio.to_thread(call, suite)
            assert (seen["tls_version"], seen["cipher_suite"]) == (0x0303, number)


@on_loops("uvloop")
async def test_what_is_noted_about_a_peer_counts_from_its_next_request_on(yard: Yard) -> None:
    async with applying(yard, mirror) as node:

        def ask(tls: Any) -> list[str]:  # noqa: ANN401 - a socket
            tls.sendall(request())
            return told(heard(tls))["tags"]  # type: ignore[no-any-return]

        tls = await asyncio.to_thread(Caller(identity("alice")).open, node.port)
        with tls:
            assert await asyncio.to_thread(ask, tls) == []
            yard.place("alice.toml", 'tags = ["admin"]')
            await node.hears("peer-changed", peer="alice")
            assert await asyncio.to_thread(ask, tls) == ["admin"]


def test_a_distinguished_name_is_written_as_rfc_4514_has_it() -> None:
    certificate = identity("alice").certificate
    assert certificate.distinguished_name is not None
    serial, name = certificate.distinguished_name.split(",")
    assert serial.startswith("serialNumber=")
    assert name == "CN=alice"
    assert Certificate(certificate.der).distinguished_name == certificate.distinguished_name

"""docs/protocol.md is enough: a joiner without anything of ours, written from that page on pyOpenSSL."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import select
import socket
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from OpenSSL import SSL, crypto

from tests.support.dropin import DEADLINE_S
from tests.support.engine import files_of, identity, on_loops
from tests.support.inviting import invite, inviting, pinned
from tests.support.workers import Home


def octets(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def derived(secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF for one block: RFC 5869 sections 2.2 and 2.3."""
    return hmac.digest(hmac.digest(bytes(32), secret, "sha256"), info + b"\x01", "sha256")[:length]


def exactly(tls: SSL.Connection, count: int) -> bytes:
    heard = b""
    while len(heard) < count:
        try:
            heard += tls.recv(count - len(heard))
        except SSL.WantReadError:
            assert select.select([tls], [], [], DEADLINE_S)[0]
    return heard


def join_by_hand(token: str, certificate: Path, key: Path, name: str) -> dict[str, Any]:
    data = octets(token.removeprefix("peerauth1-"))
    body, checksum = data[:-4], data[-4:]
    assert hashlib.sha256(b"peerauth invitation 1\0" + body).digest()[:4] == checksum
    secret, pin, addresses = body[:16], body[16:48], body[53:].decode().split(" ")
    id_ = derived(secret, b"peerauth invitation 1 id", 8)
    signing = Ed25519PrivateKey.from_private_bytes(derived(secret, b"peerauth invitation 1 key", 32))

    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.use_certificate_file(str(certificate))
    context.use_privatekey_file(str(key))
    context.set_alpn_protos([b"peerauth/1"])
    host, _, port = addresses[0].rpartition(":")
    with socket.create_connection((host, int(port)), DEADLINE_S) as sock:
        sock.settimeout(None)
        tls = SSL.Connection(context, sock)
        tls.set_connect_state()
        tls.do_handshake()
        assert tls.get_alpn_proto_negotiated() == b"peerauth/1"
        server = tls.get_peer_certificate()
        assert server is not None
        assert hashlib.sha256(crypto.dump_certificate(crypto.FILETYPE_ASN1, server)).digest() == pin
        channel = tls.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        own = crypto.load_certificate(crypto.FILETYPE_PEM, certificate.read_bytes())
        ours = hashlib.sha256(crypto.dump_certificate(crypto.FILETYPE_ASN1, own)).digest()
        proof = signing.sign(b"peerauth join 1\0" + channel + ours + pin + id_)
        said = json.dumps({"type": "join", "id": text_of(id_), "proof": text_of(proof), "name": name}).encode()
        tls.sendall(len(said).to_bytes(4, "big") + said)
        answer: dict[str, Any] = json.loads(exactly(tls, int.from_bytes(exactly(tls, 4), "big")))
        tls.shutdown()
        return answer


@on_loops("asyncio")
async def test_a_joiner_written_from_the_page_joins_and_then_not_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with inviting(home) as node:
        token = invite(home.home, node.port)

        async def by_hand(who: str) -> dict[str, Any]:
            certificate, key = map(Path, files_of(identity(who)))
            return await asyncio.to_thread(join_by_hand, token.text, certificate, key, who)

        assert await by_hand("alice") == {"type": "joined", "name": "alice", "node": "node", "already": False}
        assert await by_hand("alice") == {"type": "joined", "name": "alice", "node": "node", "already": True}
        answer = await by_hand("mallory")
        assert (answer["type"], answer["code"]) == ("no", "invitation")
    assert set(pinned(home)) == {"alice"}

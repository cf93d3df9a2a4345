"""`check` reads the servers that people have: each knows two nodes, one of them expired, and does not know a stranger."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12

from tests.cli.running import peerauth
from tests.real.conftest import Launch
from tests.real.test_nginx import SERVER, Nginx, nginx
from tests.seeds.actors import DEADLINE_S, PROGRAMS, Home, Pair
from tests.seeds.callers import DAY, NOW, Mint
from tests.seeds.conftest import Go, Start, go, java, node_js, start
from tests.seeds.documents import PASSWORD
from tests.support import needs
from tests.support.targets import unused_port

__all__ = ["go", "java", "nginx", "node_js", "start"]

HAPROXY = """\
defaults
    mode tcp
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend tls
    bind 127.0.0.1:{port} ssl crt {both} ca-file {clients} verify required
    default_backend program
backend program
    server program 127.0.0.1:{target}
frontend http
    mode http
    bind 127.0.0.1:{http} ssl crt {both} ca-file {clients} verify required alpn h2,http/1.1
    http-request return status 204
"""
STUNNEL = """\
foreground = yes
pid =
debug = 7
[program]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{target}
cert = {own.cert}
key = {own.key}
CAfile = {clients}
verifyChain = yes
requireCert = yes
[gone]
accept = 127.0.0.1:{leads_nowhere}
connect = 127.0.0.1:{nowhere}
cert = {own.cert}
key = {own.key}
CAfile = {clients}
verifyChain = yes
requireCert = yes
"""
Facts = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """The server's pair, the clients whom it knows, as one file, and where its files may lie."""

    own: Pair
    known: tuple[Pair, ...]
    place: Path

    @property
    def clients(self) -> Path:
        """All certificates in one file."""
        path = self.place / "clients.pem"
        path.write_text("".join(pair.cert.read_text() for pair in self.known))
        return path

    def write(self, name: str, text: str) -> Path:
        """A file of the server."""
        path = self.place / name
        path.write_text(text)
        return path


@pytest.fixture
def late(caller: Home, tmp_path: Path) -> Home:
    """A node whose certificate has expired; the servers know it all the same."""
    home = caller.copy(tmp_path / "late")
    home.become(Mint(subject="late", since=NOW - 2 * DAY, until=NOW - DAY).make(tmp_path, "late-pair"))
    return home


@pytest.fixture
def scene(node: Home, caller: Home, late: Home, tmp_path: Path) -> Scene:
    """The node's own certificate, presented by a program that is none of ours."""
    return Scene(node.pair, (caller.pair, late.pair), tmp_path)


@pytest.fixture
def look(caller: Home, stranger: Home, late: Home) -> Callable[[int], tuple[Facts, Facts, Facts]]:
    """What the three nodes find out about a server that presents the node's certificate."""

    def three(port: int) -> tuple[Facts, Facts, Facts]:
        results = [
            peerauth("check", f"127.0.0.1:{port}", "--home", home.path, "--json") for home in (caller, stranger, late)
        ]
        found = [result.json for result in results]
        assert [facts["ok"] for facts in found] == [result.code == 0 for result in results]
        assert found[0]["here"] == {"admitted": True, "pinned_as": "node", "error": None}
        assert any("our own certificate" in text for text in found[2]["warnings"])
        for facts in found:
            assert facts["tls"]["asks_for_certificate"]
            assert facts["tls"]["version"] == "TLSv1.3"
        return found[0], found[1], found[2]

    return three


Look = Callable[[int], tuple[Facts, Facts, Facts]]


def is_admitted(facts: Facts) -> bool:
    """Whether it is, and that for certain."""
    return bool(facts["there"]["admitted"] and facts["there"]["certain"] and facts["ok"])


def is_refused(
    facts: Facts, code: str, *, certain: bool = True, alert: int | None = None, status: int | None = None
) -> None:
    """Hold a refusal to what is expected: of which kind, how certain, and what to do about it."""
    there = facts["there"]
    assert (there["admitted"], there["certain"], there["code"]) == (False, certain, code), there
    assert (facts["tls"]["alert"], facts["tls"]["http_status"]) == (alert, status)
    assert facts["ourselves"]["fingerprint"] in there["error"]["message"]
    assert ".crt" in there["error"]["hint"] or "clocks" in there["error"]["hint"]


def accepts(port: int) -> int:
    """The port, once something listens there; for programs that do not say when they do."""
    give_up = time.monotonic() + DEADLINE_S
    while True:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), DEADLINE_S):
            return port
        assert time.monotonic() < give_up
        time.sleep(0.01)


def s_server(scene: Scene, launch: Launch, *options: str) -> int:
    words = (needs("openssl"), "s_server", "-accept", "127.0.0.1:0", "-www", "-cert", scene.own.cert, "-key", scene.own.key)
    verify = ("-Verify", "1", "-CAfile", scene.clients, "-verify_return_error")
    return int(launch(*words, *verify, *options, cwd=scene.place).line(r"^ACCEPT .*:(\d+)$")[1])


def test_openssl(scene: Scene, launch: Launch, look: Look) -> None:
    admitted, refused, expired = look(s_server(scene, launch))
    assert is_admitted(admitted)
    is_refused(refused, "alert", alert=48)
    is_refused(expired, "alert", alert=45)
    assert "keygen --force" in expired["there"]["error"]["hint"]


def test_openssl_that_takes_no_key_like_ours(caller: Home, scene: Scene, launch: Launch) -> None:
    port = s_server(scene, launch, "-client_sigalgs", "RSA-PSS+SHA256")
    facts = peerauth("check", f"127.0.0.1:{port}", "--home", caller.path, "--json").json
    is_refused_for_its_kind = "no key like ours (EC P-256)" in facts["there"]["error"]["message"]
    assert (is_refused_for_its_kind, facts["tls"]["alert"]) == (True, 116)
    assert "keygen --force" in facts["there"]["error"]["hint"]


def test_nginx(scene: Scene, nginx: Nginx, look: Look) -> None:
    admitted, refused, expired = look(nginx(SERVER.format(own=scene.own, client=scene.clients), ssl=True))
    assert is_admitted(admitted)
    assert admitted["tls"]["http_status"] == 200
    for facts in (refused, expired):
        is_refused(facts, "http", status=400)
        assert "The SSL certificate error" in facts["there"]["how"]


def test_haproxy(scene: Scene, launch: Launch, look: Look) -> None:
    ports = {"port": unused_port(), "http": unused_port(), "target": unused_port()}
    both = scene.write("both.pem", scene.own.cert.read_text() + scene.own.key.read_text())
    config = scene.write("haproxy.cfg", HAPROXY.format(both=both, clients=scene.clients, **ports))
    launch(needs("haproxy"), "-db", "-f", config, cwd=scene.place)
    for port in (ports["port"], ports["http"]):
        admitted, refused, expired = look(accepts(port))
        assert is_admitted(admitted)
        assert admitted["tls"]["http_status"] == (204 if port == ports["http"] else None)
        is_refused(refused, "alert", alert=48)
        is_refused(expired, "alert", alert=45)


def test_stunnel(scene: Scene, launch: Launch, look: Look) -> None:
    with socket.create_server(("127.0.0.1", 0)) as program:
        ports = {"port": unused_port(), "leads_nowhere": unused_port(), "nowhere": unused_port()}
        target = program.getsockname()[1]
        config = STUNNEL.format(target=target, own=scene.own, clients=scene.clients, **ports)
        launch(needs("stunnel4"), scene.write("stunnel.conf", config), cwd=scene.place)
        admitted, refused, expired = look(accepts(ports["port"]))
        let_in, kept_out, _ = look(accepts(ports["leads_nowhere"]))
    assert is_admitted(admitted)
    is_refused(refused, "alert", alert=48)
    is_refused(expired, "alert", alert=45)
    assert (let_in["there"]["admitted"], let_in["error"]["code"]) == (True, "closed-unanswered")
    is_refused(kept_out, "alert", alert=48)


def test_go(scene: Scene, go: Go, start: Start, look: Look) -> None:
    certificates = [pair.cert for pair in scene.known]
    admitted, refused, expired = look(start(go("go_server"), scene.own.cert, scene.own.key, *certificates).port)
    assert is_admitted(admitted)
    assert refused["tls"]["alert"] in {42, 48}  # it depends on its age
    assert expired["tls"]["alert"] in {42, 45, 48}
    for facts in (refused, expired):
        is_refused(facts, "alert", alert=facts["tls"]["alert"])


def test_node(scene: Scene, node_js: str, start: Start, look: Look) -> None:
    program = PROGRAMS / "node_server.js"
    admitted, refused, expired = look(start(node_js, program, scene.clients, scene.own.cert, scene.own.key).port)
    assert is_admitted(admitted)
    for facts in (refused, expired):
        is_refused(facts, "closed", certain=False)


def test_java(scene: Scene, java: tuple[str, ...], start: Start, look: Look) -> None:
    own = x509.load_pem_x509_certificate(scene.own.cert.read_bytes())
    key = load_pem_private_key(scene.own.key.read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    secret = BestAvailableEncryption(PASSWORD.encode())
    keys, trust = scene.place / "keys.p12", scene.place / "trust.p12"
    keys.write_bytes(pkcs12.serialize_key_and_certificates(b"node", key, own, None, secret))
    clients = [x509.load_pem_x509_certificate(pair.cert.read_bytes()) for pair in scene.known]
    named = [pkcs12.PKCS12Certificate(one, str(number).encode()) for number, one in enumerate(clients)]
    trust.write_bytes(pkcs12.serialize_java_truststore(named, secret))
    admitted, refused, expired = look(start(*java, "MutualServer", keys, trust, PASSWORD).port)
    assert is_admitted(admitted)
    if refused["tls"]["alert"] is None:  # its HttpsServer may close before its alert has left
        is_refused(refused, "closed", certain=False)
    else:
        is_refused(refused, "alert", alert=46)
    assert expired["there"]["admitted"]  # it takes what is in its store, whatever the date


def test_python(scene: Scene, start: Start, look: Look) -> None:
    program = PROGRAMS / "python_plain_server.py"
    admitted, refused, expired = look(start(sys.executable, program, scene.own.cert, scene.own.key, scene.clients).port)
    assert is_admitted(admitted)
    is_refused(refused, "alert", alert=48)
    is_refused(expired, "alert", alert=45)

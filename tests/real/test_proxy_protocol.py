"""nginx and HAProxy as backends that hear by the PROXY protocol who is calling, with nothing but their own directives."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import TypeAlias

import pytest

from peerauth.address import Address
from peerauth.store.config import Service
from peerauth.store.kinds import Relay
from peerauth.trust.policy import EVERY_PEER
from tests.real.conftest import Launch
from tests.real.test_nginx import CONFIG
from tests.support import needs
from tests.support.engine import Caller, Yard, on_loops, running
from tests.support.targets import unused_port

NGINX = """\
        set_real_ip_from 127.0.0.1;
        real_ip_header proxy_protocol;
        location / {{
            return 200 "$remote_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port\\n";
        }}
"""
HAPROXY = """\
defaults
    mode http
    timeout client 10s
    timeout connect 10s
    timeout server 10s
frontend here
    bind 127.0.0.1:{port} accept-proxy
    http-request return status 200 content-type text/plain lf-file {answer}
"""
Where: TypeAlias = tuple[str, int] | str
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(params=["nginx", "haproxy"])
def backend(request: pytest.FixtureRequest, launch: Launch, tmp_path: Path) -> tuple[str, Address]:
    """A web server that listens for the PROXY protocol, and answers what it has heard."""
    program, port, place = request.param, unused_port(), tmp_path / "web"
    place.mkdir()
    if program == "nginx":
        text = CONFIG.format(
            place=place, port=port, directives=NGINX.replace("{{", "{").replace("}}", "}"), ssl=" proxy_protocol"
        )
        (place / "nginx.conf").write_text(text)
        launch(needs("nginx"), "-p", place, "-c", place / "nginx.conf", "-e", "stderr", cwd=place).line("nginx/")
    else:
        (place / "answer").write_text("%[src] %[src_port] %[dst] %[dst_port] %[fc_pp_authority]\n")
        (place / "haproxy.cfg").write_text(HAPROXY.format(port=port, answer=place / "answer"))
        launch(needs("haproxy"), "-db", "-f", place / "haproxy.cfg", cwd=place)
    return program, Address("127.0.0.1", port)


def get(caller: Caller, family: socket.AddressFamily, source: Where | None, where: Where) -> tuple[str, object]:
    """The body of what is answered, and our own address."""
    with socket.socket(family) as plain:
        plain.settimeout(10)
        if source:
            plain.bind(source)
        plain.connect(where)
        with caller.context.wrap_socket(plain, server_hostname="db.example", suppress_ragged_eofs=False) as tls:
            tls.sendall(REQUEST)
            heard = b""
            while data := tls.recv(65536):
                heard += data
            return heard.partition(b"\r\n\r\n")[2].decode().strip(), tls.getsockname()


@on_loops("uvloop")
async def test_backend_sees_the_peers_address_and_not_ours(tmp_path: Path, backend: tuple[str, Address]) -> None:
    program, where = backend
    yard = Yard(tmp_path / "peers")
    caller = Caller(yard.pin("alice"))
    path = str(tmp_path / "own.sock")
    kind = Relay((where,), proxy_protocol=True)
    async with running(yard) as node:
        heard = {}
        paths = (
            [Address(path=path)] if program == "nginx" else []
        )  # HAProxy (2.6) resets what is said to come from no IP address
        for address in (Address("127.0.0.1"), Address("::1"), *paths):
            (bound,) = await node.server.add_service(Service("web", address, kind, EVERY_PEER))
            there: Where = path if address.path else (address.host, bound.port)
            family = socket.AF_UNIX if address.path else socket.AF_INET6 if address.host == "::1" else socket.AF_INET
            source = ("127.0.0.9", 0) if address.host == "127.0.0.1" else None
            for _ in range(200):  # HAProxy says nothing when it listens
                try:
                    heard[str(address)] = (*await asyncio.to_thread(get, caller, family, source, there), there)
                    break
                except (ssl.SSLError, ConnectionError):
                    await asyncio.sleep(0.05)
    name = " db.example" if program == "haproxy" else ""
    for key in ("127.0.0.1:0", "[::1]:0"):
        body, own, there = heard[key]
        assert isinstance(own, tuple)
        assert isinstance(there, tuple)
        assert body == f"{own[0]} {own[1]} {there[0]} {there[1]}{name}"
    assert heard["127.0.0.1:0"][0].startswith("127.0.0.9 ")
    assert program != "nginx" or heard[f"unix:{path}"][0].startswith("127.0.0.1"), (
        "a path is no address to it, and it answers"
    )

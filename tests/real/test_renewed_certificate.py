"""Programs that renew their certificate over the key that they keep, as `certbot --reuse-key` does: `pin = "key"`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.real.conftest import Launch
from tests.seeds.actors import DEADLINE_S, Home, Pair, Program, must, run
from tests.seeds.conftest import Serve
from tests.support import needs
from tests.support.nginx import TEMPORARY
from tests.support.targets import unused_port

CONFIG = (
    """\
daemon off;
{user}
worker_processes 1;
error_log stderr notice;
pid {place}/nginx.pid;
events {{}}
http {{
    access_log off;
"""
    + TEMPORARY
    + """\
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_protocols TLSv1.3;
        ssl_certificate {own.cert};
        ssl_certificate_key {own.key};
        location / {{ return 200 "Hello!\\n"; }}
    }}
}}
"""
)


class Software:
    """What has a key, and makes a certificate over it now and then."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.pair = Pair(place / "web.crt", place / "web.key")
        place.mkdir()
        self.new_key()

    def new_key(self) -> None:
        """A certificate over another key."""
        words = ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", self.pair.key)
        must(needs("openssl"), *words, cwd=self.place)
        self.renew()

    def renew(self) -> None:
        """A new certificate over the same key."""
        words = ("-subj", "/CN=web", "-addext", "subjectAltName=DNS:localhost", "-out", self.pair.cert, "-days", "90")
        must(needs("openssl"), "req", "-x509", "-new", "-key", self.pair.key, *words, cwd=self.place)


@pytest.fixture
def software(tmp_path: Path) -> Software:
    return Software(tmp_path / "software")


@pytest.mark.parametrize("pin", ["key", "cert"])
def test_curl_with_a_renewed_certificate_is_the_same_peer_where_its_key_is_pinned(
    node: Home, serve: Serve, software: Software, pin: str
) -> None:
    node.add(software.pair.cert, "--pin", pin)
    server = serve(node)

    def ask() -> tuple[int, str]:
        own = ("--cert", software.pair.cert, "--key", software.pair.key, "--cacert", node.pair.cert, "--capath", "/dev/null")
        answer = run(needs("curl"), "-sS", "--max-time", str(int(DEADLINE_S)), *own, server.url(), cwd=software.place)
        return answer.code, answer.out

    assert ask() == (0, "Hello, web!\n")
    software.renew()
    assert ask() == ((0, "Hello, web!\n") if pin == "key" else (56, ""))
    software.new_key()
    assert ask() == (56, "")
    server.program.line('"event": "refused".*"code": "unknown"')


class Nginx:
    """nginx with a master process, which takes over a new certificate when it is told to."""

    def __init__(self, launch: Launch, software: Software) -> None:
        self.port = unused_port()
        self._place = software.place
        user = "user root;" if os.getuid() == 0 else ""
        config = CONFIG.format(place=self._place, port=self.port, own=software.pair, user=user)
        (self._place / "nginx.conf").write_text(config)
        self._words = (needs("nginx"), "-p", self._place, "-c", self._place / "nginx.conf", "-e", "stderr")
        self._program: Program = launch(*self._words, cwd=self._place)
        self._program.line("start worker process ")

    def reload(self) -> None:
        """Once: return when the worker with the old certificate takes nobody in any more."""
        must(*self._words, "-s", "reload", cwd=self._place)
        self._program.line("gracefully shutting down")


@pytest.mark.parametrize("pin", ["key", "cert"])
def test_nginx_that_takes_over_a_renewed_certificate_is_the_same_peer_where_its_key_is_pinned(
    caller: Home, launch: Launch, software: Software, pin: str
) -> None:
    caller.add(software.pair.cert, "--pin", pin)
    nginx = Nginx(launch, software)
    url = f"https://localhost:{nginx.port}/"
    assert caller.get(url, peer="web").out == "Hello!\n"

    software.renew()
    nginx.reload()
    renewed = caller.get(url, peer="web")
    scanned = caller.peerauth("peer", "scan", f"localhost:{nginx.port}").out
    if pin == "cert":
        assert renewed.code == 3
        assert f"it presents {software.pair.fingerprint}, and web is pinned as" in renewed.err
        assert "pinned:          no" in scanned
        return
    assert renewed.out == "Hello!\n"
    assert "pinned:          as web, by its key" in scanned
    assert software.pair.fingerprint in scanned

    added = caller.add(software.pair.cert)  # nobody has to; what is shown is then the newer one
    assert added == f"web {software.pair.fingerprint}\n"
    assert caller.get(url, peer="web").out == "Hello!\n"


def test_a_program_with_another_key_is_not_the_peer_and_the_refusal_names_both_keys(
    caller: Home, launch: Launch, software: Software
) -> None:
    caller.add(software.pair.cert, "--pin", "key")
    software.new_key()
    refused = caller.get(f"https://localhost:{Nginx(launch, software).port}/", peer="web")
    assert refused.code == 3
    assert "and its key is" in refused.err
    assert "while web is pinned by the key" in refused.err

"""nginx on either side, with nothing but its own directives."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.conftest import Launch
from tests.seeds.actors import DEADLINE_S, Home, Pair
from tests.seeds.conftest import Serve
from tests.support import needs
from tests.support.nginx import TEMPORARY
from tests.support.targets import unused_port

CONFIG = (
    """\
daemon off;
master_process off;
error_log stderr notice;
pid {place}/nginx.pid;
events {{}}
http {{
    access_log off;
"""
    + TEMPORARY
    + """\
    server {{
        listen 127.0.0.1:{port}{ssl};
        {directives}
    }}
}}
"""
)
PROXY = """
        location / {{
            proxy_pass https://127.0.0.1:{port};
            proxy_http_version 1.1;
            proxy_ssl_protocols TLSv1.3;
            proxy_ssl_certificate {own.cert};
            proxy_ssl_certificate_key {own.key};
            proxy_ssl_trusted_certificate {server};
            proxy_ssl_verify on;
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;
        }}
"""
SERVER = """
        ssl_protocols TLSv1.3;
        ssl_certificate {own.cert};
        ssl_certificate_key {own.key};
        ssl_client_certificate {client};
        ssl_verify_client on;
        location / {{
            return 200 "Hello, $ssl_client_s_dn!\\n";
        }}
"""

Nginx = Callable[..., int]


@pytest.fixture
def nginx(launch: Launch, tmp_path: Path) -> Nginx:
    """Run nginx with these directives in its one server; the port that it listens on."""

    def run(directives: str, *, ssl: bool = False) -> int:
        place, port = tmp_path / "nginx", unused_port()
        place.mkdir()
        text = CONFIG.format(place=place, port=port, directives=directives, ssl=" ssl" if ssl else "")
        (place / "nginx.conf").write_text(text)
        launch(needs("nginx"), "-p", place, "-c", place / "nginx.conf", "-e", "stderr", cwd=place).line("nginx/")
        return port

    return run


def fetch(port: int) -> tuple[int, str]:
    """(status, body) of /hello, asked for in the clear."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/hello", timeout=DEADLINE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_nginx_as_a_client_is_known_by_name(node: Home, caller: Home, serve: Serve, nginx: Nginx) -> None:
    directives = PROXY.format(port=serve(node).port, own=caller.pair, server=node.pair.cert)
    assert fetch(nginx(directives)) == (200, "Hello, caller!\n")


def test_nginx_as_a_client_that_is_not_pinned_is_refused(node: Home, stranger: Home, serve: Serve, nginx: Nginx) -> None:
    server = serve(node)
    directives = PROXY.format(port=server.port, own=stranger.pair, server=node.pair.cert)
    assert fetch(nginx(directives))[0] == 502
    server.program.line('"event": "refused".*"code": "unknown"')


def test_nginx_as_a_client_that_means_another_server_asks_this_one_for_nothing(
    node: Home, caller: Home, stranger: Home, serve: Serve, nginx: Nginx
) -> None:
    """It looks at the server's certificate when the handshake is over, and leaves."""
    directives = PROXY.format(port=serve(node).port, own=caller.pair, server=stranger.pair.cert)
    assert fetch(nginx(directives))[0] == 502


def served(nginx: Nginx, own: Pair, client: Path) -> str:
    return f"https://127.0.0.1:{nginx(SERVER.format(own=own, client=client), ssl=True)}/hello"


def test_nginx_as_a_server_admits_get(node: Home, caller: Home, nginx: Nginx) -> None:
    result = caller.get(served(nginx, node.pair, caller.pair.cert), peer="node")
    assert result.code == 0, result.err
    assert re.fullmatch(r"Hello, .*CN=caller!\n", result.out)


def test_nginx_as_a_server_does_not_admit_another(node: Home, caller: Home, stranger: Home, nginx: Nginx) -> None:
    stranger.pin("node", node.pair.cert)
    url = served(nginx, node.pair, caller.pair.cert)
    result = stranger.peerauth("get", url, "--peer", "node", "--fail")
    assert result.code == 1
    assert "node answered 400" in result.err  # nginx lets everybody in, and says no in HTTP

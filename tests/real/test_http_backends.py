"""`serve --http` before HTTP servers that people have, asked by curl."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import pytest

from tests.real.conftest import Launch
from tests.seeds.actors import PROGRAMS, Home, must
from tests.seeds.conftest import Serve
from tests.support import needs
from tests.support.nginx import TEMPORARY
from tests.support.targets import unused_port

BACKENDS = {
    "http.server": (sys.executable, "echo_http_server.py"),
    "uvicorn": (sys.executable, "echo_uvicorn.py"),
    "Node": ("node", "echo_node.js"),
}
NGINX = (
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
    client_max_body_size 1m;
    server {{
        listen unix:{place}/nginx.sock;
        root {place};
        location /who {{ return 200 "$request_method $request_uri $http_x_peer_name\\n"; }}
        location /small {{ proxy_pass http://127.0.0.1:{port}; }}
    }}
}}
"""
)


class Curl:
    """curl as the node `caller`."""

    def __init__(self, caller: Home, server: Home, port: int, place: Path) -> None:
        self._words: list[str | Path] = [
            *(needs("curl"), "-sS", "--http1.1", "--max-time", "20"),
            *("--cert", caller.pair.cert, "--key", caller.pair.key, "--cacert", server.pair.cert),
        ]
        self._url = f"https://localhost:{port}"
        self._place = place

    def __call__(self, *words: str | Path, paths: tuple[str, ...] = ("/a",), stdin: str = "") -> str:
        """What it prints."""
        urls = [f"{self._url}{path}" for path in paths]
        return must(*self._words, *words, *urls, cwd=self._place, stdin=stdin)


@pytest.mark.parametrize("backend", BACKENDS)
def test_curl_asks_a_server_through_the_proxy(
    backend: str, launch: Launch, serve: Serve, node: Home, caller: Home, tmp_path: Path
) -> None:
    program, script = BACKENDS[backend]
    port = launch(needs(program), PROGRAMS / script, cwd=tmp_path).port()
    server = serve(node, "--http", f"http://127.0.0.1:{port}", "--workers", "2")
    curl = Curl(caller, node, server.port, tmp_path)
    nothing = hashlib.sha256().hexdigest()
    much = bytes(range(256)) * 20_000
    (tmp_path / "much").write_bytes(much)

    asked = curl("-v", "-w", "%{num_connects}\n", "-H", "X-Peer-Name: mallory", paths=("/a", "/b?c", "/d"))
    expected = [f"GET {path} caller {nothing}" for path in ("/a", "/b?c", "/d")]
    if backend == "uvicorn":
        expected[1] = expected[1].replace("?c", "")
    assert re.sub(r"\n[01]\n", "\n", asked).splitlines() == expected
    assert re.findall(r"^[01]$", asked, re.MULTILINE) == ["1", "0", "0"], "the connection was not kept"

    sent = hashlib.sha256(much).hexdigest()
    assert curl("-T", "much") == f"PUT /a caller {sent}\n"  # with Expect: 100-continue, for it is large
    assert curl("-T", "much", "-H", "Transfer-Encoding: chunked") == f"PUT /a caller {sent}\n"
    assert curl("-d", "a=b", paths=("/x", "/y")).count(hashlib.sha256(b"a=b").hexdigest()) == 2
    assert curl("-I").startswith("HTTP/1.1 200 ")
    assert curl("--http1.0") == f"GET /a caller {nothing}\n"


def test_curl_asks_nginx_through_the_proxy(launch: Launch, serve: Serve, node: Home, caller: Home, tmp_path: Path) -> None:
    place = tmp_path / "nginx"
    place.mkdir()
    (place / "nginx.conf").write_text(NGINX.format(place=place, port=unused_port()))
    (place / "file").write_bytes(bytes(3_000_000))
    launch(needs("nginx"), "-p", place, "-c", place / "nginx.conf", "-e", "stderr", cwd=place).line("start worker|nginx/")
    server = serve(node, "--http", f"unix:{place}/nginx.sock")
    curl = Curl(caller, node, server.port, tmp_path)
    (tmp_path / "large").write_bytes(bytes(3_000_000))

    assert curl(paths=("/who?a", "/who")) == "GET /who?a caller\nGET /who caller\n"
    assert curl("-o", "got", "-w", "%{http_code} %{size_download}", paths=("/file",)) == "200 3000000"
    assert curl("-o", "got", "-w", "%{http_code} %{size_download}", "-r", "10-19", paths=("/file",)) == "206 10"
    modified = curl("-I", paths=("/file",))
    etag = re.findall(r"ETag: (\S+)", modified)[0]
    assert curl("-w", "%{http_code}", "-H", f"If-None-Match: {etag}", paths=("/file",)) == "304"
    assert curl("-o", "got", "-w", "%{http_code}", "-T", "large", paths=("/small",)) == "413"  # before it was sent
    assert curl("-o", "got", "-w", "%{http_code}", paths=("/small",)) == "502"  # nginx's own, with its own words
    assert "nginx" in (tmp_path / "got").read_text()

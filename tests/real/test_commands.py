"""`serve -- COMMAND` with commands that people really have, typed as they would type them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import needs
from tests.support.engine import Caller, hear_line, identity
from tests.support.nginx import TEMPORARY
from tests.support.workers import Home, serving

APP = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        await send({"type": "http.response.body", "body": b"hello\\n"})
"""
NGINX = (
    """
daemon off;
error_log stderr notice;
pid {place}/nginx.pid;
events {{}}
http {{
    access_log off;
"""
    + TEMPORARY
    + """\
    server {{
        listen unix:BACKEND;
        location / {{ return 200 "hello\\n"; }}
    }}
}}
"""
)


@pytest.mark.parametrize("program", ["uvicorn", "nginx", "socat"])
def test_real_programs_serve_behind_it(tmp_path_factory: pytest.TempPathFactory, program: str) -> None:
    home = Home(tmp_path_factory.mktemp("c"))
    home.pin("alice")
    place = home.home.parent
    words = {"uvicorn": uvicorn, "nginx": nginx, "socat": socat}[program](place)
    speaks = "tcp" if program == "socat" else "http"
    with serving(home, "--speaks", speaks, "--", *words, workers=2, relay=False) as node:
        tls = Caller(identity("alice")).open(node.port)
        tls.sendall(b"hello\n" if program == "socat" else b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        line = hear_line(tls)
        while line and line != "hello":
            line = hear_line(tls)
        tls.close()
        assert line == "hello"


def uvicorn(place: Path) -> list[str]:
    """An option of its own takes the path."""
    (place / "app.py").write_text(APP)
    return [sys.executable, "-m", "uvicorn", "--uds", "{backend}", "--app-dir", str(place), "app:app"]


def nginx(place: Path) -> list[str]:
    """Its configuration needs the path: a shell's work."""
    (place / "nginx.conf").write_text(NGINX.format(place=place))
    made, own = place / "nginx.conf", place / "own.conf"
    return ["sh", "-c", f"sed s,BACKEND,$PEERAUTH_BACKEND, {made} > {own} && exec {needs('nginx')} -c {own} -e stderr"]


def socat(place: Path) -> list[str]:
    """It takes the path as a part of a word."""
    del place
    return [needs("socat"), "UNIX-LISTEN:{backend},fork", "EXEC:cat"]

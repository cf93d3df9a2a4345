"""The real nginx, with these servers in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from peerauth.address import Address
from tests.seeds.actors import Program
from tests.support.nginx import TEMPORARY
from tests.support.programs import needs
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
    absolute_redirect off;
    keepalive_requests 100000;
    client_max_body_size 0;
"""
    + TEMPORARY
    + """\
{servers}
}}
"""
)


@contextlib.contextmanager
def nginx(place: Path, servers: str, listen: str) -> Iterator[Address]:
    """It listens where these blocks say `listen`, on a port of its own, while the block runs; `place` may hold files."""
    place.mkdir(exist_ok=True)
    address = Address("127.0.0.1", unused_port())
    assert listen in servers
    text = CONFIG.format(place=place, servers=servers.replace(listen, f"listen {address};"))
    (place / "nginx.conf").write_text(text)
    words = ("-p", place, "-c", place / "nginx.conf", "-e", "stderr")
    program = Program("/bin/sh", "-c", 'exec "$0" "$@" 2>&1', needs("nginx"), *words, cwd=place)
    try:
        program.line("nginx/")
        yield address
    finally:
        program.stop()

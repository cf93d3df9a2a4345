"""Files from several processes: the same in each, and gone in each when a peer is."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from tests.files.conftest import old
from tests.support.engine import Caller, how_it_ends
from tests.support.web import ask
from tests.support.workers import TRIES, Home, Serving, serving

MUCH = 48 << 20


def one_in_each(node: Serving, caller: Caller) -> dict[int, ssl.SSLSocket]:
    """A connection in each of two workers."""
    found: dict[int, ssl.SSLSocket] = {}
    for _ in range(TRIES):
        tls = caller.open(node.port)
        worker = node.worker_of(tls)
        if worker in found:
            tls.close()
        else:
            found[worker] = tls
        if len(found) == 2:
            return found
    raise AssertionError("one worker never got a connection")


def test_every_worker_says_the_same_and_ends_the_downloads_of_a_removed_peer(tmp_path: Path) -> None:
    home = Home(tmp_path)
    alice = Caller(home.pin("alice"))
    root = tmp_path / "root"
    old(root / "small", b"small\n")
    with (root / "big").open("wb") as file:
        os.truncate(file.fileno(), MUCH)
    with serving(home, "--root", str(root), workers=2, relay=False) as node:
        connections = one_in_each(node, alice)
        answers = [ask(tls, "/small") for tls in connections.values()]
        assert [got.body for got in answers] == [b"small\n"] * 2
        assert len({got["etag"].removeprefix("W/") for got in answers}) == 1
        for tls in connections.values():
            tls.sendall(b"GET /big HTTP/1.1\r\nhost: node\r\n\r\n")
            assert tls.recv(1000).startswith(b"HTTP/1.1 200")
        home.unpin("alice")
        node.hears("ended", times=2, peer="alice")
        assert {how_it_ends(tls) for tls in connections.values()} == {"cut"}
        for tls in connections.values():
            tls.close()

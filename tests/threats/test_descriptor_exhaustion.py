"""Threat: so many connections that the process has no descriptors left; it must live on, and so must its peers."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.cli.running import environment
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, Yard, hear_line, identity

SERVE = """
import asyncio, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
from pathlib import Path
from tests.support.engine import Yard, running
from tests.support import engine
import json

class There(Yard):
    def __init__(self, path):
        self.path = path

async def main():
    async with running(There(Path(sys.argv[1]))) as node:
        print(json.dumps({"event": "listening", "port": node.port}), flush=True)
        note = node.note
        node.server._audit._sink = lambda event: print(json.dumps(event.as_data()), flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


def test_server_without_descriptors_keeps_its_peers_and_recovers(yard: Yard) -> None:
    alice = Caller(yard.pin("alice"))
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, yard.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = json.loads(process.stdout.readline())["port"]
        with contextlib.ExitStack() as held:
            kept = held.enter_context(alice.open(port))
            assert hear_line(kept) == "hello alice"
            flood = [idle(port) for _ in range(200)]
            for sock in flood:
                held.enter_context(sock)
            yard.pin("bob")
            started = time.monotonic()
            assert alice.hear(port) == "hello alice"
            assert time.monotonic() - started < 5
            kept.sendall(b"still here\n")
            assert hear_line(kept) == "still here"
        bob = Caller(identity("bob"))
        give_up = time.monotonic() + DEADLINE_S
        while (heard := bob.hear(port)) != "hello bob":
            assert time.monotonic() < give_up, heard
        yard.unpin("bob")
        while bob.hear(port) == "hello bob":
            assert time.monotonic() < give_up
    finally:
        process.stdin.close()
        events: list[dict[str, Any]] = [json.loads(line) for line in process.stdout]
        process.stdout.close()
        assert process.wait(DEADLINE_S) == 0
    assert not [event for event in events if event["event"] == "ended" and event.get("peer") == "alice"]


def idle(port: int) -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.2", 0))
    sock.connect(("127.0.0.1", port))
    return sock

"""Threat: a peer that asks for new keys again and again (TLS 1.3 KeyUpdate) and does not read the answers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import time

import pytest

from tests.support import needs
from tests.support.engine import Caller, Yard, files_of, on_loops, running
from tests.support.targets import echo, target

TIMES = 2000


def greet(sock: socket.socket) -> None:
    """What a relay leads to."""
    sock.sendall(b"hello you\n")
    echo(sock)


@pytest.mark.parametrize(("relayed", "name"), [(False, "alice"), (True, "you")], ids=["protocol", "relay"])
@on_loops("uvloop")
async def test_key_updates_cost_little_and_the_connection_goes_on(yard: Yard, name: str, *, relayed: bool) -> None:
    openssl = needs("openssl")
    alice, bob = yard.pin("alice"), yard.pin("bob")
    certificate, key = files_of(alice)
    async with contextlib.AsyncExitStack() as held:
        where = held.enter_context(target(greet)) if relayed else None
        node = await held.enter_async_context(running(yard, target=where))
        words = [openssl, "s_client", "-connect", f"127.0.0.1:{node.port}", "-cert", certificate, "-key", key, "-brief"]
        client = subprocess.Popen(  # noqa: ASYNC220 - starting is quick
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert client.stdin is not None
        assert client.stdout is not None
        try:
            assert await asyncio.to_thread(client.stdout.readline) == f"hello {name}\n".encode()
            for _ in range(TIMES):  # one write each: a command is what one read of s_client begins with
                client.stdin.write(b"K\n")
                client.stdin.flush()
                await asyncio.sleep(0)
            client.send_signal(signal.SIGSTOP)  # whoever is stopped reads nothing
            assert await asyncio.to_thread(Caller(bob).hear, node.port) in {"hello bob", "hello you"}
            before = time.process_time()
            await asyncio.sleep(0.5)
            assert time.process_time() - before < 0.3
            assert node.server.live.count("alice") == 1
        finally:
            client.send_signal(signal.SIGCONT)
            client.kill()
            client.wait(10)
            for pipe in (client.stdin, client.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()
        await node.until(lambda: node.server.live.count("alice") == 0)

"""Who asks in the clear where TLS is spoken, as somebody new does with `http://`, is told what to type."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from peerauth.tls.session import Session
from tests.support.engine import Caller, Yard, identity, on_loops, running
from tests.support.programs import needs
from tests.support.workers import ping


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """A peers directory with alice in it."""
    made = Yard(tmp_path / "peers")
    made.pin("alice")
    return made


def said(port: int, data: bytes) -> bytes:
    """What is said to this in the clear, up to an orderly end."""
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        sock.sendall(data)
        heard = b""
        while piece := sock.recv(65536):
            heard += piece
        return heard


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@on_loops("uvloop")
async def test_a_request_in_the_clear_is_answered_in_the_clear(yard: Yard, method: str) -> None:
    """Also where more of it is on the way: a reset would take the answer along."""
    question = f"{method} / HTTP/1.1\r\nHost: node\r\nContent-Length: 300000\r\n\r\n".encode() + bytes(300_000)
    async with running(yard, hello=True) as node:
        heard = await asyncio.to_thread(said, node.port, question)
        assert heard.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"\r\nConnection: close\r\n" in heard
        assert heard.endswith(b"begin with https://\n")
        event = await node.hears("refused", code="not-tls")
        assert "HTTP in the clear" in event.message
        assert "https://" in (event.hint or "")
        assert node.arrivals == 0


@on_loops("uvloop")
async def test_what_is_neither_tls_nor_http_is_told_nothing(yard: Yard) -> None:
    async with running(yard, hello=True) as node:
        with pytest.raises(ConnectionResetError):  # what it has said was not read to its end
            await asyncio.to_thread(said, node.port, b"SSH-2.0-OpenSSH_9.6\r\n")
        event = await node.hears("refused", code="not-tls")
        assert event.hint == "is it the right port?"


@on_loops("uvloop")
async def test_curl_shows_what_to_type(yard: Yard) -> None:
    async with running(yard, hello=True) as node:
        words = (needs("curl"), "--silent", "--max-time", "20", f"http://127.0.0.1:{node.port}/")
        done = await asyncio.to_thread(subprocess.run, words, capture_output=True, timeout=30, check=True)
        assert b"https://" in done.stdout


@pytest.mark.parametrize("who", ["in the clear", "a stranger"])
@on_loops("uvloop")
async def test_nothing_is_kept_of_who_is_sent_away(yard: Yard, who: str) -> None:
    """Not until Python looks for cycles either, which is seldom: OpenSSL's 40 KB of each are nothing to it."""
    stranger = Caller(identity("mallory"))

    def knock(port: int) -> None:
        if who == "in the clear":
            with pytest.raises(ConnectionResetError):
                said(port, b"SSH-2.0-OpenSSH_9.6\r\n")
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)), stranger.open(port) as tls:
                ping(tls)

    gc.collect()
    gc.disable()
    try:
        async with running(yard, hello=True) as node:
            for _ in range(5):
                await asyncio.to_thread(knock, node.port)
            await node.until(lambda: not any(isinstance(one, Session) for one in gc.get_objects()))
    finally:
        gc.enable()

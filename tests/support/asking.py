"""Requests over TLS, byte for byte as a test wants them, and all that comes back."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from typing import Any

from tests.support.engine import Caller

ASK = b"GET /hello HTTP/1.1\r\nHost: node\r\n\r\n"
ASK_AND_LEAVE = b"GET /hello HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Heard:
    """All that came back until the end. `alert`: in place of an answer, or behind it; `cut`: an end without a goodbye."""

    data: bytes = b""
    alert: str = ""
    session: ssl.SSLSession | None = None
    resumed: bool = False

    @property
    def status(self) -> int:
        """Of the first answer; 0 where there is none."""
        return int(self.data[9:12]) if self.data.startswith(b"HTTP/1.1 ") else 0

    @property
    def answers(self) -> int:
        """How many there are."""
        return self.data.count(b"HTTP/1.1 ")

    @property
    def headers(self) -> dict[str, str]:
        """Of the first answer, by name in lower case."""
        lines = self.data.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def body(self) -> str:
        """What is behind the first head."""
        return self.data.partition(b"\r\n\r\n")[2].decode()

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever was said
        """The body as JSON."""
        return json.loads(self.body)


def ask(
    caller: Caller,
    port: int,
    request: bytes = ASK_AND_LEAVE,
    *,
    source: str = "127.0.0.1",
    session: ssl.SSLSession | None = None,
) -> Heard:
    """Shake hands, say this, and hear what comes until the end."""
    data, tls = b"", None
    try:
        with caller.open(port, source=source, session=session) as tls:
            tls.sendall(request)
            while piece := tls.recv(65536):
                data += piece
            return Heard(data, "", tls.session, bool(tls.session_reused))
    except (ssl.SSLEOFError, ConnectionError):
        return Heard(data, "cut")
    except ssl.SSLError as error:
        return Heard(data, error.reason or str(error))


def asking(*, path: str = "/hello", method: str = "GET", **headers: str) -> bytes:
    """A request with these headers."""
    lines = [f"{method} {path} HTTP/1.1", "Host: node", "Connection: close"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


def ends_with(tls: ssl.SSLSocket, end: bytes) -> bool:
    """Whether what comes ends so at last."""
    data = b""
    while not data.endswith(end) and (piece := tls.recv(65536)):
        data += piece
    return data.endswith(end)

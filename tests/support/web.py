"""HTTP/1.1 spoken by hand over a TLS connection, and answers read by Python's own client."""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass
from email.message import Message


@dataclass(frozen=True)
class Answer:
    """What came back, read to its end."""

    status: int
    fields: Message
    body: bytes

    def __getitem__(self, name: str) -> str:
        """A field that has to be there."""
        value = self.fields[name]
        assert value is not None, f"there is no {name} in {self.fields.items()}"
        return str(value)


def ask(tls: ssl.SSLSocket, path: str | bytes, method: str = "GET", **fields: str) -> Answer:
    """Send one request, as it is written here, and read the answer; the connection stays open where it may."""
    target = path.encode() if isinstance(path, str) else path
    lines = [f"{name.replace('_', '-')}: {value}".encode() for name, value in {"host": "node", **fields}.items()]
    tls.sendall(b"\r\n".join([method.encode() + b" " + target + b" HTTP/1.1", *lines, b"", b""]))
    return answer(tls, method)


def answer(tls: ssl.SSLSocket, method: str = "GET") -> Answer:
    """Read an answer to a request of this method. Raises http.client.IncompleteRead, OSError."""
    response = http.client.HTTPResponse(tls, method=method)
    response.begin()
    return Answer(response.status, response.msg, response.read())

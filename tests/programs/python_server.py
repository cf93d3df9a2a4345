"""The server of seed 004: http.server in a TLS context, which is peerauth's drop-in one.

Usage: python_server.py listener|connection HOME

`listener` wraps the listening socket, as the document's kind of script does; `connection` wraps each connection in its own
thread, as it should be done (one idle caller does not hold up the rest). Serves on a free port of 127.0.0.1 and prints
`listening 127.0.0.1:PORT` when it is ready.
"""

from __future__ import annotations

import socket
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import peerauth

TIMEOUT_S = 10.0


class Hello(BaseHTTPRequestHandler):
    """Answers everything with the document's sentence."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Say the sentence."""
        body = b"Hello, mutual TLS client!"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class TLSServer(ThreadingHTTPServer):
    """Wraps a connection in the thread that serves it."""

    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's own types
        """Shake hands, then handle; a caller that is refused gets no handler."""
        plain: socket.socket = request
        plain.settimeout(TIMEOUT_S)
        with self.context.wrap_socket(plain, server_side=True) as secure:
            super().finish_request(secure, client_address)


def main(wrap: str, home: str) -> None:
    """Serve until killed."""
    context = peerauth.Node.load(Path(home)).server_context()
    if wrap == "connection":
        server: ThreadingHTTPServer = TLSServer(("127.0.0.1", 0), Hello)
        server.context = context  # type: ignore[attr-defined]
    else:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print(f"listening 127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])

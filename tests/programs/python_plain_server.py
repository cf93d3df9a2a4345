"""The server of seed 004 as the document has it: http.server in the standard library's context, no peerauth.

Usage: python_plain_server.py CERT KEY CA. Serves on a free port of 127.0.0.1 and prints `listening 127.0.0.1:PORT` when it
is ready.
"""

from __future__ import annotations

import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Hello(BaseHTTPRequestHandler):
    """Answers everything with the document's sentence."""

    def do_GET(self) -> None:
        """Say the sentence."""
        body = b"Hello, mutual TLS client!"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(cert: str, key: str, ca: str) -> None:
    """Serve until killed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(cert, key)
    server = HTTPServer(("127.0.0.1", 0), Hello)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(f"listening 127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""http.server of the standard library, HTTP/1.1, in a thread for each connection; prints where it listens.

Answers each request in chunks with `METHOD PATH NAME SHA256` of what it was asked, by whom, and with which body.
"""

from __future__ import annotations

import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(BaseHTTPRequestHandler):
    """Reads bodies of both kinds, as http.server itself does not."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Say what was asked."""
        body = b"".join(self._chunks()) if "Transfer-Encoding" in self.headers else self._sized()
        name = self.headers.get("X-Peer-Name", "nobody")
        said = f"{self.command} {self.path} {name} {hashlib.sha256(body).hexdigest()}\n".encode()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command != "HEAD":
            for piece in (said[:10], said[10:]):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

    do_HEAD = do_PUT = do_POST = do_GET  # noqa: N815 - as http.server has them

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _sized(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunks(self) -> list[bytes]:
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return chunks


server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
server.daemon_threads = True
print(f"listening 127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()

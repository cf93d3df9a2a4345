"""What a peer gets through the proxy is what the program would have told it directly: with the real nginx and curl."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.http.doors import proxy
from tests.http.nginx import nginx
from tests.support.engine import files_of, identity
from tests.support.programs import needs
from tests.support.targets import target

MB = 1 << 20
SIZES = (0, 1, 16_383, 16_384, 16_385, MB, 100 * MB)
GIGABYTE = 1 << 30
FRAMING = (b"content-length:", b"transfer-encoding:")
SERVER = """\
    server {
        listen 127.0.0.1;
        root WWW;
        location /gzip/ {
            alias WWW/;
            gzip on;
            gzip_proxied any;
            gzip_min_length 1;
            gzip_types *;
        }
        location /list/ {
            alias WWW/;
            autoindex on;
        }
        location /said/ { return 200 "$request_method $request_uri $content_length $host\\n"; }
        location /204 { return 204; }
        location /301 { return 301 /elsewhere?$args; }
        location /400 { return 400; }
        location /401 { return 401 "who?"; }
        location /405 { error_page 405 @no; return 405; }
        location @no { add_header Allow "GET, HEAD" always; return 405 "no\\n"; }
        location /500 { return 500 "broken\\n"; }
        location /503 { add_header Retry-After 7 always; return 503; }
        location /many/ {
            add_header Set-Cookie "a=1" always;
            add_header Set-Cookie "b=2" always;
            add_header X-Long "LONG" always;
            return 200 "";
        }
    }
"""


def blocks(size: int) -> Iterator[bytes]:
    """So many bytes in pieces of a megabyte, no two of which are the same."""
    block = random.Random(1).randbytes(MB)  # noqa: S311 - the same every time
    for number in range(0, size, MB):
        yield (number.to_bytes(8, "big") + block[8:])[: size - number]


@dataclass(frozen=True)
class Asked:
    """What curl is told to ask for."""

    path: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Side:
    """Where it asks: the program itself, or through the proxy."""

    url: str
    words: tuple[str, ...]
    place: Path

    def fetch(self, asked: list[Asked]) -> list[tuple[list[bytes], str, int]]:
        """The status line and the fields in their order (those of the framing last), the SHA-256 of the body, its size."""
        command: list[str] = []
        for number, one in enumerate(asked):
            out = ("--output", f"{self.place}/{number}", "--dump-header", f"{self.place}/{number}.head")
            command += ["--next", "--silent", "--show-error", "--path-as-is", "--max-time", "40", "--header", "Host: node"]
            command += [*self.words, *out, *one.words, f"{self.url}{one.path}"]
        subprocess.run([needs("curl"), *command[1:]], check=True, timeout=50)
        return [self._result(number, head_only="--head" in one.words) for number, one in enumerate(asked)]

    def _result(self, number: int, *, head_only: bool) -> tuple[list[bytes], str, int]:
        head = (self.place / f"{number}.head").read_bytes().split(b"\r\n\r\n")[-2]
        ours = (b"date:", b"connection:", *((b"transfer-encoding:",) if head_only else ()))  # RFC 9112 6.1: may be left out
        fields = [line for line in head.split(b"\r\n") if not line.lower().startswith(ours)]
        fields.sort(key=lambda line: line.lower().startswith(FRAMING))  # stable: the others stay in their order
        body = self.place / f"{number}"
        content = body.read_bytes() if body.exists() and not head_only else b""  # to that, curl writes the fields again
        body.unlink(missing_ok=True)
        return fields, hashlib.sha256(content).hexdigest(), len(content)


@dataclass(frozen=True)
class Sides:
    """Both of them."""

    direct: Side
    through: Side


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    place = tmp_path_factory.mktemp("nginx")
    (place / "www").mkdir()
    for size in SIZES:
        (place / f"www/{size}.bin").write_bytes(b"".join(blocks(size)))
    (place / "www/text.txt").write_text("a line that is easily made smaller\n" * 20_000)
    server = SERVER.replace("WWW", f"{place}/www").replace("LONG", "x" * 3000)
    cert, key = files_of(identity("alice"))
    mutual = ("--cert", cert, "--key", key, "--cacert", files_of(identity("node"))[0])
    with contextlib.ExitStack() as running:
        where = running.enter_context(nginx(place, server, "listen 127.0.0.1;"))
        node = running.enter_context(proxy(tmp_path_factory.mktemp("node"), where))
        yield Sides(
            Side(f"http://{where}", (), tmp_path_factory.mktemp("direct")),
            Side(f"https://localhost:{node.port}", mutual, tmp_path_factory.mktemp("through")),
        )


METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE")
GZIP = ("--header", "Accept-Encoding: gzip")


def method(name: str) -> tuple[str, ...]:
    return ("--head",) if name == "HEAD" else ("--request", name)


def compare(sides: Sides, asked: list[Asked]) -> list[tuple[list[bytes], str, int]]:
    """What came through the proxy, when it is what came directly."""
    through = sides.through.fetch(asked)
    for one, here, there in zip(asked, through, sides.direct.fetch(asked), strict=True):
        assert here == there, one
    return through


def test_every_method_and_status(sides: Sides) -> None:
    statuses = ("/said/a?b=c", "/204", "/301?a", "/400", "/401", "/405", "/missing", "/500", "/503", "/many/", "/list/")
    asked = [Asked(path, method(name)) for name in METHODS for path in statuses]
    found = {int(fields[0].split()[1]) for fields, _, _ in compare(sides, asked)}
    assert found >= {200, 204, 301, 400, 401, 404, 405, 500, 503}


def test_every_method_with_a_body(sides: Sides) -> None:
    methods = [name for name in METHODS if name != "HEAD"]
    sent = ("--data-binary", "a body, which nobody reads", "--header", "Content-Type: text/plain")
    chunked = (*sent, "--header", "Transfer-Encoding: chunked", "--header", "Content-Length:")
    asked = [Asked("/said/", (*method(name), *words)) for name in methods for words in (sent, chunked)]
    compare(sides, asked)


def test_sizes_around_a_tls_record_and_large_ones(sides: Sides) -> None:
    asked = [Asked(f"/{size}.bin", words) for size in SIZES for words in ((), ("--head",))]
    assert [size for _, _, size in compare(sides, asked)][::2] == list(SIZES)


def test_parts_conditions_and_old_versions(sides: Sides) -> None:
    name = "/16385.bin"
    tag = next(line.partition(b": ")[2].decode() for line in sides.direct.fetch([Asked(name)])[0][0] if b"ETag" in line)
    ranges = ("0-0", "5-16384", "-1", "16384-", "99999-")
    asked = [Asked(name, ("--range", part)) for part in ranges]
    asked += [Asked(name, ("--header", f"If-None-Match: {tag}")), Asked(name, ("--header", 'If-Match: "no"'))]
    asked += [Asked(name, ("--header", f"If-None-Match: {tag}", "--head"))]
    asked += [Asked("/16385.bin", ("--header", "Connection: close")), Asked("/a%2Fb%20c/%7E/./d")]
    found = {int(fields[0].split()[1]) for fields, _, _ in compare(sides, asked)}
    assert found == {200, 206, 304, 404, 412, 416}


def test_encodings(sides: Sides) -> None:
    asked = [Asked(f"/gzip/{name}", GZIP) for name in ("text.txt", "0.bin", "1.bin", f"{MB}.bin")]
    asked += [Asked("/gzip/text.txt"), Asked("/gzip/text.txt", (*GZIP, "--head"))]
    found = compare(sides, asked)
    assert b"Content-Encoding: gzip" in found[0][0]
    assert b"Transfer-Encoding: chunked" in found[0][0]


def test_http_1_0_gets_the_same_body(sides: Sides) -> None:
    """Its framing is another: without chunks, and ended by the end of the connection."""
    for path in ("/said/", f"/{MB}.bin", "/list/", "/204", "/missing"):
        asked = [Asked(path, ("--http1.0",))]
        ((fields, digest, size),) = sides.through.fetch(asked)
        ((_, *wanted),) = sides.direct.fetch(asked)
        assert [digest, size] == wanted
        assert b"Transfer-Encoding: chunked" not in fields


def test_a_gigabyte(tmp_path: Path) -> None:
    """No disk is in it: it is made as it is sent, and compared as it comes."""

    def tell(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIGABYTE)
        for piece in blocks(GIGABYTE):
            sock.sendall(piece)

    cert, key = files_of(identity("alice"))
    with target(tell) as where, proxy(tmp_path, where) as node:
        command = [needs("curl"), "--silent", "--insecure", "--cert", cert, "--key", key, f"https://localhost:{node.port}/"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as curl:
            assert curl.stdout is not None
            assert all(curl.stdout.read(MB) == piece for piece in blocks(GIGABYTE))
            assert curl.stdout.read() == b""
        assert curl.returncode == 0


@pytest.mark.parametrize("chunked", [False, True], ids=["with-length", "chunked"])
def test_what_is_sent_arrives_as_it_was(tmp_path: Path, chunked: bool) -> None:
    data = b"".join(blocks(20 * MB))
    (file := tmp_path / "sent").write_bytes(data)

    def hear(sock: socket.socket) -> None:
        digest = hashlib.sha256()
        for piece in content(sock):
            digest.update(piece)
        said = digest.hexdigest().encode()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))

    cert, key = files_of(identity("alice"))
    with target(hear) as where, proxy(tmp_path, where) as node:
        command = [needs("curl"), "--silent", "--insecure", "--cert", cert, "--key", key, "--upload-file", str(file)]
        command += ["--header", "Transfer-Encoding: chunked"] if chunked else []
        answer = subprocess.run([*command, f"https://localhost:{node.port}/a"], check=True, capture_output=True, timeout=50)
    assert answer.stdout.decode() == hashlib.sha256(data).hexdigest()


def content(sock: socket.socket) -> Iterator[bytes]:
    """The body of the one request that comes, as a simple program reads it."""
    with sock.makefile("rwb") as stream:
        fields = {}
        while (line := stream.readline()) != b"\r\n":
            name, _, value = line.lower().partition(b":")
            fields[name] = value.strip()
        if b"expect" in fields:
            stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            stream.flush()
        if b"content-length" in fields:
            left = int(fields[b"content-length"])
            while left:
                yield (piece := stream.read(min(MB, left)))
                left -= len(piece)
            return
        while size := int(stream.readline(), 16):
            yield stream.read(size)
            stream.readline()
        stream.readline()

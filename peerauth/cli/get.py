"""`get`: an HTTPS request through the pins."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peerauth.cli.command import command, option
from peerauth.cli.connect import PeerOption
from peerauth.cli.node import make_dialer
from peerauth.cli.secret import PassphraseFileOption
from peerauth.cli.ui import Ui
from peerauth.errors import BadInput, PeerAuthError, UsageError, printable

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

_TOKEN = set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")  # RFC 9110 section 5.6.2


@command
def get(
    ui: Ui,
    url: Annotated[str, typer.Argument(metavar="URL", show_default=False)],
    peer: PeerOption = None,
    method: Annotated[str | None, typer.Option("-X", "--request", metavar="METHOD", help="GET, or POST with -d.")] = None,
    header: Annotated[list[str] | None, typer.Option("-H", "--header", metavar="'Name: value'", help="Repeatable.")] = None,
    data: Annotated[str | None, typer.Option("-d", "--data", metavar="TEXT|@FILE|@-", help="A body to send.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", readable=False, help="Write the body to a file.")
    ] = None,
    include: Annotated[bool, typer.Option("-i", "--include", help="Print the status and headers as well.")] = False,
    fail: Annotated[bool, typer.Option("-f", "--fail", help="Exit with 1 when the status is 400 or more.")] = False,
    max_wait: Annotated[
        float | None,
        typer.Option(
            "--max-wait", metavar="SECONDS", help="How long to wait for each piece of an answer.", min=0.1, max=86400
        ),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
) -> None:
    """Ask a peer for something over HTTPS. A peer's name is a host name: https://db-1/health goes to its address."""
    from peerauth.client.request import parse_url, pieces, request
    from peerauth.tls.context import HTTP_1_1

    headers = _headers(header or [])
    body = _body(data)
    method = ("GET" if body is None else "POST") if method is None else method
    if not method or set(method) - _TOKEN:
        raise UsageError("bad-method", f"'{printable(method, 40)}' is not an HTTP method")
    if body is not None and "content-type" not in {name.lower() for name in headers}:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    dialer = make_dialer(ui, passphrase_file, HTTP_1_1)
    with option("URL", "bad-url", "bad-address"):
        asked = parse_url(url, dialer.peers(), peer)
    with request(dialer, asked, method, headers, body, timeout=max_wait) as (response, connection):
        session = connection.session
        ui.detail(
            f"{asked.target.peer.name} at {asked.target.address}: {session.version}, {session.group}, {session.cipher}"
        )
        if include and not ui.json:
            _print_head(response)
        if output is not None:
            _save(ui, response, output)
        elif ui.json:
            _emit(ui, response, asked.target.peer.name)
        else:
            for piece in pieces(response):
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
    if fail and response.status >= 400:
        raise PeerAuthError(
            "http-status", f"{asked.target.peer.name} answered {response.status} {printable(response.reason or '')}"
        )


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or set(name) - _TOKEN or any(c in "\r\n\0" for c in value) or not value.isascii():
            raise UsageError("bad-header", f"'{printable(line, 80)}' is not a header", "write it as -H 'Name: value'")
        headers[name] = value.strip()
    headers.setdefault("User-Agent", "peerauth")
    headers.setdefault("Accept", "*/*")
    return headers


def _body(data: str | None) -> bytes | None:
    if data is None or not data.startswith("@"):
        return None if data is None else data.encode(errors="surrogateescape")
    if data == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(data[1:]).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: no path can be written so
        reason = error.strerror if isinstance(error, OSError) else "there is no such file"
        raise BadInput("unreadable", f"{printable(data[1:])} cannot be read: {reason}") from error


def _print_head(response: BaseHTTPResponse) -> None:
    version = "1.0" if response.version == 10 else "1.1"
    lines = [
        f"HTTP/{version} {response.status} {response.reason or ''}",
        *(f"{n}: {v}" for n, v in response.headers.items()),
    ]
    sys.stdout.write("".join(printable(line, 8192) + "\n" for line in lines) + "\n")
    sys.stdout.flush()


def _save(ui: Ui, response: BaseHTTPResponse, path: Path) -> None:
    from peerauth.client.request import pieces
    from peerauth.store.files import output_file

    length = response.headers.get("content-length", "")
    total = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None
    with output_file(path) as file, ui.progress(path.name, total) as advance:
        for piece in pieces(response):
            file.write(piece)
            advance(len(piece))


def _emit(ui: Ui, response: BaseHTTPResponse, peer: str) -> None:
    from peerauth.client.request import pieces

    body = b"".join(pieces(response))
    ui.emit(
        {
            "peer": peer,
            "status": response.status,
            "reason": response.reason,
            "headers": dict(response.headers.items()),
            "body": body.decode(errors="backslashreplace"),
        }
    )

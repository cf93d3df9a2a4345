"""peerauth, from this checkout, in a home of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.contenders.model import Contender, Place, reload_at_once
from benchmarks.running import Running

CHECKOUT = Path(__file__).resolve().parents[2]


def _files(place: Place) -> dict[str, str]:
    config = f"""\
[node]
name = "server"

[limits]
max_connections = {place.connections + 100}
"""
    return {"config.toml": config}


def _arguments(place: Place) -> list[str]:
    return _serve(place, "--target", f"127.0.0.1:{place.target}")


def _http_arguments(place: Place) -> list[str]:
    return _serve(place, "--http", f"http://127.0.0.1:{place.target}")


def _serve(place: Place, *kind: str) -> list[str]:
    words = ["-m", "peerauth", "serve", "--quiet", "--home", str(place.directory)]
    words += ["--listen", f"127.0.0.1:{place.listen}", *kind]
    return words if place.workers == 1 else [*words, "--workers", str(place.workers)]


@dataclass(frozen=True)
class _Ourselves(Contender):
    """Its files are a key, a certificate and a directory with one certificate for each peer, which is followed live."""

    def lay_out(self, place: Place) -> None:
        """Make the home, or bring its peers up to date."""
        super().lay_out(place)
        for name, path in (("server.key", place.server.key), ("server.crt", place.server.certificate)):
            if not (place.directory / name).exists():
                shutil.copy(path, place.directory / name)
        peers = place.directory / "peers"
        peers.mkdir(exist_ok=True)
        wanted = {peer.name: peer for peer in place.peers}
        there = {entry.name for entry in os.scandir(peers)}
        for name in there - wanted.keys():
            (peers / name).unlink()
        for name in wanted.keys() - there:
            _copy(wanted[name], peers / name)

    def find(self) -> str | None:
        """The interpreter that runs this."""
        return sys.executable

    def start(self, place: Place, program: str, core: str | None) -> Running:
        """Write its home and start it."""
        self.lay_out(place)
        environment = {"PYTHONPATH": str(CHECKOUT)}
        return Running([program, *self.arguments(place)], place.directory, core, environment)


def _copy(source: Path, destination: Path) -> None:
    """100 000 files: a second name for each is enough where the file system lets it have one."""
    with contextlib.suppress(OSError):
        destination.hardlink_to(source)
        return
    shutil.copy(source, destination)


PEERAUTH = _Ourselves(
    name="peerauth",
    program="peerauth",
    package="",
    files=_files,
    arguments=_arguments,
    version=(sys.executable, "-m", "peerauth", "--version"),
    library=(
        sys.executable,
        "-c",
        "from cryptography.hazmat.backends.openssl import backend; print(backend.openssl_version_text())",
    ),
    reload=reload_at_once,
    note="this checkout; the exact certificate",
)
PEERAUTH_HTTP = replace(PEERAUTH, arguments=_http_arguments, http=True)

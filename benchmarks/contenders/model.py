"""What a contender is, and where it stands for one measurement."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.identities import Identity
from benchmarks.running import Failed, Running

COMMAND_S = 60.0


@dataclass(frozen=True)
class Place:
    """One start of a contender: a directory of its own, its two ports, its certificate and those whom it admits.

    `connections` is how many it must be able to hold at once.
    """

    directory: Path
    listen: int
    target: int
    server: Identity
    peers: tuple[Path, ...]
    connections: int = 2000
    workers: int = 1

    @property
    def bundle(self) -> Path:
        """All certificates of the peers in one file, which is how most programs want them."""
        return self.directory / "peers.pem"

    def bundle_text(self) -> str:
        """What belongs into `bundle`."""
        return "".join(peer.read_text("ascii") for peer in self.peers)

    def server_text(self) -> str:
        """Key and certificate in one text."""
        return self.server.key.read_text("ascii") + self.server.certificate.read_text("ascii")


@dataclass(frozen=True)
class Contender:
    """A program that admits pinned clients and relays to a backend.

    `files` maps names inside the place's directory to contents; `arguments` is what follows the program's name;
    `version` and `library` are the words that make it (or something else) print these; `reload` makes a running one take
    in files that were written again; `built` is the Go module that has it where no package does. `http`: it speaks HTTP
    and takes part where connections, not bytes, are counted.
    """

    name: str
    program: str
    package: str
    files: Callable[[Place], dict[str, str]]
    arguments: Callable[[Place], list[str]]
    version: tuple[str, ...]
    library: tuple[str, ...]
    reload: Callable[[Running, Place, str], None]
    http: bool = False
    note: str = ""
    built: str = ""

    def lay_out(self, place: Place) -> None:
        """Write its files."""
        for name, content in self.files(place).items():
            path = place.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, "utf-8")

    def find(self) -> str | None:
        """Return the path of the program, None where it is not installed."""
        return shutil.which(self.program) or shutil.which(self.program, path="/usr/sbin:/sbin")

    def start(self, place: Place, program: str, core: str | None) -> Running:
        """Write its files and start it; it does not listen yet."""
        self.lay_out(place)
        return Running([program, *self.arguments(place)], place.directory, core)


def reload_by(number: signal.Signals) -> Callable[[Running, Place, str], None]:
    """A reload that is a signal."""

    def reload(running: Running, _place: Place, _program: str) -> None:
        running.signal(number)

    return reload


def reload_at_once(_running: Running, _place: Place, _program: str) -> None:
    """A reload that is not needed: it watches its files."""


def reload_by_command(arguments: Callable[[Place], list[str]]) -> Callable[[Running, Place, str], None]:
    """A reload that the program itself asks the running one for.

    Raises:
        Failed: it says no, or takes longer than `COMMAND_S` seconds.

    """

    def reload(_running: Running, place: Place, program: str) -> None:
        try:
            done = subprocess.run(
                [program, *arguments(place)], capture_output=True, check=False, cwd=place.directory, timeout=COMMAND_S
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"gave up after {COMMAND_S:g} s: reload") from None
        if done.returncode:
            raise Failed(f"reload: {done.stderr.decode('utf-8', 'replace').strip()[-300:]}")

    return reload

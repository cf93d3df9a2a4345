"""The bench itself: what all measurements of one run share, and one contender set up on it."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contenders import Contender, Place
from benchmarks.identities import Identity, Kind, identity
from benchmarks.load import Load
from benchmarks.results import Sample, Sheet
from benchmarks.running import CONTENDER_CORE, Running, free_ports, listens

START_S = 30.0


@dataclass(frozen=True)
class Measurement:
    """A sheet to fill, and how one round of each of its subjects is measured.

    `most_rounds` bounds what takes long; `Failed` from a subject becomes a sample that says so.
    """

    sheet: Sheet
    subjects: dict[str, Callable[[], Sample]]
    most_rounds: int = 1000


@dataclass(frozen=True)
class Set:
    """One contender that is up, for the length of a measurement."""

    running: Running
    place: Place
    program: str
    load: Load


@dataclass(frozen=True)
class Bench:
    """What a run works with. `seconds` is the length of one measurement, `programs` the contenders' programs."""

    directory: Path
    cache: Path
    generator: Path
    seconds: float
    files: int
    programs: dict[str, str]
    quick: bool = False
    _count: Iterator[int] = field(default_factory=itertools.count)

    def identity(self, role: str, kind: Kind) -> Identity:
        """The server's or a client's identity of that kind; the same for everybody."""
        return identity(self.directory, f"{role}-{kind}", kind)

    def clients(self) -> tuple[Path, ...]:
        """The certificates of the clients that everybody admits."""
        return tuple(self.identity("client", kind).certificate for kind in ("p256", "rsa4096"))

    def most_connections(self, wanted: int) -> int:
        """How many of the wanted connections one process can relay: two descriptors for each, and some to spare."""
        return min(wanted, (self.files - 900) // 2)

    def place(
        self,
        contender: Contender,
        server: Kind = "rsa4096",
        peers: Sequence[Path] = (),
        connections: int = 2000,
        workers: int = 1,
    ) -> Place:
        """A directory and two ports for one start of a contender that admits the clients and `peers`."""
        directory = self.directory / f"{next(self._count)}-{contender.name.replace(' ', '-')}"
        directory.mkdir(mode=0o755)
        listen, target = free_ports(2)
        everybody = (*self.clients(), *peers)
        return Place(directory, listen, target, self.identity("server", server), everybody, connections, workers)

    @contextlib.contextmanager
    def up(
        self,
        contender: Contender,
        *,
        server: Kind = "rsa4096",
        client: Kind = "p256",
        connections: int = 2000,
        workers: int = 1,
        core: str | None = CONTENDER_CORE,
    ) -> Iterator[Set]:
        """Start a contender on its core; it listens when the block begins.

        Raises:
            Failed: it ended, or does not listen in `START_S` seconds.

        """
        place = self.place(contender, server, (), connections, workers)
        program = self.programs[contender.name]
        load = Load(self.generator, place.listen, self.identity("client", client), place.target, contender.http)
        try:
            with contender.start(place, program, core) as running:
                running.wait_for(lambda: listens(place.listen), START_S, "start")
                yield Set(running, place, program, load)
        finally:
            shutil.rmtree(place.directory, ignore_errors=True)

"""From the files of the peers directory to the peer set.

The contract (promises 1 and 3): one certificate file makes a peer, its stem is the name. A file that is gone is a removal; a
file that is there and broken leaves what was known of that peer and touches nobody else; a directory that is gone or
unreadable admits nobody. Hidden files, editors' leftovers and unknown suffixes are not looked at.

There may be a hundred thousand files. `suspects` finds the files that look different by asking for the status of each;
`refresh` reads these, or those that it is told of, and costs what they cost.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

from peerauth.errors import BadInput
from peerauth.locks import ForkLock
from peerauth.store import files
from peerauth.store.hands import share
from peerauth.store.peerfile import parse_settings
from peerauth.store.records import (
    NO_LOOK,
    File,
    Problem,
    Record,
    count_of,
    end_of,
    ending_of,
    file_names,
    files_of,
    is_notes,
    is_ours,
    look_of,
    peer_name,
    record_of,
    remembered_look,
    row_of,
)
from peerauth.store.usual import MAXIMUM_BYTES, read_usual, settled_look
from peerauth.trust.expiry import Ending
from peerauth.trust.layers import Layered
from peerauth.trust.peers import PeerSet, Row, check_name
from peerauth.trust.reading import leaves, read_certificates, seconds

_OUR_TROUBLE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # says nothing about the directory
_LINKS = 10_000  # symbolic links that are followed to see where they lead
_SLICE = 256  # files between two breaths of a look at the whole directory


@dataclass(frozen=True)
class Snapshot:
    """The directory as it was at one moment: the peers, and by their names the files that they come from."""

    directory: Path
    peers: PeerSet = field(default_factory=PeerSet)
    records: Layered[str, Record] = field(default_factory=Layered)
    count: int = 0
    troubled: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    trouble: Problem | None = None

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """What could not be used: the directory, files, and certificates that several peers have."""
        found = [self.trouble] if self.trouble else []
        found += [problem for name in sorted(self.troubled) for problem in self.troubled[name]]
        for what, shared in (("certificate", self.peers.shared), ("pinned key", self.peers.shared_keys)):
            for first, *others in sorted(names for digest, names in shared.items()):
                for name in others:
                    text = f"{name} has the same {what} as {first}; whoever holds it is known as {first}"
                    found.append(Problem(self.directory / name, "same-certificate", text))
        return tuple(found)


class PeerFiles:
    """The directory, looked at. `current` is what was seen last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._prefix = os.path.join(path, "")  # noqa: PTH118 - a Path for each of a hundred thousand costs a second
        self._snapshot = Snapshot(path)
        self._linked: frozenset[Path] = frozenset()
        self._lock = ForkLock()

    @property
    def current(self) -> PeerSet:
        """The peer set as it was last seen."""
        return self._snapshot.peers

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What in the directory could not be used."""
        return self._snapshot.problems

    @property
    def linked(self) -> frozenset[Path]:
        """The directories that symbolic links in it lead to."""
        return self._linked

    @property
    def count(self) -> int:
        """How many files are known."""
        return self._snapshot.count

    @property
    def readable(self) -> bool:
        """Whether the directory itself could be read when it was last looked at as a whole."""
        return self._snapshot.trouble is None

    def endings(self, by: datetime, names: Iterable[str] | None = None) -> Iterator[Ending]:
        """The ends of the peers' certificates, or of these peers', that come until then; in no order.

        Reads nothing: what is known since the files were read.
        """
        records, horizon = self._snapshot.records, seconds(by)
        for name in records if names is None else names:
            record = records.get(name)
            if not isinstance(record, bytes) or end_of(record) <= horizon:
                ending = ending_of(name, record)
                if ending is not None and ending.seconds <= horizon:
                    yield ending

    def places(self) -> set[Path]:
        """The directories whose changes can change the peer set: this one, its parent, and where links lead."""
        return {self.path, self.path.parent, *islice(self._linked, 64)}

    def refresh(self, names: Iterable[str] | None = None, *, processes: int = 1) -> PeerSet:
        """Bring `current` up to date with the directory, or with these files of it, and return it.

        Reads only what looks different, and the named. Safe to call from any thread. `processes`: how many may read where
        there is much; more than one only as `hands.processors` says.
        """
        try:
            suspects = self.suspects() if names is None else self._named(names)
        except OSError as error:
            with self._lock:
                self._snapshot = self._unreadable(error)
        else:
            with self._lock:
                found = self._read_again(suspects, processes)
                if names is None and found.trouble is not None:
                    found = replace(found, trouble=None)
                self._snapshot = found
        return self.current

    def suspects(self, breathe: Callable[[], None] = lambda: None) -> list[str]:
        """The names of files that are new, gone, or look different from what is known. Raises OSError.

        Asks for the status of every known file; calls `breathe` now and then, which may sleep.
        """
        records, count = self._snapshot.records, self._snapshot.count
        found: list[str] = []
        links: list[str] = []
        known = 0
        with os.scandir(self.path) as entries:
            for number, entry in enumerate(entries):
                if number % _SLICE == 0:
                    breathe()
                file = entry.name
                if not is_ours(file):
                    continue
                if len(links) < _LINKS and entry.is_symlink():
                    links.append(entry.path)
                look = remembered_look(name, records.get(name), file) if count and (name := peer_name(file)) else None
                if look is None:
                    found.append(file)
                    continue
                try:
                    now = look_of(entry.stat())
                except OSError:  # gone, or a matter for who reads it
                    now = None
                known += 1
                if now != look:
                    found.append(file)
        self._linked = frozenset(Path(os.path.realpath(link)).parent for link in links)
        if known < count:  # somebody is gone
            found += self._missing(records, breathe)
        return found

    def _missing(self, records: Layered[str, Record], breathe: Callable[[], None]) -> Iterator[str]:
        for number, (name, record) in enumerate(records.items()):
            if number % _SLICE == 0:
                breathe()
            for file in file_names(name, record):
                if not os.path.lexists(self._prefix + file):
                    yield file

    def _named(self, names: Iterable[str]) -> list[str]:
        """Those of these files that are about peers; where links among them lead is followed from now on."""
        ours = [file for file in dict.fromkeys(names) if is_ours(file) and os.sep not in file]
        links = (self.path / file for file in ours)
        self._linked |= frozenset(Path(os.path.realpath(path)).parent for path in links if path.is_symlink())
        return ours

    def _unreadable(self, error: OSError) -> Snapshot:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in _OUR_TROUBLE:
            text = f"{files.shown(self.path)} cannot be read now ({reason}): changes wait"
            return replace(self._snapshot, trouble=Problem(self.path, "cannot-look", text))
        text = f"{files.shown(self.path)} cannot be read ({reason}): nobody is admitted"
        return Snapshot(self.path, trouble=Problem(self.path, "no-directory", text))

    def _read_again(self, names: Iterable[str], processes: int) -> Snapshot:
        """The current snapshot with these files as they are now."""
        before = self._snapshot
        known: Mapping[str, Record] = before.records if before.count else {}  # a dictionary is quicker to look into
        alone: dict[str, str] = {}  # a peer's only file, as far as is known, under the peer's name
        others: list[str] = []
        for file in names:
            name = peer_name(file)
            if name in alone or ((had := known.get(name)) is not None and file_names(name, had) != (file,)):
                others.append(file)
            else:
                alone[name] = file
        fresh: dict[str, Record | None] = {}
        fresh.update(share(partial(read_usual, self.path), list(alone.values()), processes))
        others[:0] = [file for name, file in alone.items() if name not in fresh]
        del alone  # there may be very many
        for file in others:
            name = peer_name(file)
            fresh[name] = self._record(name, fresh[name] if name in fresh else known.get(name), file)
        return self._with(fresh, known) if fresh else before

    def _with(self, fresh: Mapping[str, Record | None], known: Mapping[str, Record]) -> Snapshot:
        """The current snapshot, which has the `known` records, with these of the same peers in their place."""
        before = self._snapshot
        count = before.count
        rows: dict[str, Row | None] = {}
        troubled = {name: problems for name, problems in before.troubled.items() if name not in fresh}
        for name, record in fresh.items():
            count += count_of(record) - count_of(known.get(name))
            rows[name] = row_of(name, record)
            if isinstance(record, tuple) and (problems := tuple(file.problem for file in record if file.problem)):
                troubled[name] = problems
        peers, records = before.peers.changed(rows), before.records.changed(fresh)
        return Snapshot(self.path, peers, records, count, troubled, before.trouble)

    def _record(self, name: str, known: Record | None, file: str) -> Record | None:
        """The record of a peer of which one file is looked at again, with care."""
        held = {one.name: one for one in files_of(name, known)}
        if isinstance(known, bytes) and file not in held:  # now that it is not alone, its key may be asked for
            held = {one.name: again for one in held.values() if (again := self._read(one.name, one)) is not None}
        again = self._read(file, held.get(file))
        if again is None:
            held.pop(file, None)
        else:
            held[file] = again
        return record_of(name, tuple(held.values()))

    def _read(self, file: str, known: File | None) -> File | None:
        """One file, read with care; None when it is gone. A broken one leaves what was known."""
        path = self.path / file
        look = NO_LOOK
        try:
            with contextlib.suppress(OSError):
                look = settled_look(path.stat())
            data = files.read_bounded(path, MAXIMUM_BYTES)
            if is_notes(file):
                return File(file, look, settings=parse_settings(data, path))
            check_name(peer_name(file))
            held = leaves(read_certificates(data))
        except BadInput as error:
            if error.code == "no-such-file":
                return None
            if error.code == "unreadable":
                look = NO_LOOK  # it may become readable without looking different: descriptors may be scarce
            if known is None:
                known = self._known_before(file)
            message = error.message if files.shown(path) in error.message else f"{files.shown(path)}: {error.message}"
            if is_notes(file) and known.settings is None:
                message += "; until it is mended, its peer is not admitted"
            return replace(known, look=look, problem=Problem(path, error.code, message))
        pins, keys = tuple(c.fingerprint for c in held), tuple(c.key_fingerprint for c in held)
        return File(file, look, pins, keys, tuple(seconds(c.not_after) for c in held))

    def _known_before(self, file: str) -> File:
        """What a file that was never read leaves standing: notes, what their peer was admitted with until now."""
        peer = self._snapshot.peers.get(peer_name(file)) if is_notes(file) else None
        return File(file, NO_LOOK, settings=peer.settings if peer else None)

"""From the files of the peers directory to the peer set.

The contract (promises 1 and 3): one certificate file makes a peer, its stem is the name. A file that is gone is a removal; a
file that is there and broken leaves what was known of that peer and touches nobody else; a directory that is gone or
unreadable admits nobody. Hidden files, editors' leftovers and unknown suffixes are not looked at.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from peerauth.errors import BadInput
from peerauth.store import files
from peerauth.store.peerfile import parse_settings
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import NO_SETTINGS, Peer, PeerSet, PeerSettings, check_name
from peerauth.trust.reading import leaves, read_certificates

CERTIFICATE_SUFFIXES = (".crt", ".pem", ".cer", ".der")
MAXIMUM_BYTES = 256 << 10
_OUR_TROUBLE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # says nothing about the directory
_RACY = 0.1  # seconds: a file written this shortly before it was read may change again within one clock tick


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the directory that could not be used as it is."""

    path: Path
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class _File:
    """What is remembered of one file: how it looked, and the last good thing it said."""

    look: tuple[int, ...]
    pins: tuple[Fingerprint, ...] = ()
    keys: tuple[Fingerprint, ...] = ()
    settings: PeerSettings | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class Snapshot:
    """The directory as it was at one moment."""

    peers: PeerSet = field(default_factory=PeerSet)
    problems: tuple[Problem, ...] = ()
    files: Mapping[str, _File] = field(default_factory=dict)
    linked: frozenset[Path] = frozenset()


class PeerFiles:
    """The directory, looked at. `current` is the last snapshot; `refresh` looks again, reading only what changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._snapshot = Snapshot()
        self._lock = threading.Lock()

    @property
    def current(self) -> PeerSet:
        """The peer set as it was last adopted."""
        return self._snapshot.peers

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What in the directory could not be used."""
        return self._snapshot.problems

    def refresh(self) -> PeerSet:
        """Bring `current` up to date with the directory and return it. Safe to call from any thread."""
        self.adopt(self.examine())
        return self.current

    def adopt(self, snapshot: Snapshot) -> None:
        """Make this snapshot the current one."""
        self._snapshot = snapshot

    def examine(self) -> Snapshot:
        """The directory as it is now, compared with the current snapshot; changes nothing."""
        with self._lock:
            try:
                entries = [entry for entry in os.scandir(self.path) if is_ours(entry.name)]
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                if error.errno in _OUR_TROUBLE:
                    text = f"{files.shown(self.path)} cannot be read now ({reason}): changes wait"
                    return replace(self._snapshot, problems=(Problem(self.path, "cannot-look", text),))
                text = f"{files.shown(self.path)} cannot be read ({reason}): nobody is admitted"
                return Snapshot(problems=(Problem(self.path, "no-directory", text),))
            looked = dict(self._looked_at(entries))
            linked = frozenset(Path(os.path.realpath(e.path)).parent for e in entries[:10_000] if e.is_symlink())
            peers, problems = _assemble(looked, self.path)
            return Snapshot(peers, problems, looked, linked)

    def places(self) -> set[Path]:
        """The directories whose changes can change the peer set: this one, its parent, and where links lead."""
        return {self.path, self.path.parent, *list(self._snapshot.linked)[:64]}

    def _looked_at(self, entries: list[os.DirEntry[str]]) -> Iterator[tuple[str, _File]]:
        for entry in entries:
            known = self._snapshot.files.get(entry.name)
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue
            except OSError as error:
                look: tuple[int, ...] = (error.errno or 0,)
            else:
                look = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode)
            if known is not None and known.look == look and look:
                yield entry.name, known
                continue
            fresh = self._read(Path(entry.path), look, known)
            if fresh is not None:
                yield entry.name, fresh

    def _read(self, path: Path, look: tuple[int, ...], known: _File | None) -> _File | None:
        recent = max(look[:2], default=0) > (time.time() - _RACY) * 1e9
        kept_look = () if recent else look
        try:
            data = files.read_bounded(path, MAXIMUM_BYTES)
            if is_notes(path):
                return _File(kept_look, settings=parse_settings(data, path))
            check_name(path.stem.lower())
            held = leaves(read_certificates(data))
        except BadInput as error:
            if error.code == "no-such-file":
                return None
            if known is None:
                known = self._known_before(path)
            message = error.message if files.shown(path) in error.message else f"{files.shown(path)}: {error.message}"
            if is_notes(path) and known.settings is None:
                message += "; until it is mended, its peer is not admitted"
            return replace(known, look=kept_look, problem=Problem(path, error.code, message))
        return _File(kept_look, tuple(c.fingerprint for c in held), tuple(c.key_fingerprint for c in held))

    def _known_before(self, path: Path) -> _File:
        """What a file that was never read leaves standing: notes, what their peer was admitted with until now."""
        peer = self._snapshot.peers.get(path.stem.lower()) if is_notes(path) else None
        return _File((), settings=peer.settings if peer else None)


def _assemble(looked: Mapping[str, _File], directory: Path) -> tuple[PeerSet, tuple[Problem, ...]]:
    problems = [file.problem for file in looked.values() if file.problem]
    settings = {Path(name).stem.lower(): file for name, file in looked.items() if is_notes(name)}
    held: dict[str, list[_File]] = {}
    for name, file in sorted(looked.items()):
        if not is_notes(name) and file.pins:
            held.setdefault(Path(name).stem.lower(), []).append(file)
    peers: list[Peer] = []
    holders: dict[Fingerprint, str] = {}
    for name, group in held.items():
        noted = settings.get(name)
        if noted is not None and noted.settings is None:
            continue  # its restrictions were never readable: fail closed; the problem is in the list
        chosen = noted.settings if noted is not None and noted.settings is not None else NO_SETTINGS
        pins = tuple(dict.fromkeys(pin for file in group for pin in file.pins))
        keys = tuple(dict.fromkeys(key for file in group for key in file.keys)) if chosen.pin == "key" else ()
        peers.append(Peer(name, pins, chosen, keys))
        for pin in pins:
            first = holders.setdefault(pin, name)
            if first != name:
                text = f"{name} has the same certificate as {first}; whoever holds it is known as {min(first, name)}"
                problems.append(Problem(directory / name, "same-certificate", text))
    return PeerSet.of(peers), tuple(problems)


def is_ours(name: str) -> bool:
    """Whether a file of this name says something about peers."""
    return not name.startswith(".") and name.lower().endswith((*CERTIFICATE_SUFFIXES, ".toml"))


def is_notes(path: Path | str) -> bool:
    """Whether it is a peer's notes rather than its certificate."""
    return os.fspath(path).lower().endswith(".toml")

"""The peers directory: from files to the peer set, and the changes a person makes to it.

The contract (promises 1 and 3): one certificate file makes a peer, its stem is the name. A file that is gone is a removal; a
file that is there and broken leaves what was known of that peer and touches nobody else; a directory that is gone or
unreadable admits nobody. Hidden files, editors' leftovers and unknown suffixes are not looked at.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from peerauth.errors import BadInput
from peerauth.store import files
from peerauth.store.peerfile import format_settings, parse_settings
from peerauth.trust.certificate import Certificate
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


class PeerDirectory:
    """The allow-list on disk. `current` is the last snapshot; `refresh` looks again, reading only what changed."""

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
                entries = [entry for entry in os.scandir(self.path) if _is_ours(entry.name)]
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
            if path.suffix.lower() == ".toml":
                return _File(kept_look, settings=parse_settings(data, path))
            check_name(path.stem.lower())
            held = leaves(read_certificates(data))
        except BadInput as error:
            if error.code == "no-such-file":
                return None
            message = error.message if files.shown(path) in error.message else f"{files.shown(path)}: {error.message}"
            if known is None and path.suffix.lower() == ".toml":
                message += "; until it is mended, its peer is not admitted"
            problem = Problem(path, error.code, message)
            if known is None:
                peer = self._snapshot.peers.get(path.stem.lower()) if path.suffix.lower() == ".toml" else None
                return _File(kept_look, settings=peer.settings if peer else None, problem=problem)
            return replace(known, look=kept_look, problem=problem)
        return _File(kept_look, tuple(c.fingerprint for c in held), tuple(c.key_fingerprint for c in held))

    # What a person does to the list. Every step leaves the directory in a state that admits nobody wrongly.

    def files_of(self, name: str) -> list[Path]:
        """The certificate files that make this peer."""
        try:
            found = [Path(entry.path) for entry in os.scandir(self.path) if _is_ours(entry.name)]
        except OSError:
            return []
        return sorted(path for path in found if path.stem.lower() == name and path.suffix.lower() != ".toml")

    def certificates(self, name: str) -> list[Certificate]:
        """The pinned certificates of a peer, as they are on disk now; broken files are left out."""
        held: list[Certificate] = []
        for path in self.files_of(check_name(name)):
            try:
                held += leaves(read_certificates(files.read_bounded(path, MAXIMUM_BYTES)))
            except BadInput:
                continue
        return list(dict.fromkeys(held))

    def everything(self) -> dict[str, list[Certificate]]:
        """Every peer of `current` with its pinned certificates, as they are on disk now; broken files are left out."""
        held: dict[str, list[Certificate]] = {peer.name: [] for peer in self.current}
        try:
            paths = sorted(Path(entry.path) for entry in os.scandir(self.path) if _is_ours(entry.name))
        except OSError:
            return held
        for path in paths:
            name = path.stem.lower()
            if path.suffix.lower() != ".toml" and name in held:
                with contextlib.suppress(BadInput):
                    held[name] += leaves(read_certificates(files.read_bounded(path, MAXIMUM_BYTES)))
        return {name: list(dict.fromkeys(certificates)) for name, certificates in held.items()}

    def peer(self, name: str) -> Peer:
        """The peer of this name in the current set. Raises BadInput("no-such-peer") naming the nearest."""
        found = self.current.get(name)
        if found is None:
            raise no_such_peer(name, self.current)
        return found

    def check_addition(self, name: str, certificates: Iterable[Certificate]) -> None:
        """Raise what `add` would raise, and change nothing; `current` must be fresh."""
        known = self.current.get(check_name(name))
        fingerprints = {c.fingerprint for c in certificates}
        for fingerprint in fingerprints:
            holder = self.current.holder(fingerprint)
            if holder is not None and holder.name != name:
                raise BadInput(
                    "already-pinned",
                    f"this certificate is pinned already, as {holder.name}",
                    f"to give it another name: peerauth peer rename {holder.name} {name}",
                )
        if known is not None and not fingerprints <= set(known.pins):
            raise BadInput(
                "name-taken",
                f"there is a peer {name} already, with another certificate ({known.pins[0]})",
                f"if it has a new certificate: peerauth peer remove {name}   then add it again; or choose --name",
            )
        if known is None and self.files_of(name):
            raise BadInput(
                "name-taken",
                f"{files.shown(self.files_of(name)[0])} is there already but cannot be used",
                f"to take it away: peerauth peer remove {name}",
            )

    def add(self, name: str, certificates: list[Certificate], settings: PeerSettings | None = None) -> bool:
        """Pin these certificates as the peer `name`; True when something changed.

        Settings are written first, so that the peer is never admitted without its restrictions. Raises
        BadInput("name-taken") when the name has other certificates, BadInput("already-pinned") when another peer has one.
        """
        known = self.refresh().get(name)
        self.check_addition(name, certificates)
        files.make_directory(self.path)
        notes = self.path / f"{name}.toml"
        changed = False
        if settings is not None and (known is None or settings != known.settings):
            if settings != NO_SETTINGS:
                files.write_atomic(notes, format_settings(settings))
            else:
                files.remove(notes)
            changed = True
        elif known is None:
            files.remove(notes)  # left over from an earlier peer of this name
        if known is None:
            files.write_new(self.path / f"{name}.crt", "".join(c.pem for c in certificates).encode())
            changed = True
        self.refresh()
        return changed

    def remove(self, name: str) -> list[Fingerprint]:
        """Take a peer out of the list and return the pins it had. Raises BadInput("no-such-peer")."""
        known = self.refresh().get(check_name(name))
        paths = self.files_of(name)
        if not paths:
            raise no_such_peer(name, self.current)
        for path in paths:
            files.remove(path)
        for path in self._notes_of(name):
            files.remove(path)
        self.refresh()
        return list(known.pins) if known else []

    def rename(self, old: str, new: str) -> None:
        """Give a peer another name; its restrictions hold at every moment. Raises BadInput."""
        check_name(new)
        self.refresh()
        paths = self.files_of(check_name(old))
        if not paths:
            raise no_such_peer(old, self.current)
        if new in self.current or self.files_of(new):
            raise BadInput("name-taken", f"there is a peer {new} already")
        files.remove(self.path / f"{new}.toml")
        for notes in self._notes_of(old):
            files.write_atomic(self.path / f"{new}.toml", files.read_bounded(notes, MAXIMUM_BYTES))
        for path in paths:
            files.rename(path, self.path / f"{new}{path.suffix}")
        for notes in self._notes_of(old):
            files.remove(notes)
        self.refresh()

    def _notes_of(self, name: str) -> list[Path]:
        return [path for path in self.path.glob("*.[tT][oO][mM][lL]") if path.stem.lower() == name]


def _assemble(looked: Mapping[str, _File], directory: Path) -> tuple[PeerSet, tuple[Problem, ...]]:
    problems = [file.problem for file in looked.values() if file.problem]
    settings = {Path(name).stem.lower(): file for name, file in looked.items() if name.lower().endswith(".toml")}
    held: dict[str, list[_File]] = {}
    for name, file in sorted(looked.items()):
        if not name.lower().endswith(".toml") and file.pins:
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


def no_such_peer(name: str, peers: PeerSet) -> BadInput:
    """The error for a name that nobody has."""
    near = difflib.get_close_matches(name, list(peers.peers), 1)
    hint = f"did you mean {near[0]}?" if near else "to see who is pinned: peerauth peer list"
    return BadInput("no-such-peer", f"there is no peer {check_name(name)}", hint)


def _is_ours(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith((*CERTIFICATE_SUFFIXES, ".toml"))

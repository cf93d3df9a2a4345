"""The pins of a peer, as they come and go when its owner changes its certificate.

A step that is killed anywhere leaves the peer with the pins it had or those it is to have (promise 4): certificates are
written or removed first, the notes after them. So a new pin has its peer's restrictions from its first moment, a pin that is
taken out is out before anything is written about it, and a date of retirement outlives the pin that it is about. Whoever was
not answered asks again, and what is done already is not done twice.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from peerauth.errors import BadInput
from peerauth.store import files
from peerauth.store.peerfile import format_settings, parse_settings
from peerauth.store.peerfiles import PeerFiles
from peerauth.store.pinfile import as_pem, pinned_in, with_pin, without_pins
from peerauth.store.records import CERTIFICATE_SUFFIXES, file_names, is_notes, is_ours, peer_name
from peerauth.store.usual import MAXIMUM_BYTES
from peerauth.trust.certificate import Certificate
from peerauth.trust.continuity import Kind
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import NO_SETTINGS, PeerSet, PeerSettings, check_name, no_such_peer
from peerauth.trust.succession import Verdict

Value = TypeVar("Value")
Gone = Callable[[Certificate], bool]


class PeerPins(PeerFiles):
    """The files of each peer, and how one pin is followed by another."""

    def files_of(self, name: str) -> list[Path]:
        """The certificate files that make this peer."""
        return sorted(self.path / file for file in self._files() if peer_name(file) == name and not is_notes(file))

    def certificates(self, name: str) -> list[Certificate]:
        """The pinned certificates of a peer, as they are on disk now; broken files are left out."""
        held: list[Certificate] = []
        for path in self.files_of(check_name(name)):
            with contextlib.suppress(BadInput):
                held += pinned_in(files.read_bounded(path, MAXIMUM_BYTES))
        return list(dict.fromkeys(held))

    def has_followed(self, name: str) -> bool:
        """Whether a statement about this peer's certificates was ever followed. Raises BadInput where notes are broken."""
        return self._settings_of(check_name(name)).rotated is not None

    def succeed(
        self,
        name: str,
        certificate: Certificate,
        retire_old_at: datetime | None,
        *,
        of: Certificate | None = None,
        issued: datetime | None = None,
    ) -> None:
        """Pin a peer's next certificate beside what it has, and note when the old one is retired.

        The old one is `of`, or all that it has (`retire_old_at` None: they stay). `issued`: when the statement was made that
        says so. Pins that are retired already go. A peer whose last pin was dropped is known again, with its notes. Raises
        BadInput: `no-such-peer`, `already-pinned` by another, or what is wrong with its notes.
        """
        with self._locked():
            self._succeed(name, certificate, retire_old_at, of, issued)

    def withdraw(self, name: str, new: Certificate, *, issued: datetime | None = None) -> None:
        """Take back what `succeed` did: the new pin goes, and the one that it follows stays. Raises as `succeed`."""
        with self._locked():
            self._withdraw(name, new, issued)

    def drop(
        self, name: str, pin: Fingerprint, *, key: Fingerprint | None = None, issued: datetime | None = None
    ) -> list[Fingerprint]:
        """Take a pin out at once, with whatever was pinned on its word, and those on whose word it was; the pins that went.

        `key`: every pin over this key goes as well. With its last pin the peer goes; its notes stay for when it comes back.
        Raises as `succeed`.
        """
        with self._locked():
            return self._drop(name, pin, key, issued)

    def follow(self, judge: Callable[[PeerSet], Verdict]) -> Verdict:
        """Do what `judge` says about the peers as they are now, while no other of us changes them. Raises as `succeed`."""
        with self._locked():
            verdict = judge(self.refresh())
            for step in verdict.steps:
                match step.kind:
                    case Kind.NEXT:
                        self._succeed(step.peer, step.new, step.retire, step.old, step.issued)
                    case Kind.WITHDRAWN:
                        self._withdraw(step.peer, step.new, step.issued)
                    case Kind.COMPROMISED:
                        self._drop(step.peer, step.old.fingerprint, step.old.key_fingerprint, step.issued)
            return verdict

    def _succeed(
        self, name: str, new: Certificate, date: datetime | None, of: Certificate | None, issued: datetime | None
    ) -> None:
        known = self.refresh().get(check_name(name))
        if known is None and not self._notes_of(name):
            raise no_such_peer(name, self.current)
        holder = self.current.holder(new.fingerprint) or self.current.key_holder(new)
        if holder is not None and holder.name != name:
            raise BadInput("already-pinned", f"this certificate is pinned already, as {holder.name}")
        settings = self._settings_of(name)
        old = [one for one in self._held(name) if one != new]
        if of is not None:
            old = [one for one in old if one == of or (settings.pin == "key" and one.key_fingerprint == of.key_fingerprint)]
        if known is not None and not self.files_of(name):  # removed by hand since we looked
            raise no_such_peer(name, self.current)
        if known is None or new.fingerprint not in known.pins:
            self._place(name, new)
        if of is None:
            old = [one for one in old if settings.retires(one) is None]
        after = settings if date is None else _retiring(settings, old, new, date)
        if old:
            endorsed = of if of in old else old[-1]  # of several certificates over one key, the one that it was said of
            after = replace(after, follows=_entry(after.follows, new.fingerprint, endorsed.fingerprint))
        self._tidy(name, _issued(after, issued))

    def _withdraw(self, name: str, new: Certificate, issued: datetime | None) -> None:
        self._known(name)
        settings, held = self._settings_of(name), self._held(name)
        old = dict(settings.follows).get(new.fingerprint)
        self._take_out(name, lambda one: one == new)
        if old is not None:
            back = {old, *(one.key_fingerprint for one in held if one.fingerprint == old)}
            settings = replace(settings, retire=tuple(entry for entry in settings.retire if entry[0] not in back))
        self._tidy(name, _issued(settings, issued))

    def _drop(self, name: str, pin: Fingerprint, key: Fingerprint | None, issued: datetime | None) -> list[Fingerprint]:
        self._known(name)
        known = self.current.get(name)
        try:
            settings = self._settings_of(name)
        except BadInput:  # taking away does not wait for that; what is broken stays as it is
            settings = None
        follows = (settings or (known.settings if known else NO_SETTINGS)).follows
        held = self.certificates(name)
        first = {one.fingerprint for one in held if one.fingerprint == pin or one.key_fingerprint == key} | {pin}
        gone = first
        while more := {one for pair in follows if not gone.isdisjoint(pair) for one in pair} - gone:
            gone = gone | more  # what it has endorsed, and what has endorsed it: a thief may have the keys before it, too
        self._take_out(
            name, lambda one: one.fingerprint in gone - first
        )  # as long as the first is there, this can begin anew
        self._take_out(name, lambda one: one.fingerprint in first, broken_too=True)
        if settings is not None:
            self._tidy(name, _issued(settings, issued))
        self._look_at(name)
        return [one.fingerprint for one in held if one.fingerprint in gone]

    def _known(self, name: str) -> None:
        self.refresh()
        if not self.files_of(check_name(name)) and not self._notes_of(name):
            raise no_such_peer(name, self.current)

    def _held(self, name: str) -> list[Certificate]:
        """The peer's certificates. Raises BadInput where a file is broken: what it pins is not known."""
        return [one for path in self.files_of(name) for one in pinned_in(files.read_bounded(path, MAXIMUM_BYTES))]

    def _place(self, name: str, certificate: Certificate) -> None:
        """Put one more certificate into the peer's file, or into another of its name where that cannot be."""
        paths = self.files_of(name)
        for path in paths:
            with contextlib.suppress(BadInput):
                more = with_pin(files.read_bounded(path, MAXIMUM_BYTES), certificate, MAXIMUM_BYTES)
                if more is not None:
                    _rewrite(path, more)
                    return
        for suffix in CERTIFICATE_SUFFIXES:
            free = self.path / f"{name}{suffix}"
            if not os.path.lexists(free):
                files.write_new(free, as_pem([certificate]))
                return
        _rewrite(paths[0], as_pem([*pinned_in(files.read_bounded(paths[0], MAXIMUM_BYTES)), certificate]))

    def _take_out(self, name: str, gone: Gone, *, broken_too: bool = False) -> None:
        """Take certificates out of the peer's files; a file that is left with none goes.

        `broken_too`: so does one that cannot be read, because a server that could read it before still goes by it.
        """
        for path in self.files_of(name):
            try:
                data = files.read_bounded(path, MAXIMUM_BYTES)
                fewer = without_pins(data, gone)
            except BadInput:
                if broken_too:
                    files.remove(path)
                continue
            if not fewer:
                files.remove(path)
            elif fewer != data:
                _rewrite(path, fewer)

    def _tidy(self, name: str, settings: PeerSettings) -> None:
        """Take out what is retired, unless nothing would be left, and note what there is to note about the others."""
        now = datetime.now(UTC)
        held = self.certificates(name)
        retired = {one for one in held if (date := settings.retires(one)) is not None and date <= now}
        if retired and len(retired) < len(held):
            self._take_out(name, retired.__contains__)
            held = [one for one in held if one not in retired]
        pins = {one.fingerprint for one in held}
        ours = pins | {one.key_fingerprint for one in held if settings.pin == "key"}
        settings = replace(
            settings,
            retire=tuple(entry for entry in settings.retire if entry[0] in ours),
            follows=tuple(entry for entry in settings.follows if set(entry) <= pins),
        )
        path = (self._notes_of(name) or [self.path / f"{name}.toml"])[-1]
        if settings != self._settings_of(name):
            files.write_atomic(path, format_settings(settings), _mode(path))
        self._look_at(name)

    def _look_at(self, name: str) -> None:
        """Look at this peer's files again."""
        before = file_names(name, self._snapshot.records.get(name))
        self._look_again(*before, *(path.name for path in (*self.files_of(name), *self._notes_of(name))))

    def _settings_of(self, name: str) -> PeerSettings:
        """What is noted now. Raises BadInput: what cannot be read is not written over."""
        notes = self._notes_of(name)
        return parse_settings(files.read_bounded(notes[-1], MAXIMUM_BYTES), notes[-1]) if notes else NO_SETTINGS

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep other changes of ours out; where there is no directory, there is nothing to change."""
        return files.locked(self.path) if self.path.is_dir() else contextlib.nullcontext()

    def _notes_of(self, name: str) -> list[Path]:
        return [self.path / file for file in self._files() if peer_name(file) == name and is_notes(file)]

    def _files(self) -> list[str]:
        try:
            with os.scandir(self.path) as entries:
                return [entry.name for entry in entries if is_ours(entry.name)]
        except OSError:
            return []

    def _look_again(self, *names: str) -> None:
        """Look at what was changed here; at everything, where nothing could be looked at before."""
        self.refresh(names if self.readable else None)


def _retiring(settings: PeerSettings, old: list[Certificate], new: Certificate, date: datetime) -> PeerSettings:
    """These certificates are refused from this date on, or from an earlier one that they have."""
    retire = settings.retire
    for one in old:
        pins = [one.fingerprint]
        if settings.pin == "key" and one.key_fingerprint != new.key_fingerprint:
            pins.append(one.key_fingerprint)
        for pin in pins:
            retire = _entry(retire, pin, min(date, dict(retire).get(pin, date)))
    return replace(settings, retire=retire)


def _issued(settings: PeerSettings, issued: datetime | None) -> PeerSettings:
    if issued is None or (settings.rotated is not None and settings.rotated >= issued):
        return settings
    return replace(settings, rotated=issued)


def _entry(
    table: tuple[tuple[Fingerprint, Value], ...], key: Fingerprint, value: Value
) -> tuple[tuple[Fingerprint, Value], ...]:
    return tuple(sorted({**dict(table), key: value}.items(), key=lambda entry: entry[0]))


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644


def _rewrite(path: Path, data: bytes) -> None:
    files.write_atomic(path, data, _mode(path))

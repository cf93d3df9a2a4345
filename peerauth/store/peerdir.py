"""The peers directory as a person's list: what is in it, and the changes made to it.

Every step of a change leaves the directory in a state that admits nobody wrongly, killed at any point (promise 4).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from peerauth.errors import BadInput
from peerauth.store import files
from peerauth.store.peerfile import format_settings
from peerauth.store.peerpins import PeerPins
from peerauth.store.records import is_notes, peer_name
from peerauth.store.usual import MAXIMUM_BYTES
from peerauth.trust.certificate import Certificate
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import NO_SETTINGS, Peer, PeerSettings, check_name, no_such_peer
from peerauth.trust.reading import leaves, read_certificates

_NAMESAKES = 1000


class PeerDirectory(PeerPins):
    """The allow-list on disk, to be looked at and to be changed."""

    def each(self) -> Iterator[tuple[str, Certificate]]:
        """(name, certificate) for every pinned certificate of the peers of `current`, as they are on disk now.

        Broken files are left out; a certificate that a peer has in two files comes twice.
        """
        for file in sorted(self._files()):
            name = peer_name(file)
            if not is_notes(file) and name in self.current:
                with contextlib.suppress(BadInput):
                    for certificate in leaves(read_certificates(files.read_bounded(self.path / file, MAXIMUM_BYTES))):
                        yield name, certificate

    def everything(self) -> dict[str, list[Certificate]]:
        """Every peer of `current` with its pinned certificates, as they are on disk now; broken files are left out."""
        held: dict[str, list[Certificate]] = {name: [] for name in self.current.peers}
        for name, certificate in self.each():
            if certificate not in held[name]:
                held[name].append(certificate)
        return held

    def peer(self, name: str) -> Peer:
        """The peer of this name in the current set. Raises BadInput("no-such-peer") naming the nearest."""
        found = self.current.get(name)
        if found is None:
            raise no_such_peer(name, self.current)
        return found

    def check_addition(self, name: str, certificates: Iterable[Certificate]) -> None:
        """Raise what `add` would raise, and change nothing; `current` must be fresh."""
        known = self.current.get(check_name(name))
        certificates = list(certificates)
        for certificate in certificates:
            holder = self.current.known(certificate)
            if holder is not None and holder.name != name:
                what = "certificate is pinned" if certificate.fingerprint in holder.pins else "certificate's key is pinned"
                raise BadInput(
                    "already-pinned",
                    f"this {what} already, as {holder.name}",
                    f"to give it another name: peerauth peer rename {holder.name} {name}",
                )
        if known is not None and not all(self._has(known, c) for c in certificates):
            again = "then add it again"
            if {c.key_fingerprint for c in self.certificates(name)} == {c.key_fingerprint for c in certificates}:
                again = "then add it again, with --pin key if its software always renews it over the same key, as it did now"
            raise BadInput(
                "name-taken",
                f"there is a peer {name} already, with another certificate ({known.pins[0]})",
                f"if it has a new certificate: peerauth peer remove {name}   {again}; or choose --name",
            )
        if known is None and self.files_of(name):
            raise BadInput(
                "name-taken",
                f"{files.shown(self.files_of(name)[0])} is there already but cannot be used",
                f"to take it away: peerauth peer remove {name}",
            )

    def _has(self, peer: Peer, certificate: Certificate) -> bool:
        holder = self.current.known(certificate)
        return holder is not None and holder.name == peer.name

    def add(self, name: str, certificates: list[Certificate], settings: PeerSettings | None = None) -> bool:
        """Pin these certificates as the peer `name`; True when something changed.

        A peer that is pinned by its key may have a newer certificate over it, which then takes the old one's place. Settings
        are written first, so that the peer is never admitted without its restrictions. Raises
        BadInput("name-taken") when the name has other certificates, BadInput("already-pinned") when another peer has one.
        """
        files.make_directory(self.path)
        with files.locked(self.path):
            return self._add(name, certificates, settings)

    def _add(self, name: str, certificates: list[Certificate], settings: PeerSettings | None) -> bool:
        known = self.refresh().get(name)
        self.check_addition(name, certificates)
        if known is not None and settings is not None:  # what its statements have brought about is nobody else's to change
            now = known.settings
            settings = replace(settings, rotated=now.rotated, retire=now.retire, follows=now.follows)
        elif known is None:
            settings = self._as_restricted_as_before(name, settings)
        renewed = known if known and not {c.fingerprint for c in certificates} <= set(known.pins) else None
        file = self._one_file(renewed, certificates) if renewed else self.path / f"{name}.crt"
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
        if known is None or renewed:
            write = files.write_new if known is None else files.write_atomic
            write(file, "".join(c.pem for c in certificates).encode())
            changed = True
        self._look_again(notes.name, file.name)
        return changed

    def _as_restricted_as_before(self, name: str, settings: PeerSettings | None) -> PeerSettings | None:
        """What still holds for a peer whose key was lost and that comes back: what restricts it, not what it was given."""
        try:
            left = self._settings_of(name)
        except BadInput:
            return settings
        if left.rotated is None:
            return settings
        given = settings or NO_SETTINGS
        return replace(
            given,
            sources=given.sources or left.sources,
            until=given.until or left.until,
            max_connections=given.max_connections or left.max_connections,
            rotation=given.rotation or left.rotation,
            rotated=left.rotated,
        )

    def _one_file(self, known: Peer, certificates: list[Certificate]) -> Path:
        """The file of a peer whose certificates were renewed over the keys that are pinned, if these alone are in it."""
        paths = self.files_of(known.name)
        if len(paths) == 1 and set(known.keys) == {certificate.key_fingerprint for certificate in certificates}:
            return paths[0]
        text = f"{known.name} is pinned by its key, and admitted with this certificate already"
        raise BadInput("already-pinned", text, f"to keep the certificate as well, put it there: {files.shown(paths[0])}")

    def enrol(
        self,
        wanted: str,
        certificate: Certificate,
        settings: PeerSettings | None = None,
        reserved: frozenset[str] | None = None,
    ) -> str:
        """Pin a certificate under a name that its owner proposes, or the next free one (`alice-2`); which it is.

        A certificate that is pinned already stays as it is. `reserved`: the names that nobody takes for themselves, besides
        those of peers whose key was lost, who may come back; None where a person of this node gave the name. Raises
        BadInput("name-reserved"), BadInput("bad-name"), or what `add` raises.
        """
        check_name(wanted)
        for name in (wanted, *(f"{wanted[:60]}-{number}" for number in range(2, _NAMESAKES))):
            holder = self.refresh().known(certificate)
            if holder is not None:
                return holder.name
            if reserved is not None and (name in reserved or self._is_expected(name)):
                text = f"the name {name} is kept for somebody at this node: its owner must give it"
                raise BadInput("name-reserved", text, "choose another name")
            try:
                self.add(name, [certificate], settings)
            except BadInput as error:
                if error.code not in ("name-taken", "exists"):
                    raise
            else:
                return name
        raise BadInput("name-taken", f"there are too many peers called {wanted} already", "choose another name")

    def _is_expected(self, name: str) -> bool:
        """Whether this is a peer whose last pin went because its key was lost, and whose notes wait for it."""
        if self.files_of(name) or not self._notes_of(name):
            return False
        try:
            return self._settings_of(name).rotated is not None
        except BadInput:
            return True

    def left_of(self, name: str) -> list[Path]:
        """Every file that is about this peer, its certificates first; of one whose key was lost the notes may be left."""
        return [*self.files_of(name), *self._notes_of(name)]

    def remove(self, name: str) -> list[Fingerprint]:
        """Take a peer out of the list and return the pins it had. Raises BadInput("no-such-peer")."""
        with self._locked():
            return self._remove(name)

    def _remove(self, name: str) -> list[Fingerprint]:
        known = self.refresh().get(check_name(name))
        paths = self.left_of(name)
        if not paths:
            raise no_such_peer(name, self.current)
        for path in paths:
            files.remove(path)
        self._look_again(*(path.name for path in paths))
        return list(known.pins) if known else []

    def rename(self, old: str, new: str) -> None:
        """Give a peer another name; its restrictions hold at every moment. Raises BadInput."""
        with self._locked():
            self._rename(old, new)

    def _rename(self, old: str, new: str) -> None:
        check_name(new)
        self.refresh()
        paths = self.files_of(check_name(old))
        if not paths:
            raise no_such_peer(old, self.current)
        if new in self.current or self.files_of(new):
            raise BadInput("name-taken", f"there is a peer {new} already")
        noted = self._notes_of(old)
        files.remove(self.path / f"{new}.toml")
        for notes in noted:
            files.write_atomic(self.path / f"{new}.toml", files.read_bounded(notes, MAXIMUM_BYTES))
        for path in paths:
            files.rename(path, self.path / f"{new}{path.suffix}")
        for notes in noted:
            files.remove(notes)
        before = [path.name for path in (*paths, *noted)]
        self._look_again(f"{new}.toml", *(f"{new}{path.suffix}" for path in paths), *before)

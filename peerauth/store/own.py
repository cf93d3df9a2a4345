"""This node's identity as it is on disk, for programs that stay while it changes."""

from __future__ import annotations

from pathlib import Path

from peerauth.errors import BadInput
from peerauth.locks import ForkLock
from peerauth.store.config import Config
from peerauth.store.home import read_identity
from peerauth.trust.identity import Identity

_Signs = tuple[tuple[int, int, int, int] | None, ...]


def rotation_path(config: Config) -> Path:
    """Where it is kept what is under way (store/succession.py)."""
    return config.path.parent / f"{config.name}.rotation.json"


class Own:
    """The identity that a program presents; `look` finds out whether another one is in its place. Safe in any thread.

    The passphrase stays in memory: without it the next identity could not be read, and this program holds the open key
    anyway (docs/decisions/0026).
    """

    def __init__(self, config: Config, identity: Identity, passphrase: bytes | None = None) -> None:
        self.config = config
        self.identity = identity
        self.passphrase = passphrase
        self._seen: _Signs | None = None  # the first look reads: the identity may have changed since it was read
        self._doubtful: _Signs | None = None
        self._lock = ForkLock()

    def __repr__(self) -> str:
        return f"<Own {self.identity!r}>"  # never the passphrase

    @property
    def stirred(self) -> bool:
        """Whether the files look different from what was last read: two calls of stat(2)."""
        return self._signs() != self._seen

    def look(self) -> bool:
        """Take over what is on disk; whether that is another certificate than before.

        What cannot be used leaves the old one. Raises BadInput for it once, and not at the first look: key and certificate
        are two files, and between the two there is a moment.
        """
        with self._lock:
            signs = self._signs()
            if signs == self._seen:
                return False
            try:
                found = read_identity(self.config, self.passphrase)
            except BadInput:
                if signs == self._doubtful:
                    self._seen = signs
                    raise
                self._doubtful = signs
                return False
            self._seen, self._doubtful = signs, None
            changed = found.certificate != self.identity.certificate
            self.identity = found
            return changed

    def _signs(self) -> _Signs:
        found: list[tuple[int, int, int, int] | None] = []
        for path in (self.config.key, self.config.certificate):
            try:
                status = path.stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        return tuple(found)

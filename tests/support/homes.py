"""Homes made in this process, with an identity of any shape; to be loaded with `Node.load`."""

from __future__ import annotations

from pathlib import Path

from peerauth.trust.identity import Identity, KeyType, new_key, self_signed
from tests.support.dropin import NOW


class Home:
    """A node's home on disk."""

    def __init__(self, path: Path, name: str, identity: Identity | None = None) -> None:
        self.path, self.name = path, name
        (path / "peers").mkdir(parents=True)
        (path / "config.toml").write_text(f'[node]\nname = "{name}"\n')
        self.becomes(identity or self_signed(new_key(KeyType.P256), name, NOW))

    @property
    def cert(self) -> Path:
        return self.path / f"{self.name}.crt"

    @property
    def key(self) -> Path:
        return self.path / f"{self.name}.key"

    def becomes(self, identity: Identity) -> None:
        """Have this identity from now on."""
        self.identity = identity
        self.key.write_bytes(identity.key_pem())
        self.key.chmod(0o600)
        self.cert.write_text(identity.certificate.pem)

    def knows(self, *others: Home) -> Home:
        for other in others:
            (self.path / "peers" / f"{other.name}.crt").write_text(other.identity.certificate.pem)
        return self

    def forgets(self, other: Home) -> Home:
        (self.path / "peers" / f"{other.name}.crt").unlink()
        return self

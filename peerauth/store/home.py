"""A node's home: its identity on disk, made once and replaced only when asked, the old pair kept.

Key and certificate are two files, and two renames are not one. So a new certificate waits as `NAME.crt.next` until the new
key is in place; whoever finds a key that belongs to the waiting certificate finishes the step (promise 4).
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from peerauth.errors import BadInput, PeerAuthError
from peerauth.store import files
from peerauth.store.config import FILE_NAME, Config, load_config
from peerauth.trust.certificate import Certificate
from peerauth.trust.identity import Identity, load_identity
from peerauth.trust.peers import check_name
from peerauth.trust.reading import MAXIMUM_BYTES, read_certificates

_CONFIG = """\
# {name}: a node of peerauth. Written once by keygen; from now on it is yours. An unknown setting is an error.

[node]
name = "{name}"              # its key is {name}.key (never leaves this machine), its certificate {name}.crt
# peers = "peers"            # the allow-list: one certificate a peer, the file's name is the peer's name
# min_tls = "1.3"            # "1.2" also lets in software that has no TLS 1.3

# What this node offers to its peers; without any block, `peerauth serve` says hello on 0.0.0.0:8443.
# [[serve]]
# name = "web"
# listen = "0.0.0.0:8443"
# http = "http://127.0.0.1:8000"  # or one of app, root, command, target = "127.0.0.1:5432"; with none: the hello service
# allow = ["alice", "tag:ci", "@operators"]   # without it: every pinned peer

# A local address that leads to a peer, for `peerauth up`, which runs all of this file (`--check` finds every mistake in it).
# [[tunnel]]
# listen = "127.0.0.1:5432"
# peer = "db-1"

# [groups]
# operators = ["alice", "bob"]
"""
_AUTOMATIC = """
[rotation]
every = "{every}"            # serve makes the next certificate when this one is so old
"""


@dataclass(frozen=True, slots=True)
class Created:
    """What keygen did."""

    identity: Identity
    config: Config
    kept: tuple[Path, ...]


def existing_name(home: Path) -> str | None:
    """The name of the node that lives here already, if any."""
    try:
        return load_config(home).name
    except BadInput as error:
        if error.code != "no-config":
            raise
        return None


def check_free(home: Path, name: str, *, force: bool) -> None:
    """Raise BadInput("exists") where keygen would have to overwrite, or BadInput("other-node") where another node lives."""
    check_name(name)
    lives_here = existing_name(home)
    if lives_here is not None and lives_here != name:
        raise BadInput(
            "other-node",
            f"{files.shown(home)} is the home of {lives_here}, not of {name}",
            f"choose another directory: peerauth keygen {name} --home DIR",
        )
    key, certificate = _pair(home, name, lives_here)
    taken = [path for path in (key, certificate) if path.exists() or path.is_symlink()]
    if taken and not force:
        anew = "to begin anew, unknown to every peer, the old pair kept beside it: peerauth keygen --force"
        raise BadInput(
            "exists",
            f"{files.shown(taken[0])} is there already, and a key is never overwritten unasked",
            f"to replace it, and tell every peer: peerauth rotate; {anew}" if len(taken) == 2 else anew,
        )


def create(
    home: Path,
    name: str,
    identity: Identity,
    now: datetime,
    passphrase: bytes | None,
    *,
    force: bool,
    every: str | None = None,
) -> Created:
    """Write the identity, `config.toml` and `peers/` into `home`. What is there is kept unless `force`.

    `every`: how old the certificate gets before `serve` makes the next one, for a config.toml that is not there yet.
    """
    check_free(home, name, force=force)
    files.make_directory(home)
    key, certificate = _pair(home, name, existing_name(home))
    files.make_directory(home / "peers")
    key_pem, certificate_pem = identity.key_pem(passphrase), identity.certificate.pem.encode()
    kept: tuple[Path, ...] = ()
    if key.exists() or certificate.exists():
        kept = replace_pair(key, certificate, key_pem, certificate_pem, f".old-{now:%Y%m%dT%H%M%SZ}")
    else:
        files.write_new(key, key_pem, 0o600)
        files.write_new(certificate, certificate_pem)
    if not (home / FILE_NAME).exists():
        text = _CONFIG.format(name=name) + (_AUTOMATIC.format(every=every) if every else "")
        files.write_new(home / FILE_NAME, text.encode())
    return Created(identity, load_config(home), kept)


def _pair(home: Path, name: str, lives_here: str | None) -> tuple[Path, Path]:
    if lives_here is None:
        return home / f"{name}.key", home / f"{name}.crt"
    config = load_config(home)
    return config.key, config.certificate


def _waiting(certificate: Path) -> Path:
    return certificate.with_name(certificate.name + ".next")


def replace_pair(key: Path, certificate: Path, key_pem: bytes, certificate_pem: bytes, suffix: str) -> tuple[Path, ...]:
    """Put another pair in the place of this one, which is kept beside it; where.

    What was begun and killed may be done again with the same pair and suffix, and goes on.
    """
    if _content(key) == key_pem:
        if _content(certificate) != certificate_pem:
            files.write_atomic(certificate, certificate_pem)
        files.remove(_waiting(certificate))
        return tuple(
            path
            for path in (key.with_name(key.name + suffix), certificate.with_name(certificate.name + suffix))
            if path.exists()
        )
    waiting = _waiting(certificate)
    suffix = _free(suffix, key, certificate)
    files.write_atomic(waiting, certificate_pem)
    kept = tuple(path for path in (_keep(key, suffix), _keep(certificate, suffix)) if path)
    files.write_atomic(key, key_pem, 0o600)
    _finish(waiting, certificate)
    return kept


def _content(path: Path) -> bytes | None:
    try:
        return files.read_bounded(path, MAXIMUM_BYTES)
    except BadInput:
        return None


def _keep(path: Path, suffix: str) -> Path | None:
    kept = path.with_name(path.name + suffix)
    return kept if _is(kept, path) else files.keep_beside(path, suffix)


def _is(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _finish(waiting: Path, certificate: Path) -> None:
    """The last step; whoever reads the identity just now may be quicker, which is as good."""
    try:
        files.replace(waiting, certificate)
    except PeerAuthError:
        if waiting.exists():
            raise


def _free(suffix: str, *paths: Path) -> str:
    """`suffix`, or with a number after it: two pairs may be replaced within one second."""
    chosen, number = suffix, 1
    while any((there := path.with_name(path.name + chosen)).exists() and not _is(there, path) for path in paths):
        number += 1
        chosen = f"{suffix}-{number}"
    return chosen


def read_identity(config: Config, passphrase: bytes | None = None) -> Identity:
    """The node's identity from disk. Raises BadInput naming the file."""
    try:
        key_pem = files.read_bounded(config.key, MAXIMUM_BYTES)
        certificate_pem = files.read_bounded(config.certificate, MAXIMUM_BYTES)
    except BadInput as error:
        if error.code != "no-such-file":
            raise
        raise _no_identity(config, error) from error
    try:
        return load_identity(key_pem, certificate_pem, passphrase)
    except BadInput as error:
        finished = _finish_replacement(config, key_pem, passphrase) if error.code == "key-mismatch" else None
        if finished is not None:
            return finished
        about = config.certificate if error.code in ("malformed", "empty", "not-a-certificate") else config.key
        raise BadInput(error.code, f"{files.shown(about)}: {error.message}", error.hint) from error


def _finish_replacement(config: Config, key_pem: bytes, passphrase: bytes | None) -> Identity | None:
    waiting = _waiting(config.certificate)
    try:
        identity = load_identity(key_pem, files.read_bounded(waiting, MAXIMUM_BYTES), passphrase)
    except BadInput:
        return None
    _finish(waiting, config.certificate)
    return identity


def _no_identity(config: Config, error: BadInput) -> BadInput:
    half = config.key.exists() or config.certificate.exists()
    hint = "put it back, or make a new pair: peerauth keygen --force" if half else "type: peerauth keygen"
    what = "this node has half an identity" if half else "this node has no identity yet"
    return BadInput("no-identity", f"{what}: {error.message}", hint)


def read_own_certificate(config: Config) -> Certificate:
    """The node's certificate alone, for what needs no key. Raises BadInput naming the file."""
    try:
        return read_certificates(files.read_bounded(config.certificate, MAXIMUM_BYTES))[0]
    except BadInput as error:
        if error.code == "no-such-file":
            raise _no_identity(config, error) from error
        named = files.shown(config.certificate)
        raise BadInput(
            error.code, error.message if named in error.message else f"{named}: {error.message}", error.hint
        ) from error


def key_is_encrypted(config: Config) -> bool:
    """Whether the private key needs a passphrase; False also when it cannot be read."""
    try:
        return b"ENCRYPTED" in files.read_bounded(config.key, MAXIMUM_BYTES)
    except BadInput:
        return False


def key_is_exposed(config: Config) -> bool:
    """Whether others on this machine can read the private key."""
    try:
        return bool(stat.S_IMODE(config.key.stat().st_mode) & 0o077)
    except OSError:
        return False

"""A change of this node's identity on disk, so that whoever is killed at any point is taken up where it was.

    NAME.next.key, NAME.next.crt    the next identity, until it is presented
    NAME.rotation.json              what is under way: trust/errands.py

The rules:
1. NAME.rotation.json is there before a next identity is, and goes after it. A next identity that it does not stand behind
   (its phase is another than "telling") was heard of by nobody, or is presented already: it is removed.
2. What is told to anybody is in NAME.rotation.json first.
3. Everything is done under one lock, by whichever process; doing it again changes nothing.
4. Every statement that anybody may have heard is in NAME.rotations (store/rotations.py) too, in the order in which they were
   made and with a moment of its own: peers that were away ask for them, and of two that differ the older counts no more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from peerauth.errors import BadInput
from peerauth.store import files
from peerauth.store.config import Config
from peerauth.store.home import read_own_certificate, replace_pair
from peerauth.store.own import rotation_path
from peerauth.store.rotations import append_statement, read_statements
from peerauth.store.state import DIRECTORY
from peerauth.trust.continuity import Kind, Statement, endorse, read_statement
from peerauth.trust.errands import Errand, Phase, Reply, Succession, dump, load, perhaps_heard
from peerauth.trust.identity import Identity, load_identity
from peerauth.trust.peers import PeerSet
from peerauth.trust.reading import MAXIMUM_BYTES

LARGEST = 16 << 20  # bytes of NAME.rotation.json
NOTHING = Succession(Phase.DONE)
_SECOND = timedelta(seconds=1)  # what statements are dated to


@dataclass(frozen=True, slots=True)
class Terms:
    """What a rotation is like. `deadline`: when the old certificate is presented no more; `retire`: when peers drop it."""

    kind: Kind
    now: datetime
    deadline: datetime
    retire: datetime


def next_pair(config: Config) -> tuple[Path, Path]:
    """Where the next identity is: key and certificate."""
    key, certificate = config.key, config.certificate
    return (
        key.with_name(f"{key.stem}.next{key.suffix}"),
        certificate.with_name(f"{certificate.stem}.next{certificate.suffix}"),
    )


def read_succession(config: Config) -> Succession:
    """What is under way. Raises BadInput: `bad-rotation`, or what reading raises."""
    path = rotation_path(config)
    try:
        return load(files.read_bounded(path, LARGEST))
    except BadInput as error:
        if error.code == "no-such-file":
            return NOTHING
        if error.code != "bad-rotation":
            raise
        hint = f"after moving {files.shown(path)} away, peers that have accepted a next certificate still wait for it"
        raise BadInput(error.code, f"{files.shown(path)} cannot be used: {error.message}", hint) from error


def begin(config: Config, current: Identity, new: Identity, passphrase: bytes | None, terms: Terms) -> Succession:
    """Write down that `new` comes after `current`; what is under way already goes on as it is.

    Where the old key is compromised, a next one that lay beside it is withdrawn, and its place is taken. Raises BadInput:
    `other-identity`, `exists`, or what reading NAME.rotations raises.
    """
    with _locked(config):
        succession = _recovered(config)
        errands, before = list(succession.errands), succession.under_way
        issued = _after_all(config, terms.now)
        if before is not None:
            if terms.kind is not Kind.COMPROMISED or before.statement.kind is Kind.COMPROMISED:
                return succession
            errands.pop()
            with contextlib.suppress(BadInput):  # what cannot be read cannot sign
                errands.append(Errand(_withdrawn(config, before, current, passphrase, issued)))
                issued += _SECOND
        elif any(path.exists() for path in next_pair(config)):
            raise BadInput("exists", f"{files.shown(next_pair(config)[0])} or its certificate is there, and is none of ours")
        if read_own_certificate(config) != current.certificate:
            raise _other_identity(config)
        statement = endorse(terms.kind, current, new, issued, max(issued, terms.retire))
        _save(config, Succession(Phase.MAKING, tuple(errands)))
        key, certificate = next_pair(config)
        files.write_atomic(key, new.key_pem(passphrase), 0o600)
        files.write_atomic(certificate, new.certificate.pem.encode())
        begun = _save(config, Succession(Phase.TELLING, (*errands, Errand(statement)), terms.deadline))
        _publish(config, begun)
        return begun


def _after_all(config: Config, now: datetime) -> datetime:
    """A moment for a new statement: later than that of every one before, because older ones count no more."""
    said = read_statements(config)
    try:
        return max(now, read_statement(said[-1]).issued + _SECOND) if said else now
    except BadInput:
        return now


def _publish(config: Config, succession: Succession) -> None:
    """Rule 4: what was said is in NAME.rotations; killed before it was, it is added by whoever comes next."""
    said = read_statements(config)
    for errand in succession.errands:
        if errand.statement.data not in said:
            append_statement(config, errand.statement.data)


def _withdrawn(config: Config, errand: Errand, current: Identity, passphrase: bytes | None, issued: datetime) -> Statement:
    _publish(config, Succession(Phase.DONE, (errand,)))
    return endorse(Kind.WITHDRAWN, current, read_next(config, passphrase), issued, errand.statement.retire)


def read_next(config: Config, passphrase: bytes | None) -> Identity:
    """The next identity. Raises BadInput naming what is wrong."""
    key, certificate = (files.read_bounded(path, MAXIMUM_BYTES) for path in next_pair(config))
    return load_identity(key, certificate, passphrase)


def switch(config: Config, peers: PeerSet | None = None) -> tuple[Path, ...]:
    """Put the next identity in the place of the present one, which is kept beside it; where.

    What none of `peers` waits for is over. Nothing happens where no rotation is under way. Raises BadInput:
    `other-identity`, or what reading the next one raises.
    """
    with _locked(config):
        succession = _recovered(config)
        errand = succession.under_way
        if errand is None:
            return ()
        statement = errand.statement
        key_pem, certificate_pem = (files.read_bounded(path, MAXIMUM_BYTES) for path in next_pair(config))
        if read_own_certificate(config) not in (statement.old, statement.new):
            raise _other_identity(config)
        word = "compromised" if statement.kind is Kind.COMPROMISED else "old"
        suffix = f".{word}-{statement.issued.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        kept = replace_pair(config.key, config.certificate, key_pem, certificate_pem, suffix)
        _publish(config, succession)
        done = replace(succession, phase=Phase.DONE, deadline=None)
        _save(config, done if peers is None else done.trimmed(peers, datetime.now(UTC)))
        _remove_next(config)
        return kept


def put_off(config: Config, deadline: datetime) -> None:
    """Another deadline for the rotation under way, if there is one; what its statement says stays as it was said."""
    with _locked(config):
        succession = _recovered(config)
        if succession.under_way is not None:
            _save(config, replace(succession, deadline=deadline))


def abort(config: Config, current: Identity, passphrase: bytes | None, peers: PeerSet, now: datetime) -> Succession:
    """Take the rotation under way back; those who may have heard of it are to be told.

    Raises BadInput: `no-rotation`, `too-late`.
    """
    with _locked(config):
        succession = _recovered(config)
        errand = succession.under_way
        if errand is None:
            raise _nothing_to_abort(config, current)
        statement = errand.statement
        if current.certificate not in (statement.old, statement.new):
            raise _other_identity(config)
        if statement.kind is Kind.COMPROMISED or current.certificate == statement.new:
            raise BadInput("too-late", "the switch has begun, and there is no way back", "to finish it: peerauth rotate")
        withdrawn = _withdrawn(config, errand, current, passphrase, _after_all(config, now))
        taken_back = Errand(withdrawn, only=perhaps_heard(errand, peers))
        left = Succession(Phase.DONE, (*succession.errands[:-1], taken_back))
        _publish(config, _save(config, left))
        _remove_next(config)
        return left


def _nothing_to_abort(config: Config, current: Identity) -> BadInput:
    said = read_statements(config)
    if said and read_statement(said[-1]).new == current.certificate:
        hint = "to replace it, rotate again: peerauth rotate   (the old pair is kept beside it)"
        return BadInput("too-late", "the new certificate is presented already, and there is no way back", hint)
    return BadInput("no-rotation", "no rotation is under way", "to begin one: peerauth rotate")


def recover(config: Config) -> Succession:
    """What is under way, after finishing what somebody who was killed has left half done: a making, or a switch."""
    if not rotation_path(config).exists():
        return NOTHING
    with _locked(config):
        succession = _recovered(config)
    errand = succession.under_way
    if errand is None or read_own_certificate(config) != errand.statement.new:
        _publish(config, succession)
        return succession
    switch(config)
    return read_succession(config)


def note(config: Config, replies: Mapping[bytes, Mapping[str, Reply | None]], peers: PeerSet) -> Succession:
    """Note what became of telling: by the statement's data, by name."""
    with _locked(config):
        before = read_succession(config)
        after = before.noted(replies)
        if after.phase is Phase.DONE:
            after = after.trimmed(peers, datetime.now(UTC))
        return after if after == before else _save(config, after)


@contextlib.contextmanager
def _locked(config: Config) -> Iterator[None]:
    directory = config.path.parent / DIRECTORY
    files.make_directory(directory, 0o700)
    with files.locked(directory):
        yield


def _recovered(config: Config) -> Succession:
    succession = read_succession(config)
    if succession is NOTHING or succession.phase is Phase.TELLING:
        return succession
    _remove_next(config)
    _publish(config, succession)
    if succession.phase is Phase.MAKING or not succession.errands:
        return _save(config, Succession(Phase.DONE, succession.errands))
    return succession


def _save(config: Config, succession: Succession) -> Succession:
    files.write_atomic(rotation_path(config), dump(succession), 0o600)
    if succession.phase is Phase.DONE and not succession.errands:
        _remove_next(config)
        files.remove(rotation_path(config))
    return succession


def _remove_next(config: Config) -> None:
    for path in next_pair(config):
        if path.exists():
            files.remove(path)


def _other_identity(config: Config) -> BadInput:
    text = f"{files.shown(config.certificate)} is not the certificate that the rotation began with"
    return BadInput("other-identity", text, f"put it back (it is kept as .old-...), or remove {config.name}.rotation.json")

"""Kill what a rotation does at every step on the disk, and go on as `rotate` and `serve` do.

Run as a program: OPERATION PLACE.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from peerauth.store.config import Config, load_config
from peerauth.store.home import create, read_identity
from peerauth.store.own import rotation_path
from peerauth.store.rotations import read_statements
from peerauth.store.succession import (
    Terms,
    abort,
    begin,
    next_pair,
    note,
    read_next,
    read_succession,
    recover,
    switch,
)
from peerauth.trust.continuity import Kind, read_statement
from peerauth.trust.errands import Errand, Outcome, Reply
from peerauth.trust.identity import Identity, KeyType, new_key, self_signed
from peerauth.trust.peers import Peer, PeerSet, PeerSettings
from tests.promises.killing import NEW, NOW, OLD, OPERATIONS, main

AT = NOW.replace(microsecond=0)
MID = self_signed(new_key(KeyType.P256), "node", NOW)
SECRET: bytes | None = None  # an encrypted key takes long to open, and is a file like any other
ALICE = self_signed(new_key(KeyType.P256), "alice", NOW).certificate.fingerprint
PEERS = PeerSet.of([Peer("alice", (ALICE,), PeerSettings(address="127.0.0.1:1"))])
ACCEPTED = Reply(Outcome.ACCEPTED, AT, ALICE)


def terms(kind: Kind) -> Terms:
    return Terms(kind, AT, AT + timedelta(days=7), AT + timedelta(days=14))


def presented(config: Config) -> Identity:
    return read_identity(config, SECRET)


def holds(config: Config, *identities: Identity) -> None:
    """One of these is presented, and nothing of a next identity lies about unexplained."""
    assert presented(config).certificate in [one.certificate for one in identities]
    if recover(config).under_way is None:
        assert not any(path.exists() for path in next_pair(config))
    assert not config.certificate.with_name("node.crt.next").exists() or presented(config).certificate in [
        one.certificate for one in identities
    ]


def is_over(config: Config, word: str) -> None:
    """NEW is presented, the old pair is kept once, the statement is public, and nothing else is left."""
    assert presented(config).certificate == NEW.certificate
    kept = sorted(path.name.partition(f".{word}-")[0] for path in config.path.parent.glob(f"node.*.{word}-*"))
    assert kept == ["node.crt", "node.key"], kept
    assert read_statement(read_statements(config)[-1]).new == NEW.certificate
    assert not any(path.exists() for path in next_pair(config))
    note(config, {data: {"alice": ACCEPTED} for data in map(_data, recover(config).errands)}, PEERS)
    assert not rotation_path(config).exists()


def _data(errand: Errand) -> bytes:
    return errand.statement.data


def said(config: Config) -> list[Kind]:
    """What is public, each with a moment of its own."""
    statements = [read_statement(data) for data in read_statements(config)]
    moments = [one.issued for one in statements]
    assert moments == sorted(set(moments))
    return [one.kind for one in statements]


def born(place: Path) -> None:
    create(place, "node", OLD, NOW, SECRET, force=False)


def begun(place: Path) -> None:
    born(place)
    begin(load_config(place), OLD, NEW, SECRET, terms(Kind.NEXT))


def accepted(place: Path) -> None:
    begun(place)
    acknowledge(place)


def mistaken(place: Path) -> None:
    born(place)
    begin(load_config(place), OLD, MID, SECRET, terms(Kind.NEXT))


def make(place: Path) -> None:
    begin(load_config(place), OLD, NEW, SECRET, terms(Kind.NEXT))


def make_left(place: Path) -> None:
    config = load_config(place)
    holds(config, OLD)
    errand = recover(config).under_way
    if errand is not None:
        assert read_next(config, SECRET).certificate == errand.statement.new
    make(place)
    errand = read_succession(config).under_way
    assert errand is not None
    assert read_next(config, SECRET).certificate == errand.statement.new == NEW.certificate
    switch(config)
    is_over(config, "old")


def acknowledge(place: Path) -> None:
    config = load_config(place)
    (errand,) = read_succession(config).errands
    note(config, {errand.statement.data: {"alice": ACCEPTED}}, PEERS)


def acknowledge_left(place: Path) -> None:
    config = load_config(place)
    holds(config, OLD)
    (errand,) = read_succession(config).errands
    assert errand.told in ({}, {"alice": ACCEPTED})
    acknowledge(place)
    assert recover(config).due(PEERS, AT)


def change(place: Path) -> None:
    switch(load_config(place), PEERS)


def change_left(place: Path) -> None:
    config = load_config(place)
    holds(config, OLD, NEW)
    before = recover(config)
    if before.under_way is not None:
        assert presented(config).certificate == OLD.certificate
        assert before.due(PEERS, AT), "what alice said is lost"
    change(place)
    change(place)
    is_over(config, "old")
    assert len(read_statements(config)) == 1


def take_back(place: Path) -> None:
    config = load_config(place)
    if recover(config).under_way is not None:
        abort(config, OLD, SECRET, PEERS, AT)


def take_back_left(place: Path) -> None:
    config = load_config(place)
    holds(config, OLD)
    take_back(place)
    (errand,) = recover(config).errands
    assert (errand.statement.kind, errand.statement.new) == (Kind.WITHDRAWN, NEW.certificate)
    assert errand.only == frozenset({"alice"})
    assert not any(path.exists() for path in next_pair(config))
    assert said(config) == [Kind.NEXT, Kind.WITHDRAWN]
    note(config, {errand.statement.data: {"alice": ACCEPTED}}, PEERS)
    assert not rotation_path(config).exists()


def take_back_unheard(place: Path) -> None:
    abort(load_config(place), OLD, SECRET, PeerSet.of([]), AT)


def take_back_unheard_left(place: Path) -> None:
    config = load_config(place)
    holds(config, OLD)
    if recover(config).under_way is not None:
        abort(config, OLD, SECRET, PeerSet.of([]), AT)
    recover(config)
    note(config, {}, PeerSet.of([]))
    assert not rotation_path(config).exists()
    assert not any(path.exists() for path in next_pair(config))
    assert said(config) == [Kind.NEXT, Kind.WITHDRAWN]


def declare(place: Path) -> None:
    begin(load_config(place), OLD, NEW, SECRET, terms(Kind.COMPROMISED))


def broken(place: Path) -> None:
    born(place)
    declare(place)


def break_off(place: Path) -> None:
    config = load_config(place)
    recover(config)
    own = presented(config)
    if own.certificate != NEW.certificate:
        begin(config, own, NEW, SECRET, terms(Kind.COMPROMISED))
    switch(config)


def break_off_left(place: Path) -> None:
    config = load_config(place)
    holds(config, OLD, NEW)
    break_off(place)
    (errand,) = recover(config).errands
    assert errand.statement.kind is Kind.COMPROMISED
    is_over(config, "compromised")


def overtake_left(place: Path) -> None:
    config = load_config(place)
    holds(config, OLD, NEW)
    break_off(place)
    first, second = recover(config).errands
    assert (first.statement.kind, first.statement.new) == (Kind.WITHDRAWN, MID.certificate), "still believed in"
    assert (second.statement.kind, second.statement.old) == (Kind.COMPROMISED, OLD.certificate)
    assert said(config) == [Kind.NEXT, Kind.WITHDRAWN, Kind.COMPROMISED]
    is_over(config, "compromised")


OPERATIONS |= {
    "rotate-make": (born, make, make_left),
    "rotate-acknowledge": (begun, acknowledge, acknowledge_left),
    "rotate-switch": (accepted, change, change_left),
    "rotate-abort": (accepted, take_back, take_back_left),
    "rotate-abort-unheard": (begun, take_back_unheard, take_back_unheard_left),
    "rotate-compromised": (born, declare, break_off_left),
    "rotate-compromised-switch": (broken, change, break_off_left),
    "rotate-overtaken": (mistaken, declare, overtake_left),
}

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), stride=2)

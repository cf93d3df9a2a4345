"""The holes of the plain ClientCAs recipe (a pool of peers' certificates as authorities), each with an accepted twin.

Every test runs against both doors: `serve`, and http.server in the drop-in context.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.seeds.actors import DEADLINE_S, Home
from tests.seeds.callers import DAY, NOW, Caller, Mint
from tests.seeds.conftest import Door

pytestmark = pytest.mark.parametrize("kind", ["serve", "connection"])


def greeting(kind: str, name: str) -> str:
    """What a pinned peer is told; the engine knows it by name."""
    return f"Hello, {name}!" if kind == "serve" else "Hello, mutual TLS client!"


def test_minted_certificate_of_a_pinned_ca_true_peer_is_refused(door: Door, node: Home, kind: str, tmp_path: Path) -> None:
    """A peer whose pinned certificate says CA:TRUE enters with it, and with nothing that it signed."""
    alice = Mint(ca=True).make(tmp_path, "alice")
    mallory = Mint(subject="mallory", serial=1, issuer=alice).make(tmp_path, "mallory")
    node.pin("alice", alice.cert)
    port = door(kind, node).port

    admitted = Caller(alice, node.pair.cert).ask(port)
    refused = Caller(mallory, node.pair.cert).ask(port)

    assert admitted.body.startswith(greeting(kind, "alice")), admitted.refusal
    assert refused.body == ""
    if kind == "serve":
        assert refused.refusal == "TLSV1_ALERT_UNKNOWN_CA"


def test_minted_twin_of_a_pinned_leaf_is_refused(door: Door, node: Home, kind: str, tmp_path: Path) -> None:
    """Nor does a CA:TRUE peer sign another peer's name into existence: subject and serial are bob's, the issuer alice."""
    alice = Mint(ca=True).make(tmp_path, "alice")
    bob = Mint(subject="bob", serial=7).make(tmp_path, "bob")
    false_bob = Mint(subject="bob", serial=7, issuer=alice).make(tmp_path, "false-bob")
    node.pin("alice", alice.cert)
    node.pin("bob", bob.cert)
    port = door(kind, node).port

    admitted = Caller(bob, node.pair.cert).ask(port)
    refused = Caller(false_bob, node.pair.cert).ask(port)

    assert admitted.body.startswith(greeting(kind, "bob")), admitted.refusal
    assert refused.body == ""


@pytest.mark.parametrize("key_identifiers", [True, False])
def test_same_subject_and_serial_with_another_key_is_refused(
    door: Door, node: Home, kind: str, tmp_path: Path, key_identifiers: bool
) -> None:
    """A clone that copies every name and number of a pinned certificate, but has its own key, is a stranger."""
    shape = Mint(key_identifiers=key_identifiers)
    alice, clone = shape.make(tmp_path, "alice"), shape.make(tmp_path, "clone")
    node.pin("alice", alice.cert)
    port = door(kind, node).port

    admitted = Caller(alice, node.pair.cert).ask(port)
    refused = Caller(clone, node.pair.cert).ask(port)

    assert admitted.body.startswith(greeting(kind, "alice")), admitted.refusal
    assert refused.body == ""
    assert refused.refusal


@pytest.mark.parametrize("key_identifiers", [True, False])
def test_pinned_peers_with_the_same_subject_are_all_admitted(
    door: Door, node: Home, kind: str, tmp_path: Path, key_identifiers: bool
) -> None:
    """Of several peers that all call themselves the same, each enters as itself, also without key identifiers."""
    shape = Mint(subject="localhost", key_identifiers=key_identifiers)
    pairs = {name: replace(shape, serial=n).make(tmp_path, name) for n, name in enumerate(["a", "b", "c", "d"], 1)}
    for name in ("a", "b", "c"):
        node.pin(name, pairs[name].cert)
    port = door(kind, node).port

    answers = {name: Caller(pair, node.pair.cert).ask(port) for name, pair in pairs.items()}

    for name in ("a", "b", "c"):
        assert answers[name].body.startswith(greeting(kind, name)), answers[name].refusal
    assert answers["d"].body == ""


@pytest.mark.parametrize(
    ("since", "until"),
    [(NOW - 2 * DAY, NOW - DAY), (NOW + DAY, NOW + 2 * DAY)],
    ids=["expired", "not yet valid"],
)
def test_pinned_certificate_outside_its_dates_is_refused(
    door: Door, node: Home, kind: str, tmp_path: Path, since: object, until: object
) -> None:
    """A pin does not outlive its certificate, nor come before it; the twin has other dates and enters."""
    late = replace(Mint(), since=since, until=until).make(tmp_path, "late")  # type: ignore[arg-type]
    valid = Mint().make(tmp_path, "valid")
    node.pin("late", late.cert)
    node.pin("valid", valid.cert)
    port = door(kind, node).port

    admitted = Caller(valid, node.pair.cert).ask(port)
    refused = Caller(late, node.pair.cert).ask(port)

    assert admitted.body.startswith(greeting(kind, "valid")), admitted.refusal
    assert refused.body == ""
    if kind == "serve":
        assert "ALERT" in refused.refusal


def test_removed_peer_does_not_resume_its_session(door: Door, node: Home, kind: str, tmp_path: Path) -> None:
    """A TLS 1.3 ticket from before the removal opens nothing; a peer that stayed comes in with its ticket."""
    gone, stays = Mint().make(tmp_path, "gone"), Mint(subject="bob").make(tmp_path, "stays")
    file = node.pin("gone", gone.cert)
    node.pin("stays", stays.cert)
    port = door(kind, node).port
    callers = {"gone": Caller(gone, node.pair.cert), "stays": Caller(stays, node.pair.cert)}
    tickets = {name: caller.ask(port).session for name, caller in callers.items()}
    before = callers["gone"].ask(port, tickets["gone"])
    assert before.body.startswith(greeting(kind, "gone"))
    assert before.resumed or kind != "serve"

    file.unlink()

    give_up = time.monotonic() + DEADLINE_S
    while callers["gone"].ask(port, tickets["gone"]).body:
        assert time.monotonic() < give_up, "the ticket still opens the door"
    admitted = callers["stays"].ask(port, tickets["stays"])
    assert admitted.body.startswith(greeting(kind, "stays")), admitted.refusal


def test_ticket_does_not_outlive_the_certificate(door: Door, node: Home, kind: str, tmp_path: Path) -> None:
    """A ticket is good for two hours, but not beyond the dates of the certificate that it was given to."""
    lasts = Mint(subject="bob").make(tmp_path, "lasts")
    node.pin("lasts", lasts.cert)
    soon = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=4)
    ends = Mint(until=soon).make(tmp_path, "ends")
    node.pin("ends", ends.cert)
    port = door(kind, node).port
    callers = {"ends": Caller(ends, node.pair.cert), "lasts": Caller(lasts, node.pair.cert)}
    tickets = {name: caller.ask(port).session for name, caller in callers.items()}
    assert all(tickets.values())

    while callers["ends"].ask(port, tickets["ends"]).body:
        assert dt.datetime.now(dt.UTC) < soon + dt.timedelta(seconds=5), "the ticket still opens the door"
    admitted = callers["lasts"].ask(port, tickets["lasts"])

    assert dt.datetime.now(dt.UTC) > soon
    assert admitted.body.startswith(greeting(kind, "lasts")), admitted.refusal
    assert admitted.resumed or kind != "serve"

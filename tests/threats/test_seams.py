"""Threat: somebody uses one way of becoming known to get around what another way, or a person, has settled."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from peerauth.address import Address, parse_address
from peerauth.cli.pending import _pin
from peerauth.client.control import conversation, exactly
from peerauth.client.target import resolve
from peerauth.control.messages import Check, Checked
from peerauth.errors import BadInput, TrustRefused
from peerauth.net.reach import leads_to
from peerauth.server.invitation import Joiner, welcome
from peerauth.store.invitations import Invitation, Invitations
from peerauth.store.pairing import Pairing
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.pending import approving, ask_person, forget_questions, strangers
from peerauth.store.state import State
from peerauth.trust.certificate import Certificate
from peerauth.trust.continuity import Kind
from peerauth.trust.identity import self_signed
from peerauth.trust.pairing import GUESSES, Guess
from peerauth.trust.peers import Peer, PeerSet, PeerSettings
from peerauth.trust.succession import MOST_PINS, Bearer, Outcome, Question, judge
from tests.support.dropin import NOW
from tests.support.engine import identity, on_loops, running
from tests.support.inviting import invite, inviting, join, pinned, refused
from tests.support.rotating import HOUR, Home, compromised, fresh
from tests.support.workers import Home as Inviting


@on_loops("asyncio")
async def test_who_was_removed_does_not_come_back_by_a_token_it_never_used_up(tmp_path: Path) -> None:
    home = Inviting(tmp_path)
    async with inviting(home) as node:
        token = invite(home.home, node.port, uses=5)
        PeerDirectory(home.path).add("alice", [identity("alice").certificate])
        await node.until(lambda: "alice" in node.server.peers.current)
        assert (await join("alice", token)).answer.already
        pins = PeerDirectory(home.path).remove("alice")
        Invitations(State(home.home)).forget(pins, datetime.now(UTC))
        await node.until(lambda: "alice" not in node.server.peers.current)
        assert "removed since" in (await refused("alice", token)).message
        assert pinned(home) == {}


def test_a_retired_key_takes_nobody_out() -> None:
    """Nor does it ask a person: it lies on an old disk, while the pin is still in the file."""
    a, b = (identity(name).certificate.fingerprint for name in "ab")
    moment = NOW + HOUR
    settings = PeerSettings(rotated=NOW - 3 * HOUR, retire=((a, moment),), follows=((b, a),))
    peers = PeerSet.of([Peer("alice", (a, b), settings)])
    bearer = Bearer(identity("mallory").certificate.der)
    said = [compromised("a", "mallory", -1)]
    over = judge(said, peers, bearer, "ask", moment)
    assert (over.outcome, over.steps, over.question) == (Outcome.REFUSED, (), None)
    assert judge(said, peers, bearer, "ask", moment - timedelta(seconds=1)).steps


def test_a_question_about_one_alice_is_none_about_another(tmp_path: Path) -> None:
    home = Home(tmp_path)
    directory, state = PeerDirectory(home.path), State(home.home)
    directory.add("alice", [identity("a").certificate])
    ask_person(state, Question("alice", identity("b").certificate, identity("a").certificate, NOW), "10.0.0.1:5")
    directory.remove("alice")
    directory.add("alice", [identity("x").certificate], PeerSettings(tags=("admin",)))
    (stranger,) = strangers(state)
    with pytest.raises(BadInput), approving(state, stranger.fingerprint):
        _pin(directory, stranger, identity("b").certificate, "alice", None)


def test_what_is_withdrawn_while_a_person_thinks_is_not_approved(tmp_path: Path) -> None:
    home = Home(tmp_path)
    directory, state = PeerDirectory(home.path), State(home.home)
    directory.add("alice", [identity("a").certificate])
    ask_person(state, Question("alice", identity("b").certificate, identity("a").certificate, NOW), "10.0.0.1:5")
    (stranger,) = strangers(state)
    forget_questions(state, "alice", [stranger.fingerprint])
    with pytest.raises(BadInput), approving(state, stranger.fingerprint, "alice"):
        _pin(directory, stranger, identity("b").certificate, "alice", None)


def test_a_peer_that_is_pinned_by_its_key_keeps_its_restrictions(tmp_path: Path) -> None:
    home = Home(tmp_path)
    peers, book = PeerDirectory(home.path), Invitations(State(tmp_path))
    key = identity("a").key
    first, second = identity("a").certificate, self_signed(key, "again", NOW).certificate
    tight = PeerSettings(pin="key", max_connections=1, until=NOW + HOUR)
    peers.add("alice", [first], tight)
    now = datetime.now(UTC)
    book.add(Invitation(b"12345678", b"v" * 32, now, now + HOUR, 1, "alice", ("admin",)), now)
    assert welcome(book, peers, b"12345678", Joiner(second, "alice", None), now) == ("alice", True)
    assert peers.refresh().peers["alice"].settings == tight


def test_it_joins_by_an_invitation_that_was_made_after_its_removal(tmp_path: Path) -> None:
    book, alice, now = Invitations(State(tmp_path)), identity("alice").certificate.fingerprint, datetime.now(UTC)
    book.add(Invitation(b"12345678", b"v" * 32, now, now + HOUR, 5), now)
    book.forget([alice], now)
    with pytest.raises(BadInput, match="removed since"):
        book.count(b"12345678", alice, now)
    later = now + timedelta(microseconds=1)
    book.add(Invitation(b"abcdefgh", b"v" * 32, later, now + HOUR, 5), later)
    book.count(b"abcdefgh", alice, later)


def test_strangers_who_knock_after_the_last_guess_make_nobody_wait(tmp_path: Path) -> None:
    """Each took the lock of state/ for 50 ms, for which the loop waits when it notes what became of a guess."""
    pairing = Pairing(tmp_path)
    with pairing.opened("node", None, ()):
        for _ in range(GUESSES):
            pairing.begin(Guess("10.0.0.1:5", identity("a").certificate.fingerprint, time.time()))
        with State(tmp_path).changing("anything"), pytest.raises(TrustRefused):
            pairing.begin(Guess("10.0.0.1:5", identity("a").certificate.fingerprint, time.time()))


def test_a_peer_does_not_pile_up_certificates() -> None:
    """Each costs everybody who waits for peers/ some time, and an overlap may be 90 days."""
    everybody = [identity(f"c{number}") for number in range(MOST_PINS + 2)]
    pins = tuple(one.certificate.fingerprint for one in everybody[:-1])
    follows = fresh(Kind.NEXT, everybody[-2], everybody[-1], NOW - HOUR)
    for count, outcome in ((MOST_PINS, Outcome.REFUSED), (MOST_PINS - 1, Outcome.ACCEPTED)):
        peers = PeerSet.of([Peer("alice", pins[-count:])])
        assert judge([follows], peers, Bearer(follows.new.der), "auto", NOW).outcome is outcome
    retired = PeerSettings(retire=((pins[1], NOW),))
    peers = PeerSet.of([Peer("alice", pins[1:], retired)])
    assert judge([follows], peers, Bearer(follows.new.der), "auto", NOW).outcome is Outcome.ACCEPTED


def test_who_is_removed_by_hand_while_a_statement_is_followed_stays_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = PeerDirectory(tmp_path)
    directory.add("alice", [identity("a").certificate])
    held = PeerDirectory._held

    def slowly(self: PeerDirectory, name: str) -> list[Certificate]:
        (tmp_path / "alice.crt").unlink(missing_ok=True)
        return held(self, name)

    monkeypatch.setattr(PeerDirectory, "_held", slowly)
    with pytest.raises(BadInput, match="no peer alice"):
        directory.succeed("alice", identity("b").certificate, NOW, of=identity("a").certificate)
    assert not list(tmp_path.iterdir())


@on_loops("asyncio")
async def test_strangers_take_no_room_at_the_desk_from_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerauth.server.desk.MOST_OF_A_SOURCE", 2)
    home = Home(tmp_path)
    home.pin("alice")
    pin = identity("node").certificate.fingerprint
    async with running(home, config=home.config) as node, AsyncExitStack() as stack:
        where = Address("127.0.0.1", node.port)
        for _ in range(3):
            await stack.enter_async_context(conversation(identity("mallory"), where, exactly(pin)))
        await asyncio.sleep(0.2)
        assert len(node.server._desk) == 2
        async with conversation(identity("alice"), where, exactly(pin)) as line:
            await line.send(Check())
            assert (await line.receive(Checked)).name == "alice"


def test_who_notes_something_about_a_peer_takes_no_retirement_back(tmp_path: Path) -> None:
    """The person at the command line has read the notes before the server followed a statement."""
    old, new = identity("a").certificate, identity("b").certificate
    person, server = PeerDirectory(tmp_path), PeerDirectory(tmp_path)
    person.add("alice", [old])
    before = person.refresh().peers["alice"].settings
    server.succeed("alice", new, NOW + 9 * HOUR, of=old, issued=NOW)
    person.add("alice", [old], replace(before, note="in the cellar"))
    after = server.refresh().peers["alice"].settings
    assert (after.note, after.rotated) == ("in the cellar", NOW)
    assert after.retire == ((old.fingerprint, NOW + 9 * HOUR),)
    assert after.follows == ((new.fingerprint, old.fingerprint),)


def test_nobody_takes_the_name_of_somebody_whose_key_was_lost(tmp_path: Path) -> None:
    """Its notes wait for it; a person of this node gives the name, and nobody else takes it."""
    peers = PeerDirectory(tmp_path / "peers")
    a, b, c = (identity(name).certificate for name in "abc")
    peers.add("alice", [a], PeerSettings(tags=("ci",)))
    peers.drop("alice", a.fingerprint, issued=NOW)
    with pytest.raises(BadInput) as error:
        peers.enrol("alice", b, None, frozenset())
    assert error.value.code == "name-reserved"
    assert peers.enrol("alicia", b, None, frozenset()) == "alicia"
    assert peers.enrol("alice", c) == "alice"


@pytest.mark.parametrize(
    ("claims", "remote", "noted"),
    [
        ("10.0.0.7:8443", "10.0.0.7", True),
        ("[2001:db8::7]:8443", "2001:db8::7", True),
        ("10.0.0.7:8443", "::ffff:10.0.0.7", True),
        ("127.0.0.3:8443", "127.0.0.1", True),
        ("10.0.0.7:8443", "10.0.0.8", False),
        ("127.0.0.1:8443", "10.0.0.8", False),
        ("db.invalid:5432", "10.0.0.8", False),
    ],
)
def test_an_address_counts_where_its_owner_was_seen(claims: str, remote: str, noted: bool) -> None:
    assert leads_to(parse_address(claims), ip_address(remote)) is noted


def test_whoever_says_to_be_elsewhere_is_not_taken_for_who_is_there(tmp_path: Path) -> None:
    """Promise 9: an address that is typed without a name means whoever is noted there."""
    peers, book, now = PeerDirectory(tmp_path / "peers"), Invitations(State(tmp_path)), datetime.now(UTC)
    book.add(Invitation(b"12345678", b"v" * 32, now, now + HOUR, 2), now)
    welcome(book, peers, b"12345678", Joiner(identity("a").certificate, "zed", None, "db.example:5432"), now)
    welcome(book, peers, b"12345678", Joiner(identity("b").certificate, "db", "10.0.0.7:5432"), now)
    with pytest.raises(BadInput) as error:
        resolve("db.example:5432", peers.current)
    assert error.value.code == "who-is-meant"
    assert "db.example:5432" in peers.current.peers["zed"].settings.note
    assert resolve("10.0.0.7:5432", peers.current).peer.name == "db"


@on_loops("asyncio")
async def test_a_peer_that_is_not_admitted_is_not_told_that_it_has_joined(tmp_path: Path) -> None:
    home = Inviting(tmp_path)
    for settings, already in (("", True), ("until = 2020-01-01", False)):
        home.pin("alice", settings=settings)
        async with inviting(home) as node:
            over = invite(home.home, node.port, uses=1)
            Invitations(State(home.home)).revoke([over.id], datetime.now(UTC))
            if already:
                assert (await join("alice", over)).answer.already
            else:
                assert (await refused("alice", over)).code == "until-passed"
                unheard = replace(over, secret=bytes(len(over.secret)))
                assert (await refused("alice", unheard)).code == "invitation"

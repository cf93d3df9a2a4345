"""`join`: who has the token becomes known in one step, as what the invitation says; nothing else comes of it."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from peerauth.client.invitation import Joining
from peerauth.control.invitation import Joined
from peerauth.errors import ConnectFailed, PeerAuthError, TrustRefused
from peerauth.server import invitation, removals
from peerauth.store.peerdir import PeerDirectory
from peerauth.trust.identity import KeyType, new_key, self_signed
from peerauth.trust.peers import PeerSettings
from tests.support.dropin import NOW
from tests.support.engine import Caller, Yard, identity, on_loops, running
from tests.support.inviting import book_of, invite, inviting, join, pinned, proper, refused, say, users
from tests.support.targets import target
from tests.support.workers import Home

TAGS = ("ci", "night")


@on_loops()
async def test_who_has_the_token_is_pinned_and_let_in_at_once(home: Home) -> None:
    async with inviting(home) as node:
        caller = Caller(identity("alice"))
        assert "UNKNOWN_CA" in (await asyncio.to_thread(caller.hear, node.port)).upper().replace(" ", "_")
        token = invite(home.home, node.port, tags=TAGS)
        welcome = await join("alice", token, address="127.0.0.1:9443")
        assert welcome.answer == Joined("alice", "node", already=False)
        assert welcome.certificate == identity("node").certificate
        assert await asyncio.to_thread(caller.hear, node.port) == "hello alice"
        event = await node.hears("enrolled", peer="alice")
        assert token.id.hex() in event.message
        assert event.address is not None
    peer = PeerDirectory(home.path).refresh().peers["alice"]
    assert peer.pins == (identity("alice").certificate.fingerprint,)
    assert (peer.tags, peer.address) == (TAGS, "127.0.0.1:9443")
    assert token.id.hex() in peer.settings.note


@on_loops("asyncio")
async def test_one_joins_after_the_other_in_all_processes(home: Home) -> None:
    """Or one could be counted in the instant in which another, with the same certificate, is pinned and removed."""
    async with inviting(home) as node:
        token = invite(home.home, node.port)
        with book_of(home.home).in_turn():  # as another process has it
            joining = asyncio.create_task(join("alice", token))
            await node.until(node.server._desk.office.turn.locked)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(joining), 0.2)
            assert (users(home.home, token), pinned(home)) == ([], {})
        assert not (await joining).answer.already


@on_loops()
async def test_who_asks_again_is_told_so_and_no_use_is_counted(home: Home) -> None:
    async with inviting(home) as node:
        token = invite(home.home, node.port, uses=2)
        await join("alice", token)
        assert (await join("alice", token, name="other")).answer == Joined("alice", "node", already=True)
        assert users(home.home, token) == ["alice"]
        over = invite(home.home, node.port, ttl=-timedelta(days=30))
        assert (await join("alice", over)).answer.already  # long after, with a token that nobody remembers
        await join("bob", token)
    assert set(pinned(home)) == {"alice", "bob"}


@on_loops()
async def test_who_was_pinned_by_hand_needs_no_use(home: Home) -> None:
    home.pin("anna", identity("alice"))
    async with inviting(home) as node:
        token = invite(home.home, node.port)
        assert (await join("alice", token)).answer == Joined("anna", "node", already=True)
        await join("bob", token)
    assert set(pinned(home)) == {"anna", "bob"}


@on_loops()
async def test_an_invitation_with_a_name_gives_that_name_alone_even_a_reserved_one(home: Home) -> None:
    home.configure('[groups]\nops = ["db-1"]\n')
    async with inviting(home) as node:
        token = invite(home.home, node.port, name="db-1")
        assert (await join("alice", token)).answer.name == "db-1"
        second = invite(home.home, node.port, name="db-1")
        assert (await refused("bob", second)).code == "name-taken"
        assert users(home.home, second) == []
    assert set(pinned(home)) == {"db-1"}


@on_loops()
async def test_a_name_that_is_taken_gets_a_number(home: Home) -> None:
    home.pin("alice")
    async with inviting(home) as node:
        welcome = await join("bob", invite(home.home, node.port), name="alice")
        assert welcome.answer.name == "alice-2"
    assert pinned(home)["alice"] == identity("alice").certificate.fingerprint


@on_loops()
async def test_a_joiner_cannot_take_a_name_that_was_made_for_somebody(home: Home) -> None:
    home.configure('[[serve]]\nlisten = ":1"\nallow = ["db-1"]\n[groups]\nops = ["olga"]\n')
    async with inviting(home) as node:
        token = invite(home.home, node.port)
        for name in ("db-1", "olga"):
            error = await refused("mallory", token, name=name)
            assert (error.code, pinned(home)) == ("name-reserved", {})
        await join("mallory", token, name="db-2")  # the use was not counted
    assert set(pinned(home)) == {"db-2"}


@on_loops("asyncio")
@pytest.mark.parametrize("name", ["", "../evil", "Alice", "a\x1b[2J", "a" * 65, "é", "x" * 1000])
async def test_a_name_that_cannot_be_is_refused_and_no_use_is_counted(home: Home, name: str) -> None:
    async with inviting(home) as node:
        token, who = invite(home.home, node.port), identity("mallory")
        answer = await say(node.port, who, proper(token, who, name))
        assert isinstance(answer, str)
        assert answer.startswith("bad-name: ")
        assert answer.isprintable()
        assert isinstance(await say(node.port, who, proper(token, who, "mallory")), Joined)
    assert set(pinned(home)) == {"mallory"}


@on_loops("asyncio")
@pytest.mark.parametrize("address", ["unix:/run/x", "here", ":8443", "a:0", "\x1b[2J:1", "x" * 999])
async def test_an_address_that_cannot_be_is_refused(home: Home, address: str) -> None:
    async with inviting(home) as node:
        token = invite(home.home, node.port)
        assert (await refused("mallory", token, address=address)).code == "bad-address"
        await join("mallory", token, address="[::1]:8443")
    assert PeerDirectory(home.path).refresh().peers["mallory"].address == "[::1]:8443"


@on_loops("asyncio")
async def test_nobody_waits_for_the_resolver_that_anothers_address_needs(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = threading.Event(), threading.Event()

    def slow(*_: object) -> bool:
        asked.set()
        return not answered.wait(20)

    monkeypatch.setattr(invitation, "leads_to", slow)
    async with inviting(home) as node:
        token = invite(home.home, node.port, uses=2)
        waiting = asyncio.create_task(join("alice", token, address="slow.example:8443"))
        await asyncio.to_thread(asked.wait, 20)
        await join("bob", token)
        assert (set(pinned(home)), waiting.done()) == ({"bob"}, False)
        answered.set()
        await waiting
    assert set(pinned(home)) == {"alice", "bob"}


@on_loops("asyncio")
async def test_a_certificate_that_is_admitted_nowhere_is_not_pinned_and_costs_no_use(home: Home) -> None:
    over = self_signed(new_key(KeyType.P256), "old", NOW - timedelta(days=500), days=30)
    async with inviting(home) as node:
        token = invite(home.home, node.port)
        assert (await refused(over, token)).code == "expired"
        await join("alice", token)
    assert set(pinned(home)) == {"alice"}


@on_loops("asyncio")
async def test_what_is_over_is_told_to_whoever_has_the_token(home: Home) -> None:
    async with inviting(home) as node:
        expired = invite(home.home, node.port, ttl=-timedelta(seconds=1))
        assert "expired" in (await refused("alice", expired)).message
        revoked = invite(home.home, node.port)
        book_of(home.home).revoke([revoked.id], NOW)
        assert "revoked" in (await refused("alice", revoked)).message
        used = invite(home.home, node.port)
        await join("bob", used)
        error = await refused("alice", used)
        assert "1 of 1 times" in error.message
        assert (error.code, error.exit_code) == ("invitation", 3)
        assert error.hint is not None
        await node.hears("refused", code="invitation")
    assert set(pinned(home)) == {"bob"}


@on_loops("asyncio")
async def test_a_node_that_keeps_no_home_invites_nobody(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    async with running(Yard(tmp_path / "peers")) as node:
        assert (await refused("alice", invite(tmp_path / "home", node.port))).code == "not-offered"


@on_loops("asyncio")
async def test_a_server_with_another_certificate_since_is_refused_before_anything_is_said(home: Home) -> None:
    async with inviting(home) as node:
        before = invite(home.home, node.port, own=identity("before"))
        error = await refused("alice", before)
        assert isinstance(error, TrustRefused)
        assert (error.code, error.side) == ("not-expected", "us")
        assert str(identity("before").certificate.fingerprint) in error.message
        assert str(identity("node").certificate.fingerprint) in error.message
        assert "new invitation" in str(error.hint)
        assert not node.told("refused", code="invitation")
        await join("alice", invite(home.home, node.port))


@on_loops("asyncio")
async def test_a_server_whose_own_certificate_is_over_is_told_as_such(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.own = self_signed(new_key(KeyType.P256), "node", NOW - timedelta(days=500), days=30)
    async with inviting(home) as node:
        error = await refused("alice", invite(home.home, node.port, own=home.own))
    assert (error.code, error.exit_code) == ("expired", 3)
    assert "expired on" in error.message


@on_loops("asyncio")
async def test_the_first_address_counts_that_answers_and_is_right(home: Home, tmp_path: Path) -> None:
    async with inviting(home) as node, inviting(Home(tmp_path / "other", "other")) as other:
        token = invite(home.home, 1, other.port, node.port)
        assert (await join("alice", token)).address.port == node.port
        error = await refused("bob", invite(home.home, 1, other.port))
        assert error.code == "not-expected"  # which says more than that nothing listens at the other
        error = await refused("bob", invite(home.home, 1))
        assert isinstance(error, ConnectFailed)
    assert set(pinned(home)) == {"alice"}


@on_loops("asyncio")
async def test_troubles_of_the_node_are_in_its_log_and_none_of_the_joiners_business(home: Home) -> None:
    async with inviting(home) as node:
        token = invite(home.home, node.port)
        home.path.rmdir()
        home.path.write_text("no directory")
        error = await refused("alice", token)
        assert error.code == "failed"
        assert "peers" not in error.message
        event = await node.hears("problem", code="not-pinned")
        assert str(home.path) in event.message
        home.path.unlink()
        home.path.mkdir()
        await join("alice", token)  # the use was not counted
    assert set(pinned(home)) == {"alice"}


@on_loops("asyncio")
async def test_a_server_that_says_nothing_is_not_waited_for_longer_than_it_has(home: Home) -> None:
    with target(lambda sock: sock.recv(1 << 20) and sock.recv(1)) as where:
        token = invite(home.home, where.port)
        joining = Joining(identity("alice"), token, "alice", None, lambda _: None, timeout=0.2)
        with pytest.raises(ConnectFailed) as error:
            await joining.join(0, lambda _: None)
        assert error.value.code == "timeout"
        told: list[str] = []
        began = time.monotonic()
        with pytest.raises(ConnectFailed):
            await joining.join(0.5, lambda error: told.append(error.code))
        assert told == ["timeout"]
        assert time.monotonic() - began < 5


@on_loops("asyncio")
async def test_settings_of_an_invitation_do_not_touch_who_is_pinned(home: Home) -> None:
    home.pin("alice", settings='tags = ["guest"]\n')
    async with inviting(home) as node:
        await join("alice", invite(home.home, node.port, tags=("admin",)))
    assert PeerDirectory(home.path).refresh().peers["alice"].settings == PeerSettings(tags=("guest",))


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "before-it-is-seen"])
@on_loops("asyncio")
async def test_whose_file_was_deleted_does_not_come_back_by_a_token(home: Home, *, seen: bool) -> None:
    home.pin("alice")
    async with inviting(home) as node:
        token = invite(home.home, node.port, uses=3)
        (home.path / "alice.crt").unlink()
        if seen:
            await node.hears("peer-removed", peer="alice")
        assert "was removed since" in (await refused("alice", token)).message
        assert not (await join("bob", token)).answer.already
    async with inviting(home) as later:
        again = proper(token, identity("alice"))
        assert "was removed since" in str(await say(later.port, identity("alice"), again))
        assert set(pinned(home)) == {"bob"}


@on_loops("asyncio")
async def test_what_cannot_be_noted_is_said_and_holds_as_long_as_the_server_runs(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise PeerAuthError("cannot-write", "the disk is full")

    home.pin("alice")
    async with inviting(home) as node:
        token = invite(home.home, node.port)
        monkeypatch.setattr(removals, "_write", full)
        (home.path / "alice.crt").unlink()
        await node.hears("problem", code="not-noted")
        assert "was removed since" in (await refused("alice", token)).message

"""Promise 2: removal is immediate and surgical: live, half-open and resumed connections end, nobody else loses a byte.

250 ms is what a quiet machine keeps; a busy one is given a second.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

import pytest

from peerauth.audit import Event
from peerauth.store.peerdir import PeerDirectory
from peerauth.tls.context import server_context
from peerauth.tls.session import NotAdmitted, Session, Wait
from peerauth.trust.decision import Admitted, Code, Decision, decide
from peerauth.trust.identity import Identity
from peerauth.trust.peers import Peer, PeerSet, PeerSettings
from tests.support.dropin import NOW, mint, tcp_pair
from tests.support.engine import (
    Caller,
    Greeter,
    Halting,
    Running,
    Yard,
    carry,
    hear_line,
    how_it_ends,
    identity,
    on_loops,
    running,
)

PROMPT_S = 1.0


async def admitted(node: Running, own: Identity) -> ssl.SSLSocket:
    tls = await asyncio.to_thread(Caller(own).open, node.port)
    assert (await asyncio.to_thread(hear_line, tls)).startswith("hello ")
    return tls


REMOVALS: dict[str, Callable[[Yard], object]] = {
    "certificate deleted": lambda yard: yard.unpin("alice"),
    "another certificate in its place": lambda yard: yard.place("alice.crt", identity("other").certificate.pem),
    "not from here": lambda yard: yard.place("alice.toml", 'from = ["10.0.0.0/8"]'),
    "until passed": lambda yard: yard.place("alice.toml", "until = 2020-01-01"),
}


@pytest.mark.parametrize("removal", REMOVALS)
@on_loops()
async def test_removed_peer_loses_its_live_connections_and_another_keeps_every_byte(yard: Yard, removal: str) -> None:
    alice, bob = yard.pin("alice"), yard.pin("bob")
    async with running(yard) as node:
        first, second, other = [await admitted(node, own) for own in (alice, alice, bob)]
        begun, over = threading.Event(), threading.Event()
        whole = asyncio.create_task(asyncio.to_thread(carry, other, over, begun))
        await asyncio.to_thread(begun.wait, 20)
        started = time.monotonic()
        REMOVALS[removal](yard)
        ends = await asyncio.gather(*(asyncio.to_thread(how_it_ends, tls) for tls in (first, second)))
        took = time.monotonic() - started
        over.set()
        same = await whole

        assert ends == ["cut", "cut"]
        assert took < PROMPT_S
        assert same
        assert len(node.told("ended", peer="alice")) == 2
        assert not node.told("ended", peer="bob")
        assert node.server.live.count("bob") == 1
        assert node.server.live.count("alice") == 0
        for tls in (first, second, other):
            tls.close()


@on_loops("uvloop")
async def test_what_was_under_way_does_not_look_complete(yard: Yard) -> None:
    """A removed peer's connection ends with a reset, not with TLS's goodbye; one that is closed ends with a goodbye."""
    alice = yard.pin("alice")

    class Sender(Greeter):
        def data_received(self, data: bytes) -> None:
            assert self.transport is not None
            if data == b"close":
                self.transport.close()

    async with running(yard, handler=Sender) as node:
        kept, ended, raw = [await admitted(node, alice) for _ in range(3)]
        kept.sendall(b"close")
        assert await asyncio.to_thread(how_it_ends, kept) == "goodbye"
        yard.unpin("alice")
        assert await asyncio.to_thread(how_it_ends, ended) == "cut"
        with socket.socket(fileno=raw.detach()) as below, pytest.raises(ConnectionResetError):
            await asyncio.to_thread(below.recv, 1)
        kept.close()
        ended.close()


@on_loops()
async def test_half_open_handshake_of_a_removed_peer_ends(yard: Yard) -> None:
    """Its certificate has been shown and accepted, its Finished is missing; the twin is the same of a peer that stays."""
    alice, bob = yard.pin("alice"), yard.pin("bob")
    async with running(yard) as node:
        with Halting(Caller(alice), node.port) as gone, Halting(Caller(bob), node.port) as stays:
            flights = [await asyncio.to_thread(one.answer) for one in (gone, stays)]
            for one, flight in zip((gone, stays), flights, strict=True):
                one.sock.sendall(b"".join(flight[:-1]))
            porch = node.server._porch
            await node.until(lambda: sum(isinstance(a.session and a.session.decision, Admitted) for a in porch) == 2)
            started = time.monotonic()
            yard.unpin("alice")
            await node.hears("refused", code="unknown")
            assert time.monotonic() - started < PROMPT_S
            assert await asyncio.to_thread(gone.sock.recv, 100) == b""
            stays.sock.sendall(flights[1][-1])
            assert await asyncio.to_thread(stays.read) == b"hello bob\n"


@on_loops("uvloop")
async def test_handshake_that_began_before_the_removal_does_not_end_in_admission(yard: Yard) -> None:
    """The old context would do: what refuses is the decision."""
    alice = yard.pin("alice")
    async with running(yard) as node:
        with Halting(Caller(alice), node.port) as late:
            flight = await asyncio.to_thread(late.answer)
            yard.unpin("alice")
            await node.hears("peer-removed", peer="alice")
            late.sock.sendall(b"".join(flight))
            await node.hears("refused", code="unknown")
            assert not node.told("admitted")


@on_loops()
async def test_removed_peers_ticket_opens_nothing_and_anothers_still_works(yard: Yard) -> None:
    callers = {name: Caller(yard.pin(name)) for name in ("alice", "bob")}
    async with running(yard) as node:
        tickets = {}
        for name, caller in callers.items():
            heard, tickets[name], _ = await asyncio.to_thread(caller.visit, node.port)
            assert heard == f"hello {name}"
        heard, _, resumed = await asyncio.to_thread(callers["alice"].visit, node.port, session=tickets["alice"])
        assert (heard, resumed) == ("hello alice", True)
        yard.unpin("alice")
        await node.hears("peer-removed", peer="alice")
        heard, _, _ = await asyncio.to_thread(callers["alice"].visit, node.port, session=tickets["alice"])
        assert heard == "TLSV1_ALERT_UNKNOWN_CA"
        assert await asyncio.to_thread(callers["bob"].hear, node.port, session=tickets["bob"]) == "hello bob"


@on_loops("uvloop")
async def test_resumed_connection_of_a_removed_peer_ends(yard: Yard) -> None:
    caller = Caller(yard.pin("alice"))
    async with running(yard) as node:
        _, ticket, _ = await asyncio.to_thread(caller.visit, node.port)
        tls = await asyncio.to_thread(caller.open, node.port, session=ticket)
        assert await asyncio.to_thread(hear_line, tls) == "hello alice"
        assert tls.session_reused
        started = time.monotonic()
        yard.unpin("alice")
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        assert time.monotonic() - started < PROMPT_S
        tls.close()


def resume(answers: list[Decision]) -> tuple[Session, BaseException | None, bool]:
    """Shake hands twice on one context that is never renewed, with a judge that gives these answers in turn.

    The second time with the first one's ticket; its session, what `confirm` raised, and whether it was resumed.
    """
    context = server_context(identity("node"))
    caller = Caller(identity("alice"))
    ticket: ssl.SSLSession | None = None
    session, trouble, resumed = None, None, False
    for _ in range(2):
        far, near = tcp_pair()
        far.setblocking(False)
        session = Session(context, far, lambda _: answers.pop(0))
        caught: list[BaseException | None] = []

        def accept(session: Session = session, caught: list[BaseException | None] = caught) -> None:
            while session.handshake() is not Wait.NOTHING:
                time.sleep(0)
            try:
                session.confirm()
                session.write(b"hello\n")
                caught.append(None)
            except NotAdmitted as refused:
                caught.append(refused)

        thread = threading.Thread(target=accept)
        thread.start()
        tls = caller.context.wrap_socket(near, session=ticket)
        thread.join(20)
        trouble, resumed = caught[0], bool(tls.session_reused)
        if trouble is None:
            assert hear_line(tls) == "hello"
        ticket = tls.session
        tls.close()
        far.close()
    assert session is not None
    return session, trouble, resumed


def alice_at(now: datetime, pinned: bool, settings: PeerSettings | None = None, own: Identity | None = None) -> Decision:
    certificate = (own or identity("alice")).certificate
    peers = PeerSet.of([Peer("alice", (certificate.fingerprint,), settings or PeerSettings())] if pinned else [])
    return decide(certificate.der, peers, now=now)


@pytest.mark.parametrize(
    ("again", "code"),
    [
        (alice_at(NOW, pinned=True), None),
        (alice_at(NOW, pinned=False), Code.UNKNOWN),
        (alice_at(NOW + timedelta(days=400), pinned=True), Code.EXPIRED),
        (alice_at(NOW, True, PeerSettings(until=NOW)), Code.UNTIL_PASSED),
    ],
    ids=["as before", "removed", "expired", "until passed"],
)
def test_resumption_is_decided_again_without_a_new_context(again: Decision, code: Code | None) -> None:
    """The first connection is judged in the callback (several times) and after it; the resumed one only after it."""
    yes = alice_at(NOW, pinned=True)
    first: list[Decision] = [yes] * judgements_of_a_full_handshake()
    answers = [*first, again]
    session, trouble, resumed = resume(answers)
    assert resumed
    assert answers == []
    if code is None:
        assert trouble is None
    else:
        assert isinstance(trouble, NotAdmitted)
        assert trouble.refused.code is code
    assert session.certificate == identity("alice").certificate.der


def judgements_of_a_full_handshake() -> int:
    counted: list[bytes | None] = []
    far, near = tcp_pair()
    far.setblocking(False)

    def judge(der: bytes | None) -> Decision:
        counted.append(der)
        return alice_at(NOW, pinned=True)

    session = Session(server_context(identity("node")), far, judge)
    thread = threading.Thread(target=lambda: Caller(identity("alice")).context.wrap_socket(near).close())
    thread.start()
    while session.handshake() is not Wait.NOTHING:
        time.sleep(0)
    thread.join(20)
    session.confirm()
    far.close()
    return len(counted)


@on_loops("uvloop")
async def test_ticket_does_not_outlive_the_certificate(yard: Yard) -> None:
    """No file changes, so no context is renewed."""
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    caller = Caller(yard.pin("alice", mint("alice", until=soon)))
    async with running(yard) as node:
        heard, ticket, _ = await asyncio.to_thread(caller.visit, node.port)
        assert heard == "hello alice"
        while not node.told("refused", code="expired"):
            before = datetime.now(UTC)
            heard, _, resumed = await asyncio.to_thread(caller.visit, node.port, session=ticket)
            if heard == "hello alice":
                assert before <= soon
            elif resumed:
                assert datetime.now(UTC) > soon
            assert before < soon + timedelta(seconds=10)
        assert datetime.now(UTC) > soon


@on_loops("uvloop")
async def test_connections_end_when_until_has_passed(yard: Yard) -> None:
    until = (datetime.now(UTC) + timedelta(seconds=1.2)).isoformat()
    alice, bob = yard.pin("alice", settings=f'until = "{until}"'), yard.pin("bob", settings="until = 2999-01-01")
    async with running(yard) as node:
        tls, other = await admitted(node, alice), await admitted(node, bob)
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        assert (await node.hears("ended", peer="alice")).code == "until-passed"
        assert node.server.live.count("bob") == 1
        tls.close()
        other.close()


@on_loops("uvloop")
async def test_connections_end_when_their_certificate_is_retired_and_not_the_newer_ones(yard: Yard) -> None:
    old, new = identity("alice"), identity("alice-2")
    moment = (datetime.now(UTC) + timedelta(seconds=1.2)).isoformat()
    yard.pin("alice", old, new, settings=f'[retire]\n"{old.certificate.fingerprint}" = "{moment}"')
    async with running(yard) as node:
        tls, other = await admitted(node, old), await admitted(node, new)
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        event = await node.hears("ended", peer="alice")
        assert (event.code, event.fingerprint) == ("retired", str(old.certificate.fingerprint))
        assert node.server.live.count("alice") == 1
        assert await asyncio.to_thread(Caller(old).hear, node.port) == "TLSV1_ALERT_UNKNOWN_CA"
        await node.hears("refused", code="retired", peer="alice")
        assert await asyncio.to_thread(Caller(new).hear, node.port) == "hello alice"
        tls.close()
        other.close()


@on_loops("uvloop")
async def test_connections_end_with_their_certificate(yard: Yard) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    alice, bob = yard.pin("alice", mint("alice", until=soon)), yard.pin("bob")
    async with running(yard) as node:
        tls, other = await admitted(node, alice), await admitted(node, bob)
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        assert (await node.hears("ended", peer="alice")).code == "expired"
        assert datetime.now(UTC) > soon
        assert node.server.live.count("bob") == 1
        tls.close()
        other.close()


@on_loops("uvloop")
async def test_renamed_peer_keeps_its_connections_under_the_new_name(yard: Yard) -> None:
    alice = yard.pin("alice")
    async with running(yard) as node:
        tls = await admitted(node, alice)
        (yard.path / "alice.crt").rename(yard.path / "carol.crt")
        await node.hears("peer-added", peer="carol")
        tls.sendall(b"still here\n")
        assert await asyncio.to_thread(hear_line, tls) == "still here"
        assert (node.server.live.count("alice"), node.server.live.count("carol")) == (0, 1)
        share = node.server.live.share
        assert (share.count("alice"), share.count("carol"), share.tally.connections) == (0, 1, 1)
        yard.unpin("carol")
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        tls.close()


@on_loops("uvloop")
async def test_removing_one_pin_of_two_ends_only_its_connections(yard: Yard) -> None:
    old, new = mint("alice"), mint("alice")
    yard.pin("alice", old, new)
    async with running(yard) as node:
        with_old, with_new = await admitted(node, old), await admitted(node, new)
        yard.pin("alice", new)
        assert await asyncio.to_thread(how_it_ends, with_old) == "cut"
        with_new.sendall(b"still here\n")
        assert await asyncio.to_thread(hear_line, with_new) == "still here"
        with_old.close()
        with_new.close()


@on_loops("uvloop")
async def test_removal_acts_although_nobody_listens_to_the_log(yard: Yard) -> None:
    """A log that cannot be written (a closed pipe, a full disk) keeps no removed peer in."""
    alice = yard.pin("alice")
    async with running(yard) as node:
        tls = await admitted(node, alice)

        def broken(event: Event) -> None:
            raise BrokenPipeError(32, event.event)

        node.server._audit.__init__(broken, time.monotonic)  # type: ignore[misc]
        yard.unpin("alice")
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        yard.pin("bob")
        await node.until(lambda: "bob" in node.server.peers.current)
        assert await asyncio.to_thread(Caller(identity("bob")).hear, node.port) == "hello bob"
        tls.close()


@on_loops("uvloop")
async def test_watch_that_fails_begins_anew(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = yard.pin("alice")
    async with running(yard) as node:
        tls = await admitted(node, alice)
        refresh, failures = PeerDirectory.refresh, ["once"]

        def fails_once(directory: PeerDirectory, *names: Iterable[str] | None) -> PeerSet:
            if failures and directory is node.server.peers:  # others, of other tests, may look at theirs
                raise RuntimeError(failures.pop())
            return refresh(directory, *names)

        monkeypatch.setattr(PeerDirectory, "refresh", fails_once)
        yard.unpin("alice")
        await node.hears("problem", code="not-followed")
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        tls.close()


@on_loops("uvloop")
async def test_removal_is_not_lost_when_the_watch_begins_anew_in_the_middle_of_it(yard: Yard) -> None:
    """As SIGHUP has it do: somebody has looked already, and nobody was told yet."""
    alice, bob = yard.pin("alice"), yard.pin("bob")
    async with running(yard) as node:
        tls, other = await admitted(node, alice), await admitted(node, bob)
        yard.unpin("alice")
        node.server.peers.refresh()
        node.server.look_again()
        assert await asyncio.to_thread(how_it_ends, tls) == "cut"
        other.sendall(b"still here\n")
        assert await asyncio.to_thread(hear_line, other) == "still here"
        tls.close()
        other.close()

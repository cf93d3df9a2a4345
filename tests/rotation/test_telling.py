"""`peerauth rotate` tells the peers in the name of the old key, and goes over when they have accepted."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.client import telling
from peerauth.client.carrying import Carrier
from peerauth.client.control import conversation, exactly
from peerauth.control.messages import Checked
from peerauth.control.rotation import History, Rotate, Rotated, Statements
from peerauth.control.wire import Message
from peerauth.errors import BadInput
from peerauth.server.answers import HANDLERS
from peerauth.server.desk import Visit
from peerauth.store.own import rotation_path
from peerauth.store.pending import strangers
from peerauth.store.rotations import read_statements
from peerauth.store.state import State
from peerauth.store.succession import next_pair, read_next, read_succession
from peerauth.trust.continuity import Kind, read_statement
from peerauth.trust.errands import Outcome, Phase
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.identity import KeyType
from peerauth.trust.peers import PeerSettings
from tests.cli.running import Result, peerauth
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Running, on_loops
from tests.support.members import Member, serving_at


async def rotate(member: Member, *words: str, env: dict[str, str] | None = None) -> Result:
    """Type `peerauth rotate` at this node."""
    return await asyncio.to_thread(peerauth, "rotate", *words, "--home", member.home, env=env)


def free_port(host: str) -> int:
    """A port of this address, which nobody else has, at which nobody listens."""
    with socket.create_server((host, 0)) as sock:
        return int(sock.getsockname()[1])


@contextlib.asynccontextmanager
async def company(
    place: Path, count: int, kind: KeyType = KeyType.P256, passphrase: bytes | None = None
) -> AsyncIterator[tuple[Member, list[Member]]]:
    """A node, and so many that know it and that it knows, serving each at an address of its own."""
    node = Member.make(place, "node", kind, passphrase)
    async with contextlib.AsyncExitStack() as stack:
        others: list[Member] = []
        for number in range(count):
            other = Member.make(place, f"peer-{number}")
            other.knows(node)
            running: Running = await stack.enter_async_context(serving_at(other))
            node.knows(other, f"{other.host}:{running.port}")
            others.append(other)
        yield node, others


@on_loops("asyncio")
async def test_two_nodes_one_rotates_and_the_other_knows(tmp_path: Path) -> None:
    async with company(tmp_path, 1) as (node, (other,)):
        before = node.pin
        done = await rotate(node)
        assert done.code == 0, done.err
        assert node.pin != before
        assert other.pins_of("node") == {before, node.pin}
    (said,) = read_statements(node.config)
    assert read_statement(said).kind is Kind.NEXT
    assert not rotation_path(node.config).exists()
    assert not any(path.exists() for path in next_pair(node.config))
    assert len(list(node.home.glob("node.key.old-*"))) == 1


@on_loops("asyncio")
async def test_twenty_nodes_are_told_at_once(tmp_path: Path) -> None:
    async with company(tmp_path, 20) as (node, others):
        before = node.pin
        done = await rotate(node, "--json")
        assert done.code == 0, done.err
        assert {one["outcome"] for one in done.json["peers"]} == {"accepted"}
        assert len(done.json["peers"]) == 20
        assert all(other.pins_of("node") == {before, node.pin} for other in others)


@on_loops("asyncio")
@pytest.mark.parametrize("secret", [None, b"a passphrase"])
async def test_the_kind_of_key_changes_the_same_way(tmp_path: Path, secret: bytes | None) -> None:
    env = {"PEERAUTH_PASSPHRASE": secret.decode()} if secret else None
    async with company(tmp_path, 1, KeyType.RSA3072, secret) as (node, (other,)):
        names = set(node.certificate.alternative_names)
        for kind, called in (("p256", "EC P-256"), ("ed25519", "Ed25519"), ("rsa3072", "RSA 3072")):
            before = node.pin
            done = await rotate(node, "--key-type", kind, "--days", "90", "--san", f"{kind}.example", env=env)
            assert done.code == 0, done.err
            names.add(f"{kind}.example")
            assert node.certificate.key_type == called
            assert (node.certificate.not_after - node.certificate.not_before).days == 91
            assert set(node.certificate.alternative_names) == names
            assert {before, node.pin} <= other.pins_of("node")
            assert (b"ENCRYPTED" in node.config.key.read_bytes()) is bool(secret)
            assert stat.S_IMODE(node.config.key.stat().st_mode) == 0o600
            assert node.own().identity.certificate == node.certificate
    assert len(read_statements(node.config)) == 3


@on_loops("asyncio")
async def test_a_passphrase_is_needed_and_the_next_key_lies_encrypted(tmp_path: Path) -> None:
    secret = b"a passphrase"
    async with company(tmp_path, 0, passphrase=secret) as (node, _):
        node.knows(Member.make(tmp_path, "away"), "127.0.0.1:1")
        assert (await rotate(node, "--deadline", "7d")).code == 2  # no terminal to ask on
        assert not rotation_path(node.config).exists()
        done = await rotate(node, env={"PEERAUTH_PASSPHRASE": secret.decode()})
        assert done.code == 0, done.err
        key, _ = next_pair(node.config)
        assert b"ENCRYPTED" in key.read_bytes()
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert read_next(node.config, secret).certificate != node.certificate


@on_loops("asyncio")
async def test_a_peer_that_is_away_is_waited_for_and_told_when_it_is_back(tmp_path: Path) -> None:
    async with company(tmp_path, 1) as (node, (there,)):
        away = Member.make(tmp_path, "away")
        away.knows(node)
        port = free_port(away.host)
        node.knows(away, f"{away.host}:{port}")
        before = node.pin
        done = await rotate(node, "--json")
        assert {one["peer"]: one["outcome"] for one in done.json["peers"]} == {"peer-0": "accepted", "away": "unreachable"}
        assert done.json["phase"] == "telling"
        assert node.pin == before, "the old one is presented until all have accepted"
        status = peerauth("rotate", "--status", "--home", node.home)
        assert re.search(r"^away\t.*not reached\t.*connection-refused$", status.out, re.MULTILINE), status.out
        async with serving_at(away, port):
            done = await rotate(node, "--json")
        assert {one["outcome"] for one in done.json["peers"]} == {"accepted"}
        assert (done.json["phase"], done.json["next"]) == ("done", None)
        assert away.pins_of("node") == there.pins_of("node") == {before, node.pin}
        assert node.pin != before
        assert "no other certificate is under way" in peerauth("rotate", "--status", "--home", node.home).err


@on_loops("asyncio")
async def test_at_the_deadline_it_switches_and_goes_on_telling_who_was_away(tmp_path: Path) -> None:
    async with company(tmp_path, 1) as (node, _):
        away = Member.make(tmp_path, "away")
        away.knows(node)
        port = free_port(away.host)
        node.knows(away, f"{away.host}:{port}")
        before = node.pin
        await rotate(node)
        assert node.pin == before
        done = await rotate(node, "--deadline", "0")
        assert done.code == 0, done.err
        first = node.pin
        assert first != before
        assert "still to hear of it: away" in done.err
        await rotate(node, "--deadline", "0")  # a second one, of which it has not heard either
        assert node.pin not in (before, first)
        async with serving_at(away, port):
            done = await rotate(node)
        assert away.pins_of("node") >= {before, first}
        assert read_succession(node.config).under_way is None


@on_loops("asyncio")
@pytest.mark.parametrize("by_hand", [True, False])
async def test_abort_takes_back_what_was_said_also_with_who_is_away_by_then(tmp_path: Path, *, by_hand: bool) -> None:
    async with company(tmp_path, 1) as (node, (there,)):
        away = Member.make(tmp_path, "away")
        away.knows(node)
        before = node.pin
        nobody = Member.make(tmp_path, "nobody")
        node.knows(nobody, f"{nobody.host}:{free_port(nobody.host)}")
        async with serving_at(away) as running:
            node.knows(away, f"{away.host}:{running.port}")
            await rotate(node)
            assert len(away.pins_of("node")) == len(there.pins_of("node")) == 2
        done = await rotate(node, "--abort")
        assert done.code == 0, done.err
        assert node.pin == before
        assert there.pins_of("node") == {before}
        assert not any(path.exists() for path in next_pair(node.config))
        (errand,) = read_succession(node.config).errands
        assert errand.statement.kind is Kind.WITHDRAWN
        assert errand.only == frozenset({"away", "peer-0"}), "who was out of reach has nothing to forget"
        async with serving_at(away, running.port):
            if by_hand:
                assert (await rotate(node, "--abort")).code == 0
            else:
                node.directory.refresh()
                await Carrier(node.own(), node.directory, lambda _: None).step()
        assert away.pins_of("node") == {before}
        assert not rotation_path(node.config).exists()
        again = await rotate(node, "--abort")
        assert (again.code, "no rotation is under way" in again.err) == (1, True)
        done = await rotate(node, "--deadline", "0")  # and another one can be begun
        assert node.pin != before


@on_loops("asyncio")
async def test_after_the_switch_it_is_too_late_to_abort(tmp_path: Path) -> None:
    async with company(tmp_path, 0) as (node, _):
        node.knows(Member.make(tmp_path, "away"), "127.0.0.1:1")
        await rotate(node, "--deadline", "0")
        done = await rotate(node, "--abort", "--json")
        assert (done.code, done.json["error"]["code"]) == (1, "too-late")


@on_loops("asyncio")
async def test_compromised_is_a_clean_break(tmp_path: Path) -> None:
    async with company(tmp_path, 2) as (node, others):
        stolen = node.pin
        done = await rotate(node, "--compromised")
        assert done.code == 0, done.err
        assert node.pin != stolen
        assert [other.pins_of("node") for other in others] == [set(), set()]
        assert "by a person's hand" in done.err
        assert len(list(node.home.glob("node.key.compromised-*"))) == 1
        (said,) = read_statements(node.config)
        assert read_statement(said).kind is Kind.COMPROMISED


@on_loops("asyncio")
async def test_compromised_while_a_rotation_is_under_way_breaks_with_its_next_key_too(tmp_path: Path) -> None:
    async with company(tmp_path, 1) as (node, (other,)):
        node.knows(Member.make(tmp_path, "away"), "127.0.0.1:1")
        await rotate(node)
        stolen = other.pins_of("node")
        assert len(stolen) == 2
        done = await rotate(node, "--compromised")
        assert done.code == 0, done.err
        assert node.pin not in stolen
        assert other.pins_of("node") == set()


@on_loops("asyncio")
async def test_after_a_break_that_was_mended_by_a_file_the_next_break_is_asked_about_too(tmp_path: Path) -> None:
    async with company(tmp_path, 1) as (node, (other,)):
        assert "a person there is asked" in (await rotate(node, "--compromised")).out
        assert "a person there is asked" in (await rotate(node, "--status")).out
        other.knows(node)  # and not by `peer approve`
        admitted = node.pin
        async with asyncio.timeout(DEADLINE_S):
            while node.pin == admitted:
                await rotate(node, "--wait")
        assert "a person there is asked" in (await rotate(node, "--compromised")).out
        assert "a person there is asked" in (await rotate(node, "--status")).out
        asked = [one for one in strangers(State(other.home)) if one.successor_of]
        assert [one.fingerprint for one in asked] == [node.pin]


# Who is not to be believed


@on_loops("asyncio")
async def test_somebody_else_at_a_noted_address_is_told_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    async def listening(visit: Visit, _: Rotate) -> Rotated:
        heard.append(visit.office.home.name)
        return Rotated("accepted")

    monkeypatch.setitem(HANDLERS, Rotate, listening)
    node, alice, mallory = (Member.make(tmp_path, name) for name in ("node", "alice", "mallory"))
    async with serving_at(mallory) as running, serving_at(alice) as right:
        node.knows(alice, f"{mallory.host}:{running.port}")
        done = await rotate(node, "--json")
        (one,) = done.json["peers"]
        assert (one["outcome"], one["code"], heard) == ("unreachable", "presents-unknown", [])
        assert done.json["phase"] == "telling"
        node.directory.add("alice", [alice.certificate], PeerSettings(address=f"{alice.host}:{right.port}"))
        assert (await rotate(node, "--json")).json["phase"] == "done"
        assert heard == ["alice"]


@on_loops("asyncio")
@pytest.mark.parametrize("answer", [Rotated("yes"), Rotated("unreachable"), Checked(Fingerprint(bytes(32))), None])
async def test_garbage_and_silence_are_no_acknowledgement_and_end_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Message | None
) -> None:
    async def odd(_visit: Visit, _: Rotate) -> Message:
        if answer is None:
            await asyncio.sleep(60)
        assert answer is not None
        return answer

    right = HANDLERS[Rotate]
    monkeypatch.setitem(HANDLERS, Rotate, odd)
    monkeypatch.setattr(telling, "SECONDS", 1.0)
    async with company(tmp_path, 2) as (node, others):
        before = node.pin
        started = time.monotonic()
        done = await rotate(node, "--json")
        assert time.monotonic() - started < 8
        assert {one["outcome"] for one in done.json["peers"]} == {"unanswered"}
        assert node.pin == before
        monkeypatch.setitem(HANDLERS, Rotate, right)
        assert (await rotate(node, "--json")).json["phase"] == "done"
        assert all(node.pin in other.pins_of("node") for other in others)


@on_loops("asyncio")
async def test_no_is_not_yes_and_asked_is_not_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def choosy(visit: Visit, _: Rotate) -> Rotated:
        if visit.office.home.name == "peer-0":
            raise BadInput("not-offered", "not \x1b[31m here")
        return Rotated("asked")

    monkeypatch.setitem(HANDLERS, Rotate, choosy)
    async with company(tmp_path, 2) as (node, _):
        before = node.pin
        done = await rotate(node, "--json")
        assert {(one["peer"], one["outcome"], one["code"]) for one in done.json["peers"]} == {
            ("peer-0", "refused", "not-offered"),
            ("peer-1", "asked", None),
        }
        assert node.pin == before


# Who asks us


@on_loops("asyncio")
async def test_a_client_that_asks_hears_what_is_under_way_and_has_not_acknowledged(tmp_path: Path) -> None:
    node, client, stranger = (Member.make(tmp_path, name) for name in ("node", "client", "stranger"))
    node.knows(client)
    await rotate(node)
    (errand,) = read_succession(node.config).errands
    async with serving_at(node) as running:

        async def ask(who: Member, known: Fingerprint) -> tuple[bytes, ...]:
            address = Address(node.host, running.port)
            async with conversation(who.own().identity, address, exactly(node.pin)) as line:
                await line.send(History(known))
                return (await line.receive(Statements)).statements

        assert await ask(stranger, node.pin) == (errand.statement.data,), "it is no secret"
        assert await ask(client, stranger.pin) == ()
        assert read_succession(node.config).errands[0].told == {}
        assert await ask(client, node.pin) == (errand.statement.data,)
        assert read_succession(node.config).errands[0].told["client"].outcome is Outcome.HEARD
        written = rotation_path(node.config).stat().st_mtime_ns
        await ask(client, node.pin)
        assert rotation_path(node.config).stat().st_mtime_ns == written, "asking again writes nothing"
        carrier = Carrier(node.own(), node.directory, lambda _: None)
        await carrier.step()
        assert read_succession(node.config).phase is Phase.TELLING
        assert await ask(client, errand.statement.new.fingerprint) == ()  # it goes by the next one already
        await carrier.step()
        assert node.pin == errand.statement.new.fingerprint

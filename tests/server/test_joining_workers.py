"""Invitations with several workers, and with servers that are killed: every use counts once, and none is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from peerauth.errors import ConnectFailed, TrustRefused
from peerauth.trust.invitation import Token
from tests.cli.running import process
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, identity
from tests.support.inviting import invite, join, pinned, users
from tests.support.targets import unused_port
from tests.support.workers import Home, ping, serving, with_patch

RACERS = [f"racer-{number}" for number in range(8)]
STEPS = {
    "before the use is counted": ("Invitations", "count", False),
    "when it is counted": ("Invitations", "count", True),
    "when it is pinned": ("Invitations", "settle", False),
    "when all is done": ("Invitations", "settle", True),
}
every_step = pytest.mark.parametrize("step", STEPS)


def try_all(token: Token, *who: str) -> list[str]:
    """Join as all of these at once; who has."""

    async def one(name: str) -> bool:
        try:
            await join(name, token)
        except TrustRefused as error:
            if error.code != "invitation":
                raise
            return False
        return True

    async def main() -> list[bool]:
        return list(await asyncio.wait_for(asyncio.gather(*map(one, who)), DEADLINE_S))

    return [name for name, let_in in zip(who, asyncio.run(main()), strict=True) if let_in]


def killed_at(step: str, place: Path) -> tuple[str, str]:
    """The program, whose process is killed at this step, once."""
    kind, name, after = STEPS[step]
    return with_patch(f"""
import os, signal
from peerauth.store.invitations import {kind}
real = {kind}.{name}
def die():
    try:
        os.close(os.open({str(place / "killed")!r}, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
def call(*values):
    if not {after}:
        die()
    result = real(*values)
    if {after}:
        die()
    return result
{kind}.{name} = call
""")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_race_for_one_use_has_one_winner_every_time(home: Home, workers: int) -> None:
    with serving(home, workers=workers) as node:
        for turn in range(6):
            token = invite(home.home, node.port)
            before = set(pinned(home))
            winners = try_all(token, *(f"{racer}-{turn}" for racer in RACERS))
            assert len(winners) == 1
            assert set(pinned(home)) - before == set(winners)
            assert users(home.home, token) == winners


@pytest.mark.parametrize("uses", [3, 8])
def test_as_many_win_as_there_are_uses(home: Home, uses: int) -> None:
    with serving(home) as node:
        token = invite(home.home, node.port, uses=uses)
        winners = try_all(token, *RACERS)
        assert len(winners) == uses
        assert set(pinned(home)) == set(winners)


def test_one_joiner_in_a_race_with_itself_is_counted_once(home: Home) -> None:
    with serving(home) as node:
        token = invite(home.home, node.port)
        assert try_all(token, *["alice"] * 6) == ["alice"] * 6
        assert users(home.home, token) == ["alice"]
        assert set(pinned(home)) == {"alice"}


def test_who_has_joined_may_come_to_any_worker_at_once(home: Home) -> None:
    with serving(home) as node:
        for name in RACERS:
            assert try_all(invite(home.home, node.port), name) == [name]
            for _ in range(3):
                with Caller(identity(name)).open(node.port) as tls:
                    ping(tls)
        assert not node.told("refused")
        node.hears("enrolled", peer=RACERS[-1])


@every_step
def test_a_joiner_whose_server_was_killed_finishes_with_the_same_token(home: Home, step: str) -> None:
    port = unused_port()
    listen = f"127.0.0.1:{port}"
    token = invite(home.home, port)
    with serving(home, workers=1, listen=listen, program=killed_at(step, home.home.parent)) as node:
        node.hears("listening")
        with pytest.raises(ConnectFailed):
            asyncio.run(join("alice", token))
        assert node.process.wait(DEADLINE_S) == -9
    counted = users(home.home, token)
    assert counted == {"before the use is counted": [], "when all is done": ["alice"]}.get(step, [None])
    assert set(pinned(home)) == (set() if step.endswith("counted") else {"alice"})
    with serving(home, workers=1, listen=listen) as node:
        node.hears("listening")
        if counted:
            assert try_all(token, "mallory") == []  # nobody else has what was begun
        assert try_all(token, "alice") == ["alice"]
        assert users(home.home, token) == ["alice"]
        assert try_all(token, "mallory") == []
    assert set(pinned(home)) == {"alice"}


@every_step
def test_a_joiner_that_waits_never_notices_that_a_worker_was_killed(home: Home, step: str) -> None:
    with serving(home, program=killed_at(step, home.home.parent)) as node:
        token = invite(home.home, node.port)
        asyncio.run(join("alice", token, wait=DEADLINE_S))
        node.hears("worker-ended")
        assert users(home.home, token) == ["alice"]
        assert try_all(token, "mallory") == []
    assert set(pinned(home)) == {"alice"}


@pytest.mark.parametrize("step", ["when it is pinned", "when all is done"])
def test_who_was_removed_does_not_come_back_whenever_the_server_was_killed(home: Home, step: str) -> None:
    port = unused_port()
    token = invite(home.home, port)
    listen = f"127.0.0.1:{port}"
    with serving(home, workers=1, listen=listen, program=killed_at(step, home.home.parent)) as node:
        node.hears("listening")
        with pytest.raises(ConnectFailed):
            asyncio.run(join("alice", token))
    assert process("peer", "remove", "alice", "--home", home.home).code == 0
    with serving(home, workers=1, listen=listen) as node:
        node.hears("listening")
        assert try_all(token, "alice") == []
        assert try_all(invite(home.home, port), "alice") == ["alice"]  # but by a new one

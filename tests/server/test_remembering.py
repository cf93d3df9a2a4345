"""Who is refused by a server that runs, in however many workers, is there for people to look at and to approve."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.client.control import conversation, exactly
from peerauth.control.messages import Check, Checked
from peerauth.store.pending import FILE, deny, strangers
from peerauth.store.state import State
from peerauth.trust.fingerprint import Fingerprint
from tests.cli.running import peerauth
from tests.support.dropin import DEADLINE_S, NOW, mint
from tests.support.engine import Caller, files_of, identity
from tests.support.pool import certificates, pem
from tests.support.programs import needs
from tests.support.workers import Home, ping, serving

OFF = "[refusals]\nremember = false"


def strange_callers(place: Path, count: int) -> Iterator[tuple[Fingerprint, Caller]]:
    """Clients with as many certificates, all over one key."""
    _, key = files_of(identity("pool"))
    for number, der in enumerate(certificates(count)):
        file = place / f"stranger-{number}.crt"
        file.write_bytes(pem(der))
        caller = Caller(None)
        caller.context.load_cert_chain(file, key)
        yield Fingerprint.of(der), caller


@pytest.mark.parametrize("workers", [1, 2])
def test_no_visit_is_lost_between_workers_and_people(home: Home, tmp_path: Path, workers: int) -> None:
    state = State(home.home)
    callers = dict(strange_callers(tmp_path, 30))
    refused = first = next(iter(callers))
    with serving(home, workers=workers) as node:
        assert "ALERT" in callers[first].hear(node.port)
        node.until(lambda: bool(strangers(state)))
        deny(state, [refused.digest.hex()], NOW)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda caller: [caller.hear(node.port) for _ in range(3)], callers.values()))
        node.until(lambda: sum(one.times for one in strangers(state)) == 91)
        if workers == 2:
            assert {said["worker"] for said in node.told("refused")} == {1, 2}
    found = strangers(state)
    assert {one.fingerprint for one in found} == set(callers)
    assert [one.fingerprint for one in found if one.denied] == [refused]
    assert not any(one.proven for one in found), "a refused handshake proves no key"


def test_killed_while_it_writes_it_leaves_a_file_that_is_whole(home: Home, tmp_path: Path) -> None:
    state = State(home.home)
    honest, *flood = strange_callers(tmp_path, 41)
    for number in range(4):
        with serving(home, workers=1) as node:
            port = node.port
            honest[1].hear(port, source="127.0.0.9")
            node.until(lambda number=number: _visits(state, honest[0]) == number + 1)  # type: ignore[misc]
            over, before = threading.Event(), _visits(state)
            with ThreadPoolExecutor(8) as pool:
                knocking = [pool.submit(_knock, caller, port, over) for _, caller in flood]
                try:
                    node.until(lambda before=before: _visits(state) > before)  # type: ignore[misc]
                finally:
                    node.process.kill()
                    node.process.wait(DEADLINE_S)
                    over.set()
                for one in knocking:
                    one.result(DEADLINE_S)
        assert json.loads(state.path(FILE).read_text())
        assert _visits(state, honest[0]) == number + 1


def _visits(state: State, fingerprint: Fingerprint | None = None) -> int:
    return sum(one.times for one in strangers(state) if fingerprint in (None, one.fingerprint))


def _knock(caller: Caller, port: int, over: threading.Event) -> None:
    while not over.is_set():
        try:
            caller.hear(port, source="127.0.0.8")
        except OSError:
            return


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("obstacle", ["a file", "/proc"])
def test_a_home_that_cannot_be_written_to_costs_nobody_anything(home: Home, obstacle: str, workers: int) -> None:
    alice, stranger = Caller(home.pin("alice")), Caller(mint("stranger"))
    place = home.home / "state"
    if obstacle == "a file":
        place.write_text("in the way")
    else:
        place.symlink_to("/proc")  # where not even root can make a file
    with serving(home, workers=workers) as node:
        for _ in range(5):
            assert "ALERT" in stranger.hear(node.port)
        said = node.hears("problem", code="not-remembered")
        assert "cannot be remembered" in said["message"]
        with alice.open(node.port) as tls:
            ping(tls)
    assert "Traceback" not in node.errors


def test_a_file_that_is_deleted_or_broken_meanwhile_is_begun_anew(home: Home) -> None:
    state = State(home.home)
    stranger = mint("stranger")
    with serving(home, workers=1) as node:
        for spoil in (lambda: None, state.path(FILE).unlink, lambda: state.path(FILE).write_text("{")):
            spoil()
            Caller(stranger).hear(node.port)
            node.until(lambda: len(strangers(state)) == 1)
            assert strangers(state)[0].certificate == stranger.certificate.der


def test_where_it_is_off_no_file_is_left(home: Home) -> None:
    with serving(home, workers=1, settings=OFF) as node:
        assert "ALERT" in Caller(mint("stranger")).hear(node.port)
        said = node.hears("refused")
        assert "peer add FILE" in said["hint"]
    assert not State(home.home).path(FILE).exists()
    assert "not remembered now" in peerauth("why", "--home", home.home).err


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stranger_that_asks_over_peerauth_1_has_proven_its_key(home: Home, workers: int) -> None:
    async def check(port: int) -> Checked:
        pin = exactly(identity("node").certificate.fingerprint)
        async with conversation(identity("mallory"), Address("127.0.0.1", port), pin) as line:
            await line.send(Check())
            return await line.receive(Checked)

    with serving(home, workers=workers) as node:
        assert asyncio.run(check(node.port)).code == "unknown"
        node.until(lambda: bool(strangers(State(home.home))))
        said = node.hears("refused", service="peerauth/1")
        assert "peer approve" in said["hint"]
    (found,) = strangers(State(home.home))
    assert (found.claim, found.proven) == ("mallory", True)


@pytest.mark.parametrize("program", ["curl", "openssl"])
def test_a_stranger_gets_in_after_approve_without_a_restart(home: Home, program: str) -> None:
    own = mint("Carol")
    certificate, key = files_of(own)

    def knock(port: int) -> str:
        if program == "curl":
            words = [
                needs("curl"),
                "-sk",
                "-m",
                "20",
                "--cert",
                certificate,
                "--key",
                key,
                f"https://127.0.0.1:{port}/hello",
            ]
            request = ""
        else:
            words = [needs("openssl"), "s_client", "-quiet", "-connect", f"127.0.0.1:{port}"]
            words += ["-cert", certificate, "-key", key]
            request = "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        return subprocess.run(words, input=request, capture_output=True, text=True, timeout=DEADLINE_S, check=False).stdout

    with serving(home, workers=1, relay=False) as node:
        assert knock(node.port) == ""
        said = node.hears("refused", code="unknown")
        node.until(lambda: bool(strangers(State(home.home))))
        typed = said["hint"].partition("peerauth ")[2].split()
        asked = peerauth(*typed, "--home", home.home)
        assert (asked.code, asked.out) == (2, ""), "a part of the fingerprint is not enough for a script"
        done = peerauth(*typed, "--yes", "--home", home.home)
        assert done.out == f"carol {own.certificate.fingerprint}\n", done.err
        node.hears("peer-added", peer="carol")
        assert "Hello, carol!" in knock(node.port)
    assert strangers(State(home.home)) == []

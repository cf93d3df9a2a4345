"""A server presents the identity that is on disk: new connections the new one, and no connection ends for it."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.audit import Event
from peerauth.client.dial import Dialer
from peerauth.client.target import resolve
from peerauth.client.tunnel import tunnel
from peerauth.net.sockets import bound_address, open_listeners
from peerauth.node import Node
from peerauth.store.config import load_config
from peerauth.store.home import create
from peerauth.store.own import Own
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.identity import Identity, KeyType, new_key, self_signed
from tests.cli.running import peerauth
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, carry, hear_line, identity, on_loops
from tests.support.members import Member, serving_at
from tests.support.workers import Home, Serving, ping, serving


def fresh(kind: KeyType = KeyType.P256) -> Identity:
    return self_signed(new_key(kind), "node", datetime.now(UTC))


def replace(home: Path, new: Identity, passphrase: bytes | None = None) -> None:
    """As `keygen --force` does it."""
    create(home, "node", new, datetime.now(UTC), passphrase, force=True)


def pin_of(tls: ssl.SSLSocket) -> Fingerprint:
    der = tls.getpeercert(binary_form=True)
    assert der
    return Fingerprint.of(der)


def presented(node: Serving, own: Identity) -> Fingerprint:
    """What a new connection is shown."""
    with Caller(own).open(node.port) as tls:
        ping(tls)
        return pin_of(tls)


def shown_everywhere(node: Serving, own: Identity, new: Identity, workers: int) -> bool:
    """Whether every worker presents it: each looks for itself, twice a second."""
    if workers == 1:
        return presented(node, own) == new.certificate.fingerprint
    caller, pins = Caller(own), set()
    for worker in range(1, workers + 1):
        with node.in_worker(worker, caller) as tls:
            pins.add(pin_of(tls))
    return pins == {new.certificate.fingerprint}


@pytest.mark.parametrize("workers", [1, 2])
def test_bytes_run_through_the_change_untouched_and_new_connections_are_shown_the_new_one(
    tmp_path: Path, workers: int
) -> None:
    home = Home(tmp_path)
    alice = home.pin("alice")
    with serving(home, workers=workers) as node, Caller(alice).open(node.port) as tls:
        old = pin_of(tls)
        over, begun, same = threading.Event(), threading.Event(), list[bool]()
        thread = threading.Thread(target=lambda: same.append(carry(tls, over, begun)))
        thread.start()
        assert begun.wait(DEADLINE_S)
        pins = []
        for kind in (KeyType.RSA3072, KeyType.P256, KeyType.ED25519):
            new = fresh(kind)
            replace(home.home, new)
            node.hears("identity-changed", fingerprint=str(new.certificate.fingerprint))
            pins.append(new.certificate.fingerprint)
            node.until(lambda new=new: shown_everywhere(node, alice, new, workers))  # type: ignore[misc]
        over.set()
        thread.join(DEADLINE_S)
        assert same == [True]
        assert old == identity("node").certificate.fingerprint
        assert old not in pins
        assert len(node.told("identity-changed")) == 3, "said once, whoever noticed"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_ticket_from_before_shows_nobody_the_old_one_and_later_ones_are_good_in_every_worker(
    tmp_path: Path, workers: int
) -> None:
    home = Home(tmp_path)
    caller = Caller(home.pin("alice"))
    with serving(home, workers=workers) as node:
        with caller.open(node.port) as tls:
            ping(tls)
            ticket = tls.session
        with caller.open(node.port, session=ticket) as tls:
            ping(tls)
            assert tls.session_reused
        new = fresh()
        replace(home.home, new)
        node.until(lambda: shown_everywhere(node, identity("alice"), new, workers))
        with caller.open(node.port, session=ticket) as tls:
            ping(tls)
            assert not tls.session_reused
            assert pin_of(tls) == new.certificate.fingerprint
            ticket = tls.session
        for worker in range(1, workers + 1):
            if workers == 1:
                with caller.open(node.port, session=ticket) as tls:
                    ping(tls)
                    assert tls.session_reused
            else:
                with node.in_worker(worker, caller, ticket) as tls:
                    assert tls.session_reused


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pair_that_does_not_fit_is_reported_and_the_old_one_serves_on(tmp_path: Path, workers: int) -> None:
    home = Home(tmp_path)
    alice = home.pin("alice")
    with serving(home, workers=workers) as node:
        old = presented(node, alice)
        (home.home / "node.crt").write_text(fresh().certificate.pem)
        node.hears("problem", code="key-mismatch")
        (home.home / "node.key").write_text("garbage")
        node.hears("problem", code="bad-key")
        assert presented(node, alice) == old
        new = fresh()
        (home.home / "node.key").write_bytes(new.key_pem())
        (home.home / "node.crt").write_text(new.certificate.pem)
        node.hears("identity-changed")
        node.until(lambda: shown_everywhere(node, alice, new, workers))
        assert len(node.told("problem")) == 2, "each trouble is said once"


def test_sighup_looks_at_once_and_a_successor_of_a_worker_has_the_new_one(tmp_path: Path) -> None:
    home = Home(tmp_path)
    alice = home.pin("alice")
    with serving(home, workers=2) as node:
        assert node.port
        new = fresh()
        replace(home.home, new)
        node.send(signal.SIGHUP)
        node.hears("identity-changed")
        pid = node.pid(1)
        os.kill(pid, signal.SIGKILL)
        node.hears("worker-started", worker=1, times=2)
        node.until(lambda: shown_everywhere(node, alice, new, 2))
        assert len(node.told("identity-changed")) == 1


@pytest.mark.parametrize("encrypted", [True, False])
def test_an_encrypted_key_is_followed_with_the_passphrase_of_the_start(tmp_path: Path, *, encrypted: bool) -> None:
    home = Home(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("a passphrase\n")
    (home.home / "node.key").write_bytes(identity("node").key_pem(b"a passphrase"))
    alice = home.pin("alice")
    with serving(home, "--passphrase-file", str(secret), workers=1) as node:
        assert node.port
        secret.unlink()
        new, foreign = fresh(), fresh()
        replace(home.home, foreign, b"another one")
        node.hears("problem", code="passphrase-wrong")
        assert presented(node, alice) == identity("node").certificate.fingerprint
        replace(home.home, new, b"a passphrase" if encrypted else None)
        node.hears("identity-changed")
        assert presented(node, alice) == new.certificate.fingerprint


def test_curl_reaches_the_old_pin_before_and_the_new_one_after(tmp_path: Path) -> None:
    home = Home(tmp_path)
    alice = home.pin("alice")
    certificate, key = tmp_path / "alice.crt", tmp_path / "alice.key"
    certificate.write_text(alice.certificate.pem)
    key.write_bytes(alice.key_pem())
    old, new = tmp_path / "old.crt", tmp_path / "new.crt"
    old.write_text(identity("node").certificate.pem)

    def curl(node: Serving, pinned: Path) -> int:
        url = f"https://localhost:{node.port}/hello"
        words: list[str | Path] = [
            "curl",
            "-sS",
            "--capath",
            "/dev/null",
            "--cacert",
            pinned,
            "--cert",
            certificate,
            "--key",
            key,
            url,
        ]
        return subprocess.run(words, capture_output=True, timeout=DEADLINE_S, check=False).returncode

    with serving(home, workers=1, relay=False) as node:
        assert curl(node, old) == 0
        done = peerauth("rotate", "--deadline", "0", "--home", home.home)
        assert done.code == 0, done.err
        new.write_bytes((home.home / "node.crt").read_bytes())
        node.hears("identity-changed")
        assert curl(node, new) == 0
        assert curl(node, old) == 60  # CURLE_PEER_FAILED_VERIFICATION


@on_loops("asyncio")
async def test_a_tunnels_next_connection_presents_the_new_identity(tmp_path: Path) -> None:
    server, client = Member.make(tmp_path, "server"), Member.make(tmp_path, "node")
    server.knows(client)
    async with serving_at(server) as running:
        client.knows(server, f"{server.host}:{running.port}")
        own = client.own()
        dialer = Dialer.of(own.identity, "node", lambda: client.directory.current, own=own)
        assert dialer.renewed() is dialer
        new = fresh()
        replace(client.home, new)
        later = dialer.renewed()
        assert later.identity.certificate == new.certificate
        assert later.renewed() is later
        (client.home / "node.key").write_text("garbage")
        assert later.renewed() is later


def test_what_is_on_disk_at_the_start_counts_also_when_it_was_read_before(tmp_path: Path) -> None:
    """Between reading the identity and the first look it may have changed."""
    member = Member.make(tmp_path, "node")
    own = member.own()
    new = fresh()
    replace(member.home, new)
    assert own.look()
    assert own.identity.certificate == new.certificate
    assert not own.look()
    assert "passphrase" not in repr(Own(load_config(member.home), new, b"passphrase"))


@on_loops("asyncio")
async def test_a_tunnel_that_stays_presents_the_new_identity_with_its_next_connection(tmp_path: Path) -> None:
    server, client = Member.make(tmp_path, "server"), Member.make(tmp_path, "node")
    new = fresh()
    server.directory.add("node", [client.certificate, new.certificate])
    async with serving_at(server) as running:
        client.knows(server, f"{server.host}:{running.port}")
        own, sockets = client.own(), open_listeners(Address("127.0.0.1", 0))
        dialer = Dialer.of(own.identity, "node", lambda: client.directory.current, own=own)
        target = resolve("server", client.directory.refresh())
        failures: list[BaseException] = []
        work = asyncio.create_task(tunnel(dialer, target, sockets, failures.append))
        where = bound_address(sockets[0])

        async def greeted() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            streams = await asyncio.open_connection(where.host, where.port)
            assert await streams[0].readline() == b"hello node\n"
            return streams

        reader, writer = await greeted()
        await running.hears("admitted", fingerprint=str(own.identity.certificate.fingerprint))
        replace(client.home, new)
        _, later = await greeted()
        await running.hears("admitted", fingerprint=str(new.certificate.fingerprint))
        writer.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        assert failures == []
        for one in (writer, later):
            one.close()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


@on_loops("asyncio")
async def test_a_server_of_the_library_follows_too(tmp_path: Path) -> None:
    home = Home(tmp_path)
    alice = home.pin("alice")

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        await writer.drain()
        writer.close()

    events: list[Event] = []
    async with await Node.load(home.home).start_server(greet, "127.0.0.1", on_event=events.append) as server:

        def shown() -> Fingerprint:
            with Caller(alice).open(server.port) as tls:
                hear_line(tls)
                return pin_of(tls)

        assert await asyncio.to_thread(shown) == identity("node").certificate.fingerprint
        new = fresh()
        replace(home.home, new)
        async with asyncio.timeout(DEADLINE_S):
            while not any(event.event == "identity-changed" for event in events):  # noqa: ASYNC110 - once it is said
                await asyncio.sleep(0.02)
        assert await asyncio.to_thread(shown) == new.certificate.fingerprint


@on_loops("asyncio")
async def test_a_client_of_the_library_follows_too(tmp_path: Path) -> None:
    server, client = Member.make(tmp_path, "server"), Member.make(tmp_path, "node")
    new = fresh()
    server.directory.add("node", [client.certificate, new.certificate])
    async with serving_at(server) as running:
        client.knows(server, f"{server.host}:{running.port}")
        node = Node.load(client.home)
        for own in (node.identity, new):
            if own is new:
                replace(client.home, new)
            reader, writer = await node.open_connection("server")
            assert await reader.readline() == b"hello node\n"
            await running.hears("admitted", fingerprint=str(own.certificate.fingerprint))
            assert node.fingerprint == own.certificate.fingerprint
            writer.close()

"""Threat: somebody between a joiner and the node that invites, or with a proof that was seen, comes in by the invitation."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from peerauth.address import Address
from peerauth.client.control import conversation, exactly
from peerauth.control.invitation import Join, Joined
from peerauth.control.line import Line
from peerauth.control.wire import HEAD, decode, encode, length_of
from peerauth.trust.identity import Identity
from peerauth.trust.invitation import Token
from tests.support.dropin import DEADLINE_S
from tests.support.engine import files_of, identity, on_loops
from tests.support.inviting import invite, inviting, join, pinned, proper, refused, say, users
from tests.support.targets import target
from tests.support.workers import Home


@contextlib.contextmanager
def relay(port: int) -> Iterator[int]:
    """Somebody who passes bytes on, both ways, as they are."""

    def carry(here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := here.recv(65536):
                there.sendall(piece)
            there.shutdown(socket.SHUT_WR)

    def behave(sock: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as far:
            back = threading.Thread(target=carry, args=(far, sock))
            back.start()
            carry(sock, far)
            back.join(DEADLINE_S)

    with target(behave) as where:
        yield where.port


@contextlib.contextmanager
def terminating(who: Identity, heard: list[bytes]) -> Iterator[int]:
    """Somebody who ends the TLS here, with a certificate of their own, and notes what a joiner says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files_of(who))
    context.set_alpn_protocols(["peerauth/1"])

    def behave(sock: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
            heard.append(tls.recv(65536))

    with target(behave) as where:
        yield where.port


@on_loops("asyncio")
async def test_who_ends_the_tls_in_the_middle_hears_nothing_of_the_joiner(home: Home) -> None:
    heard: list[bytes] = []
    async with inviting(home) as node:
        with terminating(identity("mallory"), heard) as port:
            error = await refused("alice", invite(home.home, port))
        assert (error.code, [piece for piece in heard if piece]) == ("not-expected", [])
        with relay(node.port) as port:  # whose own channel is one and the same from end to end
            await join("alice", invite(home.home, port))
    assert set(pinned(home)) == {"alice"}


@on_loops("asyncio")
async def test_a_proof_that_was_seen_is_worth_nothing_on_another_channel(home: Home) -> None:
    """Whoever has a proof (out of a debugger, a log, a crash) and even the joiner's own key has not the next channel."""
    alice, mallory = identity("alice"), identity("mallory")
    async with inviting(home) as node:
        token = invite(home.home, node.port)
        said = await recorded(node.port, token, alice)
        for who in (alice, mallory):
            answer = await say(node.port, who, lambda _: said)
            assert isinstance(answer, str)
            assert answer.startswith("invitation: ")
        assert (pinned(home), users(home.home, token)) == ({}, [])
        assert isinstance(await say(node.port, alice, proper(token, alice)), Joined)
    assert set(pinned(home)) == {"joiner"}


async def recorded(port: int, token: Token, who: Identity) -> Join:
    """What a joiner would have said on a connection that then ended."""
    pin = identity("node").certificate.fingerprint
    async with conversation(who, Address("127.0.0.1", port), exactly(pin)) as line:
        return proper(token, who)(line)


@on_loops("asyncio")
async def test_a_proof_on_the_right_channel_is_for_its_own_certificate_alone(home: Home) -> None:
    """The exporter ends with the server's Finished (RFC 8446 section 7.1): the proof has the client's certificate."""
    alice, mallory = identity("alice"), identity("mallory")
    async with inviting(home) as node:
        token = invite(home.home, node.port)

        def for_alice(line: Line) -> Join:  # mallory's channel, and somebody has proven alice on it
            return Join(token.id, token.prove(line.session.channel_binding(), alice.certificate.fingerprint), "alice")

        assert "invitation: " in str(await say(node.port, mallory, for_alice))
        assert pinned(home) == {}
        assert isinstance(await say(node.port, alice, for_alice), Joined)
    assert pinned(home) == {"alice": alice.certificate.fingerprint}


@on_loops("asyncio")
@pytest.mark.parametrize("at", [0, 31, 32, 63])
async def test_a_proof_with_one_bit_changed_is_none(home: Home, at: int) -> None:
    alice = identity("alice")
    async with inviting(home) as node:
        token = invite(home.home, node.port)

        def bent(line: Line) -> Join:
            said = proper(token, alice)(line)
            proof = bytearray(said.proof)
            proof[at] ^= 1
            return Join(said.id, bytes(proof), said.name)

        assert "invitation: " in str(await say(node.port, alice, bent))
        assert users(home.home, token) == []
        assert isinstance(await say(node.port, alice, proper(token, alice)), Joined)


@on_loops("asyncio")
async def test_who_reads_the_state_of_the_node_can_join_nowhere(home: Home) -> None:
    """All that is noted, tried as if it were the secret."""
    alice, mallory = identity("alice"), identity("mallory")
    async with inviting(home) as node:
        token = invite(home.home, node.port)
        stolen = (home.home / "state" / "invitations.json").read_bytes()
        for public in (token.secret, token.secret.hex().encode(), token.text.encode()):
            assert public not in stolen
        for guess in (token.verifier[:16], token.verifier[16:], token.id + token.id):
            forged = Token(guess, token.pin, token.expires, token.addresses)

            def lie(line: Line, forged: Token = forged) -> Join:
                proof = forged.prove(line.session.channel_binding(), mallory.certificate.fingerprint)
                return Join(token.id, proof, "mallory")

            assert "invitation: " in str(await say(node.port, mallory, lie))
        await join(alice, token, name="alice")
    assert set(pinned(home)) == {"alice"}


@on_loops("asyncio")
async def test_a_proof_over_no_channel_is_none(home: Home) -> None:
    """A client that has the token and leaves the binding out, as one might that cannot ask its TLS library for it."""
    async with inviting(home) as node:
        token, alice = invite(home.home, node.port), identity("alice")

        def without_a_channel() -> bytes:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.load_cert_chain(*files_of(alice))
            context.set_alpn_protocols(["peerauth/1"])
            with (
                socket.create_connection(("127.0.0.1", node.port), DEADLINE_S) as plain,
                context.wrap_socket(plain) as tls,
            ):
                tls.sendall(encode(Join(token.id, token.prove(bytes(32), alice.certificate.fingerprint), "alice")))
                head = tls.recv(HEAD)
                return tls.recv(length_of(head))

        answer = decode(await asyncio.to_thread(without_a_channel))
        assert getattr(answer, "code", None) == "invitation"
        assert isinstance(await say(node.port, alice, proper(token, alice)), Joined)

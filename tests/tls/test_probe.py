"""A probe goes further than trust does: it shakes hands with anybody, and therefore admits nobody."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from peerauth.errors import PeerAuthError
from peerauth.tls.alerts import Truncated
from peerauth.tls.context import probing_context
from peerauth.tls.probe import Probe
from peerauth.tls.session import NotAdmitted, Wait
from peerauth.trust.decision import Refused
from tests.docs.pages import CHECKOUT
from tests.support.dropin import DEADLINE_S
from tests.support.engine import files_of, identity, records
from tests.support.targets import target


@contextmanager
def server(*clients: str, tls12: bool = False) -> Iterator[int]:
    """Python's own TLS; without clients it asks for no certificate. It says nothing and waits."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files_of(identity("node")))
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata="".join(identity(name).certificate.pem for name in clients))
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2

    def serve(plain: socket.socket) -> None:
        with context.wrap_socket(plain, server_side=True) as tls:
            tls.recv(1)

    with target(serve) as where:
        yield where.port


@contextmanager
def probing(port: int) -> Iterator[tuple[Probe, socket.socket]]:
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock:
        yield Probe(probing_context(identity("alice"), min_tls="1.2"), sock), sock


def shake(probe: Probe) -> None:
    """The whole handshake; the socket blocks, so one call does it."""
    while probe.handshake() is not Wait.NOTHING:
        pass


@pytest.mark.parametrize("tls12", [False, True])
def test_it_admits_nobody_whoever_is_there(tls12: bool) -> None:
    with server("alice", tls12=tls12) as port, probing(port) as (probe, _):
        shake(probe)
        assert probe.certificate == identity("node").certificate.der
        assert (probe.asked, probe.presented, probe.proven) == (True, True, True)
        assert isinstance(probe.decision, Refused)
        with pytest.raises(NotAdmitted):
            probe.confirm()


@pytest.mark.parametrize("tls12", [False, True])
@pytest.mark.parametrize(("clients", "accepted"), [(("alice",), True), (("bob",), False), ((), False)])
def test_it_sees_whether_the_certificate_was_asked_for_and_taken(
    clients: tuple[str, ...], accepted: bool, tls12: bool
) -> None:
    with server(*clients, tls12=tls12) as port, probing(port) as (probe, sock):
        sock.settimeout(0.5)
        with suppress(PeerAuthError, TimeoutError):
            shake(probe)
            while probe.read() is Wait.READABLE:
                pass
        assert (probe.asked, probe.presented) == (bool(clients), bool(clients))
        assert probe.accepted == accepted
        assert probe.alert == (48 if clients == ("bob",) else None)


@pytest.mark.parametrize("left_out", [0, 2])
def test_a_certificate_whose_key_was_not_shown_is_not_proven(left_out: int) -> None:
    """Anybody can repeat a certificate; what comes behind it takes the key: CertificateVerify, and Finished with it."""
    with server("alice") as port:

        def stop_short(plain: socket.socket) -> None:
            with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as real:
                real.sendall(plain.recv(65536))
                flight = list(records(real.recv(65536)))
                plain.sendall(b"".join(flight[: len(flight) - left_out]))

        with target(stop_short) as where, probing(where.port) as (probe, _):
            if left_out:
                with pytest.raises(Truncated):
                    shake(probe)
            else:
                shake(probe)
            assert probe.certificate == identity("node").certificate.der
            assert probe.proven == (not left_out)


def test_nobody_else_makes_one() -> None:
    makers = {
        path.relative_to(CHECKOUT).as_posix()
        for path in Path(CHECKOUT / "peerauth").rglob("*.py")
        if "tls.probe" in path.read_text("utf-8") or "probing_context" in path.read_text("utf-8")
    }
    assert makers == {"peerauth/tls/context.py", "peerauth/tls/probe.py", "peerauth/client/observe.py"}


def test_threads_have_their_own() -> None:
    """What OpenSSL tells goes to the probe that it is about."""
    with server("alice") as asks, server() as does_not:
        found: dict[int, bool] = {}

        def look(port: int) -> None:
            with probing(port) as (probe, _):
                shake(probe)
                found[port] = probe.asked

        threads = [threading.Thread(target=look, args=(port,)) for port in (asks, does_not)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
    assert found == {asks: True, does_not: False}

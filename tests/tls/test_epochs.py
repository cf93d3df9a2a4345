"""An epoch ends every ticket from before and none of its own, on a context that is in use."""

from __future__ import annotations

import ssl
import threading
import time

import pytest

from peerauth.tls.context import Context, begin_epoch, server_context
from peerauth.tls.session import Session, Wait
from peerauth.trust.decision import Admitted
from peerauth.trust.peers import Peer
from tests.support.dropin import tcp_pair
from tests.support.engine import Caller, hear_line, identity


def meet(context: Context, caller: Caller, ticket: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession, int]:
    """Shake hands: whether the ticket was good, a new one, and how often the certificate was judged."""
    pin = identity("alice").certificate.fingerprint
    judged: list[bytes | None] = []
    far, near = tcp_pair()
    far.setblocking(False)

    def judge(der: bytes | None) -> Admitted:
        judged.append(der)
        return Admitted(Peer("alice", (pin,)), pin)

    session = Session(context, far, judge)

    def accept() -> None:
        while session.handshake() is not Wait.NOTHING:
            time.sleep(0)
        session.confirm()
        session.write(b"hello\n")

    thread = threading.Thread(target=accept)
    thread.start()
    with caller.context.wrap_socket(near, session=ticket) as tls:
        assert hear_line(tls) == "hello"
        thread.join(20)
        found = bool(tls.session_reused), tls.session, len(judged)
    far.close()
    assert found[1] is not None
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("tls12", [False, True])
def test_ticket_is_good_in_its_epoch_alone(tls12: bool) -> None:
    context = server_context(identity("node"), min_tls="1.2")
    caller = Caller(identity("alice"), tls12=tls12)
    resumed, ticket, judged = meet(context, caller, None)
    assert not resumed
    assert judged == 2, "decided when the leaf is shown and when the handshake is done, not at each question of OpenSSL"
    assert meet(context, caller, ticket)[0]
    for epoch in (1, 2, 2**64 - 1):
        assert begin_epoch(context, epoch), "pyOpenSSL has closed the private door: see docs/decisions/0016"
        resumed, new, judged = meet(context, caller, ticket)
        assert not resumed
        assert judged == 2, "the verify callback is asked, where a refusal can be said"
        again, _, judged = meet(context, caller, new)
        assert (again, judged) == (True, 1)
        ticket = new

"""A service's door: accept, handshake, decide, and hand the admitted connection to the service's protocol."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from peerauth.errors import PeerAuthError
from peerauth.net.reach import tune
from peerauth.net.sockets import close_listener, remote_of
from peerauth.server.arrivals import Arrival, Arrivals, TurnedAway
from peerauth.server.audit import Audit, Event, handler_failed
from peerauth.server.crew import Crew
from peerauth.server.live import Connection, LiveConnections
from peerauth.store.config import Limits
from peerauth.tls.context import Context
from peerauth.tls.linger import linger
from peerauth.tls.session import NotAdmitted, Session
from peerauth.tls.transport import TlsTransport
from peerauth.trust.decision import Admitted, Code, Decision, Refused, decide
from peerauth.trust.explain import refused_client
from peerauth.trust.peers import PeerSet
from peerauth.trust.policy import Policy

_ACCEPT_AT_ONCE = 64
_REST = 0.1  # seconds without accepting when the process has no descriptors left


@dataclass(frozen=True, slots=True)
class Shared:
    """What the doors of one server have in common."""

    loop: asyncio.AbstractEventLoop
    peers: Callable[[], PeerSet]
    live: LiveConnections
    crew: Crew
    audit: Audit
    limits: Limits


class Listener:
    """Everything that listens for one service. `handler` makes the protocol for a newly admitted peer."""

    def __init__(
        self,
        shared: Shared,
        sockets: list[socket.socket],
        policy: Policy,
        context: Callable[[], Context],
        handler: Callable[[Admitted], asyncio.Protocol],
    ) -> None:
        self._shared = shared
        self.sockets = sockets
        self._policy = policy
        self._context = context
        self._handler = handler
        self._arrivals = Arrivals(
            shared.loop,
            limit=shared.limits.max_handshakes,
            timeout=shared.limits.handshake_timeout,
            new_session=self._new_session,
            submit=shared.crew.submit,
            admitted=self._admitted,
            failed=self._failed,
            linger=lambda sock: linger(shared.loop, sock),
        )

    def start(self) -> None:
        """Begin to accept."""
        for sock in self.sockets:
            self._shared.loop.add_reader(sock.fileno(), self._accept, sock)

    def review(self) -> None:
        """Decide again about those in the handshake."""
        self._arrivals.review()

    def stop(self) -> None:
        """Accept no more, and send away those who are not admitted yet."""
        for sock in self.sockets:
            if sock.fileno() >= 0:
                self._shared.loop.remove_reader(sock.fileno())
                close_listener(sock)
        self._arrivals.close()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                sock, where = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptors left: the fullest source gives one up, or we rest instead of spinning
                if self._arrivals.make_room():
                    continue
                self._shared.loop.remove_reader(listening.fileno())
                self._shared.loop.call_later(_REST, self._accept_again, listening)
                return
            sock.setblocking(False)
            tune(sock)
            remote, shown = remote_of(where)
            self._arrivals.enter(sock, remote, shown)

    def _accept_again(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self._shared.loop.add_reader(listening.fileno(), self._accept, listening)

    def _new_session(self, arrival: Arrival) -> Session:
        remote = arrival.remote

        def judge(der: bytes | None) -> Decision:
            peers = self._shared.peers()
            now = datetime.now(UTC)
            live = self._shared.live
            decision = decide(der, peers, self._policy, remote, now=now)
            if isinstance(decision, Admitted) and decision.peer.settings.max_connections is not None:
                count = live.count(decision.peer.name)
                decision = decide(der, peers, self._policy, remote, now=now, live=count)
            if isinstance(decision, Admitted) and len(live) >= self._shared.limits.max_connections:
                reason = "this node has no room for more connections"
                return Refused(Code.TOO_MANY, decision.fingerprint, decision.peer, reason)
            return decision

        return Session(self._context(), arrival.sock, judge)

    def _admitted(self, arrival: Arrival, session: Session, admitted: Admitted) -> None:
        shared = self._shared
        try:
            protocol = self._handler(admitted)
        except Exception as error:  # noqa: BLE001 - of a service: its own trouble, and nobody else's
            arrival.sock.close()
            self._handler_failed(error, arrival, admitted)
            return
        transport = TlsTransport(shared.loop, arrival.sock, session, admitted, protocol, on_lost=self._lost)
        shared.live.add(Connection(transport, self._policy, arrival.remote, arrival.shown))
        shared.audit.report(
            Event(
                "admitted",
                f"{admitted.peer.name} from {arrival.shown}",
                service=self._policy.service,
                address=arrival.shown,
                peer=admitted.peer.name,
                fingerprint=str(admitted.fingerprint),
            )
        )
        try:
            transport.start()
        except Exception as error:  # noqa: BLE001 - as above
            transport.abort()
            self._handler_failed(error, arrival, admitted)

    def _handler_failed(self, error: Exception, arrival: Arrival, admitted: Admitted) -> None:
        event = handler_failed(error, self._policy.service, arrival.shown, admitted)
        self._shared.audit.refused(event)  # at a bounded rate: a peer can call as often as it likes
        self._shared.loop.call_exception_handler({"message": event.message, "exception": error})

    def _lost(self, transport: TlsTransport) -> None:
        self._shared.live.discard(transport)

    def _failed(self, arrival: Arrival, error: Exception) -> None:
        hint: str | None = None
        peer = fingerprint = None
        if isinstance(error, NotAdmitted):
            refused = error.refused
            message, hint = refused_client(refused)
            code = str(refused.code)
            peer = refused.peer.name if refused.peer else None
            fingerprint = str(refused.fingerprint) if refused.fingerprint else None
        elif isinstance(error, PeerAuthError):
            code, message, hint = error.code, error.message, error.hint
            if code == "refused-by-peer":
                alert = message.rpartition("(")[2].rstrip(")")
                message = f"the client does not accept this node's certificate ({alert})"
                hint = "it has another one pinned (to hand this one over: peerauth id --pem), or only looked (peer scan)"
        elif isinstance(error, TimeoutError):
            code, message = "timeout", str(error)
        elif isinstance(error, TurnedAway):
            code, message = "crowded", str(error)
        else:
            code, message = "closed", "it left during the handshake" if isinstance(error, ConnectionError) else str(error)
        self._shared.audit.refused(
            Event(
                "refused",
                f"{message}, from {arrival.shown}",
                hint,
                self._policy.service,
                arrival.shown,
                peer,
                fingerprint,
                code,
            )
        )

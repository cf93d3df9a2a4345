"""A service's door: accept, handshake, decide, and hand the admitted connection to the service's protocol."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from peerauth.audit import Audit, Event, handler_failed
from peerauth.errors import PeerAuthError, counted
from peerauth.net.sockets import close_listener
from peerauth.server.arrivals import Arrival, TurnedAway
from peerauth.server.desk import Desk
from peerauth.server.explainer import Explainer
from peerauth.server.live import Connection, LiveConnections
from peerauth.server.porch import Porch, Tell
from peerauth.server.refusals import Knock
from peerauth.services.awake import Awake
from peerauth.services.guest import Guest, Serve, Served
from peerauth.store.config import Limits
from peerauth.tls.alerts import PlainHttp
from peerauth.tls.linger import linger
from peerauth.tls.scratch import Scratch
from peerauth.tls.session import Judge, NotAdmitted, Room, Session
from peerauth.trust.decision import Admitted, Code, Decision, Refused, decide
from peerauth.trust.peers import PeerSet
from peerauth.trust.policy import Policy


@dataclass(frozen=True, slots=True)
class Shared:
    """What the doors of one server have in common."""

    loop: asyncio.AbstractEventLoop
    peers: Callable[[], PeerSet]
    live: LiveConnections
    porch: Porch
    audit: Audit
    desk: Desk
    explainer: Explainer
    limits: Callable[[], Limits]
    buffer: Scratch
    awake: Awake
    close: Callable[[socket.socket], None] = close_listener


class Listener:
    """Everything that listens for one service. `serve` takes over a newly admitted peer."""

    def __init__(
        self,
        shared: Shared,
        sockets: list[socket.socket],
        policy: Policy,
        begin: Callable[[socket.socket, Judge, Room], Session],
        serve: Serve,
    ) -> None:
        self._shared = shared
        self.sockets = sockets
        self._policy = policy
        self._heir: Listener | None = None
        self._stopped = False
        self._begin = begin
        self._serve = serve
        self._open = 0  # admitted connections
        self.none_left = asyncio.Event()
        self.none_left.set()

    @property
    def policy(self) -> Policy:
        """For whom it is, as configured now: who came in before another took its place has no other rights."""
        return self._policy if self._heir is None else self._heir.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._policy = policy

    def start(self) -> None:
        """Begin to accept."""
        self._shared.porch.open(self, self.sockets)

    def stand_in(self, sockets: list[socket.socket]) -> None:
        """Accept here, too, for a worker that is not there."""
        self._shared.porch.open(self, sockets)

    def step_back(self, sockets: list[socket.socket]) -> None:
        """The worker that these belong to is there again; accepts at them no more when it returns."""
        self._shared.porch.leave(sockets)

    def stop(self) -> None:
        """Accept no more, and send away those who are not admitted yet."""
        self._stopped = True  # for those who are through, and of whom we have not heard
        self._shared.porch.shut(self)
        for sock in self.sockets:
            if sock.fileno() >= 0:
                self._shared.close(sock)

    def hand_over(self) -> list[socket.socket]:
        """Accept no more, and give the sockets away to another, who is to be the heir."""
        sockets, self.sockets = self.sockets, []
        self._shared.porch.leave(sockets)
        return sockets

    def leave_to(self, heir: Listener) -> None:
        """Whoever is in the handshake here is its guest: a handshake can take as long as somebody wants it to."""
        self._heir = heir

    def arrived(self, arrival: Arrival, error: Exception | None) -> None:
        """This one's handshake is done, or has failed."""
        if self._heir is not None:
            self._heir.arrived(arrival, error)
            return
        if error is None and self._stopped:
            error = TurnedAway("this door is shut")
        session = arrival.session
        finished = error is None
        if error is None and session is not None:
            try:
                if session.hears_anyone:
                    self._shared.desk.receive(arrival, session)
                else:
                    self._admitted(arrival, session, session.confirm())
            except NotAdmitted as refused:
                error = refused
        if error is None:
            return
        certificate = session.certificate if session else None
        self._failed(arrival, error, certificate, proven=finished and certificate is not None)
        if not (finished and isinstance(error, NotAdmitted) and self._explained(arrival, error.refused)):
            self._see_off(arrival, error)

    def _see_off(self, arrival: Arrival, error: Exception) -> None:
        if isinstance(error, PlainHttp):
            self._tell_of_tls(arrival)
        elif isinstance(error, NotAdmitted):
            linger(self._shared.loop, arrival.sock)
        else:
            arrival.sock.close()
        if arrival.session is not None:
            arrival.session.forget()

    def _tell_of_tls(self, arrival: Arrival) -> None:
        """Answer somebody who asks in the clear, in the clear: whoever forgets https:// is told so, and nothing else."""
        from peerauth.http.response import own_answer  # noqa: PLC0415 - most doors never need it

        with contextlib.suppress(OSError):
            arrival.sock.send(own_answer(400, "TLS is spoken here: the URL has to begin with https://", close=True))
        linger(self._shared.loop, arrival.sock)

    def _explained(self, arrival: Arrival, refused: Refused) -> bool:
        """Have somebody told why it is refused, after a whole handshake; false where that is not done."""
        try:
            assert arrival.session is not None
            self._shared.explainer.receive(arrival, arrival.session, refused)
        except NotAdmitted:
            return False
        return True

    def new_session(self, arrival: Arrival) -> Session:
        """TLS for somebody new; in a porter's thread, as its judging is."""
        if self._heir is not None:
            return self._heir.new_session(arrival)
        remote = arrival.remote

        def judge(der: bytes | None) -> Decision:
            peers = self._shared.peers()
            now = datetime.now(UTC)
            share = self._shared.live.share
            decision = decide(der, peers, self.policy, remote, now=now)
            if isinstance(decision, Admitted) and decision.peer.settings.max_connections is not None:
                count = share.count(decision.peer.name)
                decision = decide(der, peers, self.policy, remote, now=now, live=count)
            if isinstance(decision, Admitted) and share.tally.connections >= self._shared.limits().max_connections:
                return _no_room(decision)
            return decision

        return self._begin(arrival.sock, judge, self._shared.explainer.place(arrival.source))

    def _take_room(self, admitted: Admitted) -> None:
        """Count one more connection of this peer in. Raises NotAdmitted when another was quicker to take the last room."""
        share, peer = self._shared.live.share, admitted.peer
        in_all, of_peer = share.enter(peer.name)
        if in_all > self._shared.limits().max_connections:
            refused = _no_room(admitted)
        elif peer.settings.max_connections is not None and of_peer > peer.settings.max_connections:
            reason = f"the peer has {counted(peer.settings.max_connections, 'connection')} already, as many as it may have"
            refused = Refused(Code.TOO_MANY, admitted.fingerprint, peer, reason)
        else:
            return
        share.leave(peer.name)
        raise NotAdmitted(refused)

    def _admitted(self, arrival: Arrival, session: Session, admitted: Admitted) -> None:
        shared = self._shared
        self._take_room(admitted)
        try:
            guest = Guest(shared.loop, arrival.sock, session, admitted, shared.buffer, shared.awake, self._lost)
            served = self._serve(guest)
        except Exception as error:  # noqa: BLE001 - of a service: its own trouble, and nobody else's
            shared.live.share.leave(admitted.peer.name)
            arrival.sock.close()
            self._handler_failed(error, arrival, admitted)
            return
        shared.live.add(Connection(served, self, arrival.remote, arrival.shown))
        self._open += 1
        self.none_left.clear()
        shared.audit.report(
            Event(
                "admitted",
                f"{admitted.peer.name} from {arrival.shown}",
                service=self.policy.service,
                address=arrival.shown,
                peer=admitted.peer.name,
                fingerprint=str(admitted.fingerprint),
            )
        )
        try:
            served.start()
        except Exception as error:  # noqa: BLE001 - as above
            served.abort()
            self._handler_failed(error, arrival, admitted)

    def _handler_failed(self, error: Exception, arrival: Arrival, admitted: Admitted) -> None:
        event = handler_failed(error, self.policy.service, arrival.shown, admitted)
        if self._shared.audit.refused(event):  # at a bounded rate: a peer can call as often as it likes
            self._shared.loop.call_exception_handler({"message": event.message, "exception": error})

    def _lost(self, served: Served) -> None:
        if self._shared.live.discard(served):
            self._open -= 1
            if not self._open:
                self.none_left.set()

    def _failed(self, arrival: Arrival, error: Exception, certificate: bytes | None, *, proven: bool) -> None:
        """Say and remember that somebody did not come in. `proven`: after a handshake in which its key was."""
        refusals = self._shared.desk.office.refusals
        service = self.policy.service
        knock = Knock(service, arrival.shown, arrival.source, arrival.remote, certificate, proven)
        hint: str | None = None
        if isinstance(error, NotAdmitted):
            self._shared.live.share.refused(str(error.refused.code))
            refusals.refused(error.refused, knock, self._shared.peers())
            return
        if isinstance(error, PeerAuthError):
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
        self._shared.live.share.refused(code)
        refusals.failed(code, message, hint, knock, telling=isinstance(error, PeerAuthError))


def _no_room(admitted: Admitted) -> Refused:
    return Refused(Code.TOO_MANY, admitted.fingerprint, admitted.peer, "this node has no room for more connections")


def tell_loop(loop: asyncio.AbstractEventLoop) -> Tell:
    """How porters tell this loop who has come through their doors, and who has not."""

    def arrived(finished: list[tuple[Arrival, Exception | None]]) -> None:
        for arrival, error in finished:
            try:
                arrival.door.arrived(arrival, error)
            except Exception as failure:  # noqa: BLE001 - nobody's trouble but this one's
                arrival.sock.close()
                loop.call_exception_handler({"message": "an arrival could not be received", "exception": failure})

    def tell(finished: list[tuple[Arrival, Exception | None]]) -> None:
        try:
            loop.call_soon_threadsafe(arrived, finished)
        except RuntimeError:  # the loop has ended meanwhile
            for arrival, _ in finished:
                arrival.sock.close()

    return tell

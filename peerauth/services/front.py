"""What the connections of one HTTP service have in common: the program behind it, its rules, and what the log is told."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from peerauth.audit import Audit, Event
from peerauth.http.errors import BadRequest
from peerauth.http.introduction import Introduction
from peerauth.http.request import About, Request
from peerauth.http.routes import Denied
from peerauth.http.via import MOST_TIMES
from peerauth.net.sockets import remote_of
from peerauth.services.denials import denied_event
from peerauth.services.patience import Patience
from peerauth.services.targets import Targets
from peerauth.store.config import Service
from peerauth.store.kinds import Http
from peerauth.tls.session import Session
from peerauth.trust.decision import Admitted
from peerauth.trust.peers import Peer


@dataclass(frozen=True, slots=True)
class Front:
    """One HTTP service in one loop."""

    service: Service
    targets: Targets
    host: bytes  # for a request that names none
    timeout: float  # seconds; bounds each wait for one of the two sides
    headers: frozenset[str]
    routed: bool
    audit: Audit
    patience: Patience

    def introduce(self, admitted: Admitted, session: Session, sock: socket.socket) -> Introduction:
        """Who this is, for the program behind the door."""
        assert session.certificate is not None
        remote, _ = _remote(sock)
        own = session.own_certificate if "X-Forwarded-Client-Cert" in self.headers else b""
        return Introduction(admitted.peer, admitted.fingerprint, session.certificate, remote, self.headers, own=own)

    def judge(self, request: Request, admitted: Admitted, sock: socket.socket) -> Denied | None:
        """Whether a route denies this, which is said to the log, too."""
        denied = self.decide(request, admitted.peer)
        if denied is not None:
            asked = f"{request.method.decode('ascii')} {request.target.path}"
            self.audit.refused(
                lambda: denied_event(
                    denied,
                    asked,
                    service=self.service.name,
                    peer=admitted.peer,
                    fingerprint=admitted.fingerprint,
                    address=_remote(sock)[1],
                )
            )
        return denied

    def end_circle(self, about: About) -> None:
        """Raise BadRequest where a request has come by too often, which is said to the log, too."""
        if about.times >= MOST_TIMES:
            why = "a request goes in a circle: the program behind this door leads back to it"
            self.audit.refused(Event("problem", self._named(why), service=self.service.name, code="proxy-loop"))
            raise BadRequest(why, 508)

    def decide(self, request: Request, peer: Peer) -> Denied | None:
        """Whether a route denies this."""
        routes = self.service.routes
        return None if routes is None else routes.decide(request.method, request.target.path, peer)

    def closed(self, request: Request, peer: Peer) -> str | None:
        """By which rule this would be denied; None if it would not."""
        denied = self.decide(request, peer) if self.routed else None
        return None if denied is None else denied.rule

    def complain(self, why: str) -> None:
        """The program behind the door was reached, and it was no use."""
        self.audit.refused(Event("problem", self._named(why), service=self.service.name, code="bad-answer"))

    def _named(self, why: str) -> str:
        return why.replace("this door", f"the service '{self.service.name}' ({self.service.kind.leads_to})")


def _remote(sock: socket.socket) -> tuple[str, str]:
    """The peer's IP address, empty for a Unix socket; and where it comes from, for people."""
    try:
        remote, shown = remote_of(sock.getpeername())
    except OSError:  # it has gone
        return "", "nowhere any more"
    return str(remote or ""), shown


def make_front(service: Service, kind: Http, audit: Audit, patience: Patience) -> Front:
    """The front of this service."""
    first = kind.targets[0]
    host = b"localhost" if first.path is not None else str(first).encode("ascii")
    targets = Targets(service.name, kind.targets, audit, patient=kind.patient)
    return Front(service, targets, host, kind.timeout, kind.headers, service.routes is not None, audit, patience)

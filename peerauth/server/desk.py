"""Where peerauth/1 is spoken: whoever comes may ask, known or not; each request has its handler, and a bounded time.

Strangers get as far as here, and no further: bounded in number, by source, in time and in bytes. A handler is given a visit,
asks it again who that is at the moment of doing something, and answers with a message or raises.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from peerauth.audit import Audit, Event
from peerauth.control.line import Line
from peerauth.control.messages import No
from peerauth.control.wire import Message
from peerauth.errors import BadInput, PeerAuthError, printable
from peerauth.rate import Bucket, Buckets
from peerauth.server.arrivals import Arrival, source_of
from peerauth.server.refusals import Knock, Refusals
from peerauth.server.removals import Removals
from peerauth.store.config import Config, reserved_names
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.state import State
from peerauth.tls.session import Session
from peerauth.trust.certificate import Certificate
from peerauth.trust.decision import Address, Admitted, Decision, Refused, decide
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.identity import Identity
from peerauth.trust.peers import PeerSettings
from peerauth.trust.policy import Policy

SECONDS = 10.0  # for a whole visit
MOST_VISITS = 256
MOST_OF_A_SOURCE = 16
LONGEST_OF_A_STRANGER = 32 << 10  # bytes of a message
SERVICE = "peerauth/1"  # what events say it was about


@dataclass
class Office:
    """What the handlers know of the node and may use. Without `config` the node has no home, and nobody is enrolled."""

    identity: Identity
    peers: PeerDirectory
    audit: Audit
    config: Config | None = None
    policies: list[Policy] = field(default_factory=list)  # of every service
    guesses: Buckets = field(default_factory=lambda: Buckets(20, 1.0, time.monotonic))  # at a secret, by source
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # one joiner at a time takes a thread; the others wait here
    refusals: Refusals = field(init=False)
    removals: Removals = field(init=False)

    def __post_init__(self) -> None:
        self.removals = Removals(self.peers.current, self.peers.path, self.audit)
        state = self.state if self.config is not None and self.config.remember else None
        self.refusals = Refusals(self.audit, state, self._reserved)

    def _reserved(self) -> frozenset[str]:
        return reserved_names(self.config, self.policies) if self.config else frozenset()

    @property
    def state(self) -> State:
        """What the node notes for itself. Raises BadInput("not-offered") without a home."""
        return State(self.home.path.parent)

    @property
    def home(self) -> Config:
        """What the node is. Raises BadInput("not-offered") without a home."""
        if self.config is None:
            raise BadInput("not-offered", "this node has no home, and does that for nobody")
        return self.config

    async def enrol(self, wanted: str, certificate: Certificate, settings: PeerSettings | None, *, given: bool) -> str:
        """Pin a certificate as `PeerDirectory.enrol` does, beside the loop; the peer's name.

        `given`: a person of this node chose the name; otherwise it may be none that a service or group is made for.
        """
        reserved = None if given else reserved_names(self.home, self.policies)
        return await asyncio.to_thread(self.peers.enrol, wanted, certificate, settings, reserved)


@dataclass(eq=False)
class Visit:
    """One conversation with whoever has come. The key of `certificate` (DER) was proven, and that is all."""

    office: Office
    line: Line
    certificate: bytes
    remote: Address | None
    shown: str
    hears_the_end: bool = False  # what it asks for may end its own admission; it is answered all the same

    def decide(self) -> Decision:
        """Who this is, by the list as it is now."""
        return decide(self.certificate, self.office.peers.current, remote=self.remote, now=datetime.now(UTC))

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the certificate that was presented."""
        return Fingerprint.of(self.certificate)

    def refused(self, refused: Refused) -> None:
        """Have it said and remembered that this was the answer."""
        knock = Knock(SERVICE, self.shown, source_of(self.remote), self.remote, self.certificate, proven=True)
        self.office.refusals.refused(refused, knock, self.office.peers.current)

    @property
    def own(self) -> Fingerprint:
        """Of the certificate that we have presented here: the node may have gone over to another one since."""
        return Fingerprint.of(self.line.session.own_certificate)

    @property
    def source(self) -> str:
        """What counts as one source with whoever this is."""
        return source_of(self.remote)

    @property
    def channel(self) -> bytes:
        """What this connection alone has on both sides (RFC 9266): 32 bytes."""
        return self.line.session.channel_binding()


Handler = Callable[[Visit, Any], Awaitable[Message]]


class Desk:
    """The conversations of one server, in the running loop. `handlers`: by the type of the request."""

    def __init__(self, office: Office, handlers: dict[type[Message], Handler], now: Callable[[], float]) -> None:
        self.office = office
        self._handlers = handlers
        self._visits: dict[asyncio.Task[None], tuple[Visit, Decision]] = {}
        self._by_source: Counter[tuple[bool, str]] = Counter()  # peers, and strangers, apart: they take no room from peers
        self._failures = Bucket(20, 1.0, now)

    def __len__(self) -> int:
        return len(self._visits)

    def receive(self, arrival: Arrival, session: Session) -> None:
        """Take over a connection whose handshake is done. Raises NotAdmitted."""
        certificate = session.greet()
        line = Line(arrival.sock, session)
        visit = Visit(self.office, line, certificate, arrival.remote, arrival.shown)
        decision = visit.decide()
        known = isinstance(decision, Admitted)
        alike = sum(isinstance(other, Admitted) is known for _, other in self._visits.values())
        if alike >= MOST_VISITS or self._by_source[known, arrival.source] >= MOST_OF_A_SOURCE:
            arrival.sock.close()
            return
        if not known:
            line.limit = LONGEST_OF_A_STRANGER
        task = asyncio.create_task(self._converse(visit))
        self._visits[task] = visit, decision
        self._by_source[known, arrival.source] += 1
        task.add_done_callback(lambda task: self._over(task, (known, arrival.source)))

    def review(self) -> None:
        """The list admits less than before: end what was begun with a peer who is none any more."""
        for task, (visit, before) in list(self._visits.items()):
            if visit.hears_the_end:
                continue
            if isinstance(before, Admitted) and not isinstance(visit.decide(), Admitted):
                visit.line.abort()
                task.cancel()

    async def close(self, grace: float = 0) -> None:
        """End every conversation, those that are under way after `grace` seconds at the latest."""
        if grace and self._visits:
            await asyncio.wait(list(self._visits), timeout=grace)
        tasks = list(self._visits)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _over(self, task: asyncio.Task[None], source: tuple[bool, str]) -> None:
        visit, _ = self._visits.pop(task)
        if task.cancelled():  # perhaps before it began
            visit.line.abort()
        self._by_source[source] -= 1
        if not self._by_source[source]:
            del self._by_source[source]

    async def _converse(self, visit: Visit) -> None:
        line = visit.line
        try:
            async with asyncio.timeout(SECONDS):
                request = await line.receive(*self._handlers)
                await line.send(await self._answer(visit, request))
        except (OSError, PeerAuthError):  # it has left, or does not keep to the protocol; TimeoutError is an OSError
            line.abort()
        else:
            line.close()

    async def _answer(self, visit: Visit, request: Message) -> Message:
        try:
            return await self._handlers[type(request)](visit, request)
        except PeerAuthError as error:
            return No(error.code, error.message)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - of a handler: nobody else's trouble, and not the visitor's business
            if self._failures.take():
                text = f"'{request.type}' from {visit.shown} failed: {type(error).__name__}: {printable(str(error))}"
                self.office.audit.report(Event("problem", text, service=SERVICE, address=visit.shown, code="handler-failed"))
                asyncio.get_running_loop().call_exception_handler({"message": text, "exception": error})
            return No("failed", "something went wrong here, and is in the log")

"""A running node: its services, the peer set they share, and the watch over it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from peerauth.address import Address
from peerauth.audit import Audit, Event, handler_failed
from peerauth.errors import PeerAuthError, counted, printable
from peerauth.net.sockets import allow_many_files, bound_address, close_listener, open_listeners
from peerauth.server.answers import HANDLERS
from peerauth.server.beside import Tunnels
from peerauth.server.contexts import Contexts, Speech, speech_of
from peerauth.server.desk import Desk, Office
from peerauth.server.doors import Door, Doors
from peerauth.server.explainer import Explainer
from peerauth.server.listener import Shared, tell_loop
from peerauth.server.live import Connection, LiveConnections
from peerauth.server.porch import Porch
from peerauth.server.presence import Presence
from peerauth.server.reminders import Reminders
from peerauth.server.tally import Share, Tally
from peerauth.services.awake import Awake
from peerauth.services.guest import Serve, Served
from peerauth.services.offers import Offer, make_offer
from peerauth.store.config import Config, Limits, Service
from peerauth.store.own import Own
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.state import SERVING, State
from peerauth.store.watch import Change, watch
from peerauth.tls.context import MinimumVersion
from peerauth.tls.linger import close_all as close_lingering
from peerauth.tls.scratch import Scratch
from peerauth.trust.decision import Code, Refused
from peerauth.trust.identity import Identity
from peerauth.trust.peers import PeerSet
from peerauth.trust.policy import Policy

_TICK = 0.5  # seconds between looks at whose time is over


@dataclass(frozen=True)
class Inherited:
    """What a worker has from its parent: made once, before there were workers, and the same in all of them."""

    audit: Audit
    contexts: Contexts
    share: Share


class Server:
    """Services of one node in the running loop. `sink` receives what happens, unless this is a worker.

    With `own`, the identity on disk is followed; otherwise it is `identity` as long as the server runs.
    """

    def __init__(
        self,
        identity: Identity,
        peers: PeerDirectory,
        sink: Callable[[Event], None],
        *,
        limits: Limits | None = None,
        min_tls: MinimumVersion = "1.3",
        inherited: Inherited | None = None,
        config: Config | None = None,
        own: Own | None = None,
    ) -> None:
        allow_many_files()
        self.peers = peers
        self.limits = limits or Limits()
        share = inherited.share if inherited else Tally(1, self.limits.max_connections).share(0)
        self.live = LiveConnections(share)
        self._audit = inherited.audit if inherited else Audit(sink, time.monotonic)
        self._contexts = inherited.contexts if inherited else Contexts(identity, min_tls, share.tally)
        self._office = Office(identity, peers, self._audit, config)
        self._desk = Desk(self._office, HANDLERS, time.monotonic)
        self._explainer = Explainer(remembers=lambda: config is not None and config.remember)
        self._presence = Presence(own, self._contexts, share, self._audit) if own else None
        self._known = peers.current  # by whom connections were last decided about
        self._several_processors = (os.cpu_count() or 1) > 1
        self._seen = contextlib.ExitStack()
        self._is_seen = False
        self._porch = Porch(
            self.limits.max_handshakes,
            self.limits.handshake_timeout,
            tell_loop(asyncio.get_running_loop()),
            share.tally.workers,
        )
        self._shared = Shared(
            asyncio.get_running_loop(),
            lambda: peers.current,
            self.live,
            self._porch,
            self._audit,
            self._desk,
            self._explainer,
            lambda: self.limits,
            Scratch(),
            Awake(asyncio.get_running_loop().call_soon, self._alone, time.monotonic),
            socket.socket.close if inherited else close_listener,
        )
        self.doors = Doors(self._shared, self._contexts, self._audit, self._office.policies, config)
        self.tunnels: Tunnels | None = None
        self._following = asyncio.create_task(self._follow())
        office = self._office
        self._reminders = Reminders(lambda: office.identity.certificate, peers, office.state if config else None)
        self._hurry = asyncio.Event()
        self._ticking = asyncio.create_task(self._tick())
        self._also: list[asyncio.Task[None]] = []
        if share.worker == 0:  # of several workers one is enough
            self.do_also(self._reminders.follow(self._audit.common))

    async def add_service(self, service: Service, sockets: list[socket.socket] | None = None) -> list[Address]:
        """Open a configured service, at `sockets` if they are there already, and return where it listens.

        From then on other processes see that this node serves. Raises PeerAuthError: "cannot-listen", or what keeps the
        service from being ready.
        """
        offer = await make_offer(service, self._audit, self._office.config)
        try:
            sockets = open_listeners(service.listen, service.file) if sockets is None else sockets
        except PeerAuthError:
            await offer.close()
            raise
        self._be_seen()
        return places_of(self.doors.open(sockets, offer, service.policy, speech_of(service), service))

    def listen(self, address: Address, serve: Serve, policy: Policy, alpn: tuple[bytes, ...] = ()) -> list[Address]:
        """Serve admitted peers at `address`; returns the bound addresses."""
        return places_of(self.doors.open(open_listeners(address), Offer(serve), policy, Speech(alpn)))

    def take_over(
        self,
        config: Config,
        services: Sequence[Service],
        kept: Sequence[int | None],
        offers: Sequence[Offer | None],
        sockets: Sequence[list[socket.socket] | None],
    ) -> None:
        """Go on by another configuration; `kept`, `offers`: as in `doors.prepare`, `sockets`: of new doors."""
        self.limits = config.limits
        self._porch.bound(config.limits.max_handshakes, config.limits.handshake_timeout)
        self._office.config = config
        if services:
            self._be_seen()
        if self.doors.change(services, kept, offers, sockets):
            self._decide_again(self.live.names(), self.peers.current)

    def close_listening(self, sockets: Iterable[socket.socket]) -> None:
        """Close these, as a process closes what it listens at: alone, or as one of several that have the same sockets."""
        for sock in sockets:
            if sock.fileno() >= 0:
                self._shared.close(sock)

    def _be_seen(self) -> None:
        config = self._desk.office.config
        if config is not None and not self._is_seen:
            self._is_seen = True
            with contextlib.suppress(PeerAuthError):  # where nothing can be noted, it serves unseen
                self._seen.enter_context(State(config.path.parent).alive(SERVING, many=True))

    def handler_failed(self, served: Served, error: Exception) -> None:
        """What serves this connection has failed later on: end the connection, and say why."""
        connection = self.live.find(served)
        served.abort()
        if connection is not None:
            event = handler_failed(error, connection.policy.service, connection.shown, served.admitted)
            if not self._audit.refused(event):
                return
        asyncio.get_running_loop().call_exception_handler({"message": "a handler failed", "exception": error})

    def _alone(self) -> bool:
        """Whether nobody else needs the processor that the loop has."""
        return self._several_processors and not self._porch

    def report(self, event: Event) -> None:
        """Say that something has happened."""
        self._audit.report(event)

    def say(self, event: Event) -> None:
        """Say something that every worker may find out for itself, once."""
        self._audit.common(event)

    def do_also(self, work: Coroutine[Any, Any, None]) -> None:
        """Something that is to go on while the server runs, and ends with it."""
        self._also.append(asyncio.create_task(work))

    def look_again(self) -> None:
        """Look at the peers and at our identity now, whether or not the system has told of a change."""
        self._hurry.set()
        self._following.cancel()
        self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        """Watch over the peers; a watch that fails is reported, everyone is decided about again, and it begins anew."""
        while True:
            if (
                self.peers.current is not self._known and self.peers.current != self._known
            ):  # another watch was ended between looking and telling
                self._decide_again(self.live.names(), self.peers.current)
            try:
                await watch(self.peers, self._on_change)
            except Exception as error:  # noqa: BLE001 - a server that no longer hears of removals must not just go on
                text = f"following the peers failed and begins anew: {printable(str(error))}"
                self._audit.common(Event("problem", text, code="not-followed"))
                self._decide_again(self.live.names(), self.peers.current)
                await asyncio.sleep(_TICK)

    def _decide_again(self, names: Iterable[str], peers: PeerSet) -> None:
        """The list may admit less than before: look at the connections of these peers, and at everyone in the handshake."""
        # No ticket from before is good any more: whoever was removed gets a full handshake and hears why it fails. That
        # nobody is resumed against the list does not rest on this; it is decided again after every handshake.
        self.live.share.begin_epoch()
        self.live.review(names, peers, datetime.now(UTC), self._ended)
        self._porch.review()
        self._desk.review()
        self._known = peers
        if self.tunnels is not None:
            self.tunnels.review()

    def _on_change(self, change: Change) -> None:
        self._known = change.after
        self._reminders.look_at((*change.added, *change.changed))
        if self._office.config is not None:
            self._office.removals.see(change, self._office.state)
        if change.removed or change.changed:
            concerned = {*change.removed, *change.changed}
            self._decide_again([name for name in self.live.names() if name in concerned], change.after)
        for verb, changed in (("added", change.added), ("removed", change.removed), ("changed", change.changed)):
            for name in changed[:20]:
                self._audit.common(Event(f"peer-{verb}", f"{name} was {verb}; {_admitted(len(change.after))}", peer=name))
            more = len(changed) - 20
            if more > 0:
                text = f"{counted(more, 'more peer')} {'was' if more == 1 else 'were'} {verb}"
                self._audit.common(Event(f"peer-{verb}", text))
        for problem in change.problems[:20]:
            self._audit.common(Event("problem", problem.message, code=problem.code))

    def _ended(self, connection: Connection, refused: Refused) -> None:
        peer = connection.served.peer.name
        reason = "it is not pinned any more" if refused.code is Code.UNKNOWN else refused.reason
        text = f"the connection of {peer} from {connection.shown} was ended: {reason}"
        self._audit.report(
            Event(
                "ended",
                text,
                None,
                connection.policy.service,
                connection.shown,
                peer,
                str(refused.fingerprint),
                str(refused.code),
            )
        )

    async def _tick(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._hurry.wait()
            self._hurry.clear()
            now = datetime.now(UTC)
            names = self.live.overdue(now)
            if names:
                self.live.review(names, self.peers.current, now, self._ended)
            self.live.look()
            self._audit.flush()
            if self._presence is not None:
                self._office.identity = await self._presence.look()

    async def drain(self, hurry: Awaitable[object]) -> None:
        """Stop, giving open connections the configured time, but no longer than until `hurry` returns."""
        stopping = asyncio.ensure_future(self.stop())
        hurrying = asyncio.ensure_future(hurry)
        await asyncio.wait({stopping, hurrying}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)
            await self.stop(0)
        hurrying.cancel()

    async def stop(self, drain: float | None = None, *, visits: float = 0) -> None:
        """Accept no more; give open connections `drain` seconds (default: the configured limit) to end, then end them.

        `visits`: seconds for those who speak peerauth/1; strangers can be among them.
        """
        self._seen.close()
        self.doors.shut()
        seconds = self.limits.drain if drain is None else drain
        beside = None
        if self.tunnels is not None:
            self.close_listening(self.tunnels.shut())
            beside = asyncio.ensure_future(self.tunnels.stop(seconds))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.live.none_left()
        for served in self.live.everyone():
            served.abort()
        if beside is not None:
            await beside
        await self.doors.close()
        await self._explainer.close()
        await self._desk.close(visits)
        tasks = [self._following, self._ticking, *self._also]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._porch.close()
        await asyncio.sleep(0)  # what the threads had is handed back to the loop, and closed there
        await self._desk.office.refusals.close()
        await self._desk.office.removals.close()
        close_lingering()


def places_of(door: Door) -> list[Address]:
    """Where a door is."""
    return [bound_address(sock) for sock in door.listener.sockets]


def _admitted(count: int) -> str:
    return f"{counted(count, 'peer')} {'is' if count == 1 else 'are'} admitted"

"""The doors of one server: each with the service behind it, and how they become those of another configuration.

A door that another configuration does not have accepts no more at once. Who is in gets the time that draining takes, and
is then shown out; only then is the service behind it closed. Nobody comes in meanwhile: where another service has the door,
who is in the handshake is its guest. Whom that one is for counts at once for those who are in, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from peerauth.audit import Audit
from peerauth.server.contexts import Contexts, Speech, speech_of
from peerauth.server.listener import Listener, Shared
from peerauth.services.offers import Offer, make_offer
from peerauth.store.config import Config, Service
from peerauth.trust.policy import Policy


@dataclass(eq=False, slots=True)
class Door:
    """Where a service is entered. `service`: as it is configured; None for one of the library."""

    listener: Listener
    offer: Offer
    service: Service | None = None


def is_the_same(before: Service, after: Service) -> bool:
    """Whether what is behind the door stays as it is: then only who may come in can differ."""
    return replace(before, listen=after.listen, policy=after.policy) == after


class Doors:
    """All doors of a server, in the running loop. `policies`: those of all services, kept for others who ask."""

    def __init__(
        self, shared: Shared, contexts: Contexts, audit: Audit, policies: list[Policy], config: Config | None
    ) -> None:
        self._shared = shared
        self._contexts = contexts
        self._audit = audit
        self._policies = policies
        self._config = config
        self._doors: list[Door] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._going: list[Door] = []  # where nobody comes in any more, and somebody may be
        self.left: Callable[[str], None] = lambda _: None  # told of the backend of a command when no guest has it any more

    def __len__(self) -> int:
        return len(self._doors)

    @property
    def listeners(self) -> list[Listener]:
        """Door by door."""
        return [door.listener for door in self._doors]

    def open(
        self,
        sockets: list[socket.socket],
        offer: Offer,
        policy: Policy,
        speech: Speech,
        service: Service | None = None,
    ) -> Door:
        """Let peers in at these sockets."""
        door = self._make(sockets, offer, policy, speech, service)
        self._doors.append(door)
        self._note_policies()
        return door

    async def prepare(self, services: Sequence[Service], kept: Sequence[int | None]) -> list[Offer | None]:
        """Make ready what is behind the doors of another configuration, where it is not there already (None).

        `kept`: by service, which of the doors that there are becomes its own. Raises PeerAuthError, and nothing has changed.
        """
        offers: list[Offer | None] = []
        try:
            for service, number in zip(services, kept, strict=True):
                before = None if number is None else self._doors[number].service
                stays = before is not None and is_the_same(before, service)
                offers.append(None if stays else await make_offer(service, self._audit, self._config, aside=True))
        except BaseException:
            await discard(offers)
            raise
        return offers

    def change(
        self,
        services: Sequence[Service],
        kept: Sequence[int | None],
        offers: Sequence[Offer | None],
        sockets: Sequence[list[socket.socket] | None],
    ) -> bool:
        """Have the doors of another configuration, as prepared; `sockets`: of the new ones.

        True when somebody who is in may have no business there any more.
        """
        before, self._doors = self._doors, []
        narrowed = False
        for service, number, offer, new in zip(services, kept, offers, sockets, strict=True):
            old = None if number is None else before[number]
            narrowed |= old is not None and old.listener.policy != service.policy
            if old is not None and offer is None:
                old.listener.policy, old.service = service.policy, service
                self._doors.append(old)
                continue
            assert offer is not None
            own = (new or []) if old is None else old.listener.hand_over()
            door = self._make(own, offer, service.policy, speech_of(service), service)
            self._doors.append(door)
            if old is not None:
                old.listener.leave_to(door.listener)
                self._see_out(old)
        for old in before:
            if old not in self._doors and before.index(old) not in kept:
                old.listener.stop()
                self._see_out(old)
        self._note_policies()
        return narrowed

    def stand_in(self, sockets: list[list[socket.socket]]) -> None:
        """Accept for a worker that is not there: its sockets, door by door."""
        for listener, its in zip(self.listeners, sockets, strict=True):
            listener.stand_in(its)

    def step_back(self, sockets: list[list[socket.socket]]) -> None:
        """The worker that these belong to is there again."""
        for listener, its in zip(self.listeners, sockets, strict=True):
            listener.step_back(its)

    def shut(self) -> None:
        """Accept no more anywhere."""
        for door in self._doors:
            door.listener.stop()
            door.offer.wind_down()

    async def close(self) -> None:
        """Close the services, when nobody is in any more."""
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        doors, self._doors = self._doors, []
        await discard([door.offer for door in doors])

    def _make(
        self, sockets: list[socket.socket], offer: Offer, policy: Policy, speech: Speech, service: Service | None
    ) -> Door:
        begin = functools.partial(self._contexts.begin, speech)
        listener = Listener(self._shared, sockets, policy, begin, offer.serve)
        listener.start()
        return Door(listener, offer, service)

    def _note_policies(self) -> None:
        self._policies[:] = [listener.policy for listener in self.listeners]

    def _see_out(self, door: Door) -> None:
        door.offer.wind_down()
        self._going.append(door)
        task = asyncio.create_task(self._seen_out(door))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _seen_out(self, door: Door) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._shared.limits().drain):
                    await door.listener.none_left.wait()
        finally:
            for served in self._shared.live.at(door.listener):
                served.abort()
            await door.offer.close()
            self._going.remove(door)
            backend = door.service.backend if door.service else None
            others = [other.service.backend for other in (*self._doors, *self._going) if other.service]
            if backend is not None and backend not in others:
                self.left(backend)


async def discard(offers: Sequence[Offer | None]) -> None:
    """Close what is not used, or not any more."""
    await asyncio.gather(*(offer.close() for offer in offers if offer is not None))

"""What a service leads to in the clear: one target or several, and the way to one that answers.

CONNECT_TIMEOUT is for all of them together: of what is left, each gets its share, and the last one the rest.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from typing import Final

from peerauth.address import Address
from peerauth.audit import Audit, Event
from peerauth.net.reach import CONNECT_TIMEOUT, connected_at_once, reach
from peerauth.services.upstreams import Upstreams

_NOT_YET: Final = (FileNotFoundError, ConnectionRefusedError)
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0
_HINT: Final = "is the program behind it running?"


class Targets:
    """The targets of the service of this name. `patient`: one that does not listen yet is waited for."""

    def __init__(
        self,
        service: str,
        targets: tuple[Address, ...],
        audit: Audit,
        now: Callable[[], float] = time.monotonic,
        *,
        patient: bool = False,
    ) -> None:
        self._service = service
        self._audit = audit
        self._several = len(targets) > 1
        self._upstreams = Upstreams(targets, now)
        self._patient = patient
        self.turn = self._upstreams.turn

    def at_once(self, turn: tuple[Address, ...]) -> socket.socket | None:
        """A connection to the first of this turn where that takes no waiting."""
        sock = connected_at_once(turn[0])
        if sock is not None and self._several:
            self._worked(turn[0])
        return sock

    async def reach(self, turn: tuple[Address, ...]) -> socket.socket:
        """A connected non-blocking socket, to the first that answers.

        Raises OSError or UnicodeError, of which the log has heard.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + CONNECT_TIMEOUT
        last: OSError | UnicodeError = TimeoutError()
        for left, target in zip(range(len(turn), 0, -1), turn, strict=True):
            try:
                async with asyncio.timeout((end - loop.time()) / left):
                    sock = await self._reach(loop, target)
            except (OSError, UnicodeError) as error:  # TimeoutError is one; a name that cannot be one is the other
                last = error
                self._failed(target, error)
            else:
                self._worked(target)
                return sock
        if self._several:
            self._say_down(f"none of the {len(turn)} targets can be reached; of {turn[-1]}: {_reason(last)}")
        raise last

    async def _reach(self, loop: asyncio.AbstractEventLoop, target: Address) -> socket.socket:
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return await reach(loop, target)
            except _NOT_YET:
                if not self._patient:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)  # many may wait

    def _worked(self, target: Address) -> None:
        if self._upstreams.worked(target) and self._several:
            self._audit.refused(Event("target-up", f"the target {target} can be reached again", service=self._service))

    def _failed(self, target: Address, error: Exception) -> None:
        """Of several, it is said once until one has answered; of one, each time."""
        if self._upstreams.failed(target) or not self._several:
            self._say_down(f"the target {target} cannot be reached: {_reason(error)}")

    def _say_down(self, text: str) -> None:
        self._audit.refused(Event("target-down", text, _HINT, self._service, code="target-down"))


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno and error.errno > 0:  # not one of the resolver's
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error)

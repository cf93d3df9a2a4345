"""What a server says about itself, as data: who came, who was refused and why, what changed.

Strangers can knock as often as they like; they cannot fill a disk. Refusals are reported up to a rate, and what was left out
is counted and said later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from peerauth.errors import counted, printable
from peerauth.rate import Bucket
from peerauth.trust.decision import Admitted

REFUSALS_AT_ONCE = 20
REFUSALS_PER_SECOND = 2.0

_log = logging.getLogger("peerauth")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `event` and `code` are stable; the rest is for people."""

    event: str
    message: str
    hint: str | None = None
    service: str | None = None
    address: str | None = None
    peer: str | None = None
    fingerprint: str | None = None
    code: str | None = None
    worker: int | None = None
    pid: int | None = None
    days_left: int | None = None

    def as_data(self) -> dict[str, Any]:
        """The event without what is not set, for JSON."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def handler_failed(error: Exception, service: str, address: str, admitted: Admitted) -> Event:
    """A service's own code raised; the connection that it had is ended."""
    name = admitted.peer.name
    return Event(
        "problem",
        f"the service '{service}' failed with {name} from {address}: {type(error).__name__}: {printable(str(error))}",
        service=service,
        address=address,
        peer=name,
        fingerprint=str(admitted.fingerprint),
        code="handler-failed",
    )


def _quiet(sink: Callable[[Event], None]) -> Callable[[Event], None]:
    """The same sink, whose own troubles (a closed pipe, a full disk) are nobody's who comes, goes or is removed."""

    def tell(event: Event) -> None:
        try:
            sink(event)
        except Exception:  # noqa: BLE001 - whatever it is
            _log.exception("an event could not be reported")

    return tell


class Audit:
    """Hands events to a sink; refusals through a token bucket on the clock `now` (seconds, monotonic)."""

    def __init__(self, sink: Callable[[Event], None], now: Callable[[], float]) -> None:
        self._sink = _quiet(sink)
        self._refusals = Bucket(REFUSALS_AT_ONCE, REFUSALS_PER_SECOND, now)

    def report(self, event: Event) -> None:
        """Report something that cannot be caused at will by strangers."""
        self._sink(event)

    def common(self, event: Event) -> None:
        """Report something that every worker of a node sees for itself, and that is to be said once."""
        self._sink(event)

    def refused(self, event: Event | Callable[[], Event]) -> bool:
        """Report a refusal, unless there were too many lately; whether it was. One that is not costs no words."""
        if not self._refusals.take():
            return False
        self.flush()
        self._sink(event if isinstance(event, Event) else event())
        return True

    def left_out(self, count: int) -> None:
        """So many refusals were left out elsewhere already."""
        self._refusals.leave_out(count)

    def flush(self) -> None:
        """Say how many refusals were left out, if any."""
        count = self._refusals.left_out()
        if count:
            self._say_left_out(count)

    def _say_left_out(self, count: int) -> None:
        self._sink(Event("left-out", f"{counted(count, 'more refusal')}, not listed one by one"))

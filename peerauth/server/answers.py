"""What the desk answers: one handler for each request of peerauth/1."""

from __future__ import annotations

from datetime import UTC, datetime

from peerauth.control.messages import Check, Checked
from peerauth.control.rotation import History, Rotate
from peerauth.control.wire import Message
from peerauth.server.desk import Handler, Visit
from peerauth.server.rotation import history, rotate
from peerauth.trust.decision import Refused


async def check(visit: Visit, request: Check) -> Checked:
    """Say what the visitor is to us."""
    del request
    decision = visit.decide()
    if isinstance(decision, Refused):
        return Checked(visit.fingerprint, str(decision.code), decision.reason)
    services = [policy.service for policy in visit.office.policies if policy.allows(decision.peer)]
    now = datetime.now(UTC)
    return Checked(visit.fingerprint, name=decision.peer.name, services=tuple(dict.fromkeys(services)), time=now)


HANDLERS: dict[type[Message], Handler] = {Check: check, Rotate: rotate, History: history}

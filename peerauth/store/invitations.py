"""The invitations of a node, in `state/invitations.json`: what proofs are checked with, and who has used which.

The rules:
1. No secret is here: whoever reads the file can join nowhere.
2. A use is counted, durably, before anybody is pinned; killed in between, the count stays. Who was counted and not pinned
   may finish within `UNFINISHED`, with the same certificate, and is not counted again.
3. Whoever has joined does not join again by the same invitation, nor does a certificate that was removed since it was made,
   however it had been pinned: a peer that was removed stays removed.
4. What cannot be read is no invitation; without the file there is none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from peerauth.errors import BadInput
from peerauth.store.state import State
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import check_name

NAME = "invitations"
LONGEST = timedelta(days=30)  # until an invitation expires
MOST_USES = 10_000  # of all invitations together, so that the file stays small
MOST = 1000
KEPT = timedelta(days=7)  # after it has expired, so that it can still be said that it has
UNFINISHED = timedelta(minutes=10)
_REMOVED = "removed"  # the file of those who were removed while an invitation was good, and when
_MOST_REMOVED = 10_000


@dataclass(frozen=True, slots=True)
class Use:
    """One use. `name` is None from the count until the joiner is pinned."""

    at: datetime
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation as it is noted. `name`: what who joins is called, if that was said."""

    id: bytes
    verifier: bytes
    made: datetime
    expires: datetime
    uses: int
    name: str | None = None
    tags: tuple[str, ...] = ()
    revoked: bool = False
    used: Mapping[Fingerprint, Use] = field(default_factory=dict)

    def over(self, now: datetime) -> str | None:
        """Why it is good for nobody new: `revoked`, `expired` or `used up`; None while it is."""
        if self.revoked:
            return "revoked"
        if now >= self.expires:
            return "expired"
        return "used up" if len(self.used) >= self.uses else None

    def objection(self, who: Fingerprint, now: datetime) -> str | None:
        """Why this certificate may not come in by it, as a sentence; None if it may."""
        over = self.over(now)
        if over in {"revoked", "expired"}:
            return f"the invitation {'was' if over == 'revoked' else 'has'} {over}"
        use = self.used.get(who)
        if use is None:
            return f"the invitation was used {self.uses} of {self.uses} times" if over else None
        if use.name is None and timedelta(0) <= now - use.at < UNFINISHED:
            return None
        return "this certificate has come in by the invitation before, and was removed since"


class Invitations:
    """The invitations of one node, shared by all its processes. Methods wait for the disk: not for a loop's thread."""

    def __init__(self, state: State) -> None:
        self._state = state

    def all(self) -> list[Invitation]:
        """Every invitation that is noted, the oldest first."""
        return sorted(_readable(self._state.read(NAME)), key=lambda invitation: (invitation.made, invitation.id))

    def verifier(self, id_: bytes) -> bytes | None:
        """What proofs of this invitation are checked with, if there is one."""
        try:
            return bytes.fromhex(self._state.read(NAME)[id_.hex()]["verifier"])
        except (KeyError, TypeError, ValueError):
            return None

    def add(self, invitation: Invitation, now: datetime) -> None:
        """Note a new one, and forget those that are long over. Raises BadInput("too-many-invitations")."""
        with self._state.changing(NAME) as noted:
            for old in list(_readable(noted)):
                if now >= old.expires + KEPT:
                    del noted[old.id.hex()]
            uses = sum(known.uses for known in _readable(noted))
            if len(noted) >= MOST or uses + invitation.uses > MOST_USES:
                text = f"there are too many: {len(noted)} invitations for {uses} uses are noted, and {MOST_USES} at most"
                raise BadInput("too-many-invitations", text, "they are forgotten a week after they have expired")
            noted[invitation.id.hex()] = _written(invitation)

    def revoke(self, ids: Iterable[bytes], now: datetime) -> list[bytes]:
        """Make these good for nobody any more; which of them were until now."""
        found: list[bytes] = []
        with self._state.changing(NAME) as noted:
            for id_ in ids:
                known = _read(id_.hex(), noted.get(id_.hex()))
                if known is not None and not known.revoked:
                    found += [id_] if known.over(now) is None else []
                    noted[id_.hex()] = _written(replace(known, revoked=True))
        return found

    def forget(self, pins: Iterable[Fingerprint], now: datetime) -> list[Invitation]:
        """These were removed by a person: none of them comes back by what it has. The ones that others may still use."""
        gone = frozenset(pins)
        left: list[Invitation] = []
        if any(known.over(now) is None for known in self.all()):
            self._note_removal(gone, now)
        if not any(gone & known.used.keys() for known in self.all()):
            return left
        with self._state.changing(NAME) as noted:
            for known in list(_readable(noted)):
                used = {who: replace(use, name=use.name or "") for who, use in known.used.items() if who in gone}
                if used:
                    noted[known.id.hex()] = _written(replace(known, used={**known.used, **used}))
                    left += [known] if known.over(now) is None else []
        return left

    def _note_removal(self, gone: Iterable[Fingerprint], now: datetime) -> None:
        """Rule 3 for those who were not counted: who was pinned otherwise, or has another certificate since."""
        with self._state.changing(_REMOVED) as noted:
            earlier = {pin: at for pin, at in _removals(noted).items() if now - at < LONGEST}
            newest = sorted((earlier | dict.fromkeys(gone, now)).items(), key=lambda item: item[1])[-_MOST_REMOVED:]
            noted.clear()
            noted.update({pin.digest.hex(): at.isoformat() for pin, at in newest})

    def _was_removed_since(self, invitation: Invitation, who: Fingerprint) -> bool:
        removed = _removals(self._state.read(_REMOVED)).get(who)
        return removed is not None and who not in invitation.used and removed >= invitation.made

    # One joiner after the other

    def in_turn(self) -> contextlib.AbstractContextManager[None]:
        """While the block runs nobody else joins, in whichever process; what was begun before has ended, or was killed."""
        return self._state.locked("joining")

    def count(self, id_: bytes, who: Fingerprint, now: datetime) -> Invitation:
        """Count a use by this certificate, durably, before it is pinned. Raises BadInput("invitation")."""
        with self._changing(id_) as (known, used):
            objection = known.objection(who, now)
            if objection is None and self._was_removed_since(known, who):
                objection = "this certificate was pinned when the invitation was made or later, and was removed since"
            if objection is not None:
                raise BadInput("invitation", objection, "ask for a new one, there: peerauth invite")
            used.setdefault(who, Use(now))
        return known

    def settle(self, id_: bytes, who: Fingerprint, name: str) -> None:
        """It is pinned, under this name: the use is over."""
        with self._changing(id_) as (_, used):
            if who in used and used[who].name is None:
                used[who] = replace(used[who], name=name)

    def give_back(self, id_: bytes, who: Fingerprint) -> None:
        """It could not be pinned, and that is no fault of the invitation: the use is not counted."""
        with self._changing(id_) as (_, used):
            used.pop(who, None)

    @contextlib.contextmanager
    def _changing(self, id_: bytes) -> Iterator[tuple[Invitation, dict[Fingerprint, Use]]]:
        with self._state.changing(NAME) as noted:
            known = _read(id_.hex(), noted.get(id_.hex()))
            if known is None:
                raise BadInput("invitation", "the invitation is not there any more")
            used = dict(known.used)
            yield known, used
            if used != known.used:
                noted[id_.hex()] = _written(replace(known, used=used))


def _readable(noted: Mapping[str, Any]) -> Iterator[Invitation]:
    for key, value in noted.items():
        known = _read(key, value)
        if known is not None:
            yield known


def _written(invitation: Invitation) -> dict[str, Any]:
    return {
        "verifier": invitation.verifier.hex(),
        "made": invitation.made.isoformat(),
        "expires": invitation.expires.isoformat(),
        "uses": invitation.uses,
        "name": invitation.name,
        "tags": list(invitation.tags),
        "revoked": invitation.revoked,
        "used": {who.digest.hex(): [use.at.isoformat(), use.name] for who, use in invitation.used.items()},
    }


def _read(key: str, value: Any) -> Invitation | None:  # noqa: ANN401 - whatever JSON had there
    """The invitation that is noted so; None when any part of it cannot be read."""
    try:
        return Invitation(
            bytes.fromhex(key),
            bytes.fromhex(value["verifier"]),
            _moment(value["made"]),
            _moment(value["expires"]),
            int(value["uses"]),
            None if value["name"] is None else check_name(value["name"]),
            tuple(str(tag) for tag in value["tags"]),
            value["revoked"] is not False,
            {Fingerprint(bytes.fromhex(who)): Use(_moment(at), name) for who, (at, name) in value["used"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, BadInput):
        return None


def _removals(noted: Mapping[str, Any]) -> dict[Fingerprint, datetime]:
    found: dict[Fingerprint, datetime] = {}
    for pin, at in noted.items():
        with contextlib.suppress(TypeError, ValueError, BadInput):
            found[Fingerprint(bytes.fromhex(pin))] = _moment(at)
    return found


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)

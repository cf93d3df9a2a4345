"""The file of the refusals, `state/refused.json`, and the strangers in it who wait for a person's word.

Every change is made while the file is ours alone, so that workers, and people at the command line, lose nothing of each
other's. A stranger is approved or denied, whichever comes first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from peerauth.errors import BadInput
from peerauth.store.refusals import (
    SUCCESSOR,
    Refusal,
    Table,
    as_row,
    newest_first,
    read_moment,
    read_rows,
    successor,
)
from peerauth.store.state import State
from peerauth.trust.decision import Code
from peerauth.trust.explain import LARGEST, claimed_name
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.succession import Question

FILE: Final = "refused"
_MOST_DENIED: Final = 1000
_NAMED: Final = 10  # of several whose fingerprints begin alike
_REFUSALS, _DENIED = "refusals", "denied"
_WAITING = (Code.UNKNOWN, SUCCESSOR)  # the codes of those who can be approved


@dataclass(frozen=True, slots=True)
class Stranger:
    """A certificate (DER) that came and is pinned nowhere, with all of its visits; the latest of them gives the address.

    `claim` is what it calls itself, escaped. `denied` is when a person said that it is not to be shown again.
    """

    fingerprint: Fingerprint
    certificate: bytes
    claim: str
    address: str
    first: datetime
    last: datetime
    times: int
    proven: bool
    successor_of: str | None = None
    old: Fingerprint | None = None
    retire: datetime | None = None
    denied: datetime | None = None


def remembered(state: State) -> list[Refusal]:
    """The refusals that are remembered, the newest first."""
    return newest_first(refusal for refusal in read_rows(state.read(FILE).get(_REFUSALS)) if refusal.code != SUCCESSOR)


def remember(state: State, news: Iterable[Refusal]) -> None:
    """Add these to what is remembered. Raises PeerAuthError; waits for others who change it."""
    with state.changing(FILE) as noted:
        table = Table()
        for refusal in (*read_rows(noted.get(_REFUSALS)), *news):
            table.note(refusal)
        noted[_REFUSALS] = [as_row(refusal) for refusal in table]


def ask_person(state: State, question: Question, address: str) -> bool:
    """Have a person asked whether this is to be the peer's next certificate; whether it is the one that waits.

    The first of a peer waits, until it is approved, denied or withdrawn; it is written once, however often it comes,
    denied or not. The caller has checked the statement that says so. Raises BadInput("too-large"), or as `remember`.
    """
    if len(question.certificate.der) > LARGEST:
        raise BadInput("too-large", f"the next certificate of {question.peer} is larger than {LARGEST // 1024} KB")
    mine = question.certificate.fingerprint
    before = state.read(FILE)
    waits = _successor(before, question.peer)
    if waits is None and all(row.fingerprint != mine for row in _questions(before, question.peer)):
        asked = successor(question, address, datetime.now(UTC))
        with state.changing(FILE) as noted:
            waits = _successor(noted, question.peer)
            if waits is None:
                denied = _denied(noted)
                _keep(noted, lambda row: row.successor_of != question.peer or row.fingerprint in denied)
                noted[_REFUSALS] = [*noted[_REFUSALS], as_row(asked)]
    return waits in (None, mine)


def forget_questions(state: State, peer: str, certificates: Iterable[Fingerprint]) -> None:
    """These certificates of a peer were withdrawn, or their key is in other hands: nobody is to be asked about them."""
    gone = set(certificates)
    if _successor(state.read(FILE), peer) in gone:
        with state.changing(FILE) as noted:
            _keep(noted, lambda refusal: refusal.successor_of != peer or refusal.fingerprint not in gone)


def forget_peer(state: State, peer: str) -> None:
    """Nobody is asked any more about the next certificate of a peer who had this name: it may be another's from now on."""
    if any(refusal.successor_of == peer for refusal in read_rows(state.read(FILE).get(_REFUSALS))):
        with state.changing(FILE) as noted:
            _keep(noted, lambda refusal: refusal.successor_of != peer)


def _successor(noted: Mapping[str, Any], peer: str) -> Fingerprint | None:
    """The certificate of which a person is to say whether it is this peer's next."""
    denied = _denied(noted)
    return next((row.fingerprint for row in _questions(noted, peer) if row.fingerprint not in denied), None)


def _questions(noted: Mapping[str, Any], peer: str) -> Iterator[Refusal]:
    """What a person was asked about this peer's next certificate, the denied ones included."""
    return (row for row in read_rows(noted.get(_REFUSALS)) if row.successor_of == peer)


def forget(state: State, fingerprint: Fingerprint) -> None:
    """Forget the visits of this certificate as an unknown one, and that it was to be a peer's next one."""
    with state.changing(FILE) as noted:
        _forget(noted, fingerprint)


def strangers(state: State) -> list[Stranger]:
    """Everybody who could be approved, the newest first; the denied, too."""
    return _strangers(state.read(FILE))


@contextlib.contextmanager
def approving(state: State, fingerprint: Fingerprint, successor_of: str | None = None) -> Iterator[None]:
    """The block pins this certificate; nobody denies it meanwhile, and when the block ends well, it is not pending any more.

    Raises BadInput: `denied` when somebody has denied it before, `no-such-stranger` when it was to be the next one of a
    peer and is not any more.
    """
    with state.changing(FILE) as noted:  # whoever has this lock may want that of peers/; nobody wants them the other way
        when = _denied(noted).get(fingerprint)
        if when is not None:
            text = f"{fingerprint} was denied on {when:%Y-%m-%d %H:%M} UTC; nothing was pinned"
            raise BadInput("denied", text, f"to take that back: peerauth peer deny --undo {fingerprint}")
        if successor_of is not None and _successor(noted, successor_of) != fingerprint:
            text = f"{fingerprint} is not to be the next certificate of {successor_of} any more; nothing was pinned"
            raise BadInput("no-such-stranger", text, "to see who has tried to come in: peerauth peer pending --all")
        yield
        _forget(noted, fingerprint)


def deny(state: State, prefixes: Iterable[str], now: datetime) -> list[Stranger]:
    """Do not show those again whose fingerprints begin with these hex digits; who they are. Raises BadInput, all or none."""
    with state.changing(FILE) as noted:
        waiting = _strangers(noted)
        found = [find(waiting, prefix) for prefix in prefixes]
        fresh = {stranger.fingerprint: now for stranger in found if stranger.denied is None}
        _write_denied(noted, _denied(noted) | fresh)
    return found


def take_back(state: State, prefixes: Iterable[str]) -> list[Fingerprint]:
    """Show these again, who were denied. Raises BadInput, all or none."""
    with state.changing(FILE) as noted:
        before = _denied(noted)
        found = [_only({one: str(one) for one in before}, prefix, "was denied") for prefix in prefixes]
        _write_denied(noted, {one: when for one, when in before.items() if one not in found})
    return found


def denied(state: State) -> dict[Fingerprint, datetime]:
    """Who was denied, and when."""
    return _denied(state.read(FILE))


def find(among: Iterable[Stranger], prefix: str) -> Stranger:
    """The one whose fingerprint begins with these hex digits. Raises BadInput: `no-such-stranger`, `ambiguous`."""
    by_fingerprint = {stranger.fingerprint: stranger for stranger in among}
    shown = {one: f"{one} from {stranger.address}" for one, stranger in by_fingerprint.items()}
    return by_fingerprint[_only(shown, prefix, "is pending")]


def _only(shown: Mapping[Fingerprint, str], prefix: str, what: str) -> Fingerprint:
    matching = [fingerprint for fingerprint in shown if fingerprint.digest.hex().startswith(prefix)]
    begins = ":".join(prefix[at : at + 2] for at in range(0, len(prefix), 2)).upper()
    if not matching:
        text = f"nobody {what} whose fingerprint begins with {begins}"
        raise BadInput("no-such-stranger", text, "to see who has tried to come in: peerauth peer pending --all")
    if len(matching) > 1:
        some = "".join(f"\n  {shown[fingerprint]}" for fingerprint in matching[:_NAMED])
        more = f"\n  and {len(matching) - _NAMED} more" if len(matching) > _NAMED else ""
        text = f"{len(matching)} fingerprints begin with {begins}; nothing was changed{some}{more}"
        raise BadInput("ambiguous", text, "type more of it")
    return matching[0]


def _strangers(noted: Mapping[str, Any]) -> list[Stranger]:
    by_fingerprint: dict[Fingerprint, list[Refusal]] = {}
    for refusal in newest_first(read_rows(noted.get(_REFUSALS))):
        if refusal.code in _WAITING and refusal.fingerprint is not None:
            by_fingerprint.setdefault(refusal.fingerprint, []).append(refusal)
    when = _denied(noted)
    return [
        Stranger(
            fingerprint,
            certificate,
            claimed_name(certificate),
            visits[0].address,
            min(visit.since for visit in visits),
            visits[0].last,
            sum(visit.times for visit in visits),
            any(visit.proven for visit in visits),
            next((visit.successor_of for visit in visits if visit.successor_of), None),
            next((visit.old for visit in visits if visit.old), None),
            next((visit.retire for visit in visits if visit.retire), None),
            when.get(fingerprint),
        )
        for fingerprint, visits in by_fingerprint.items()
        if (certificate := next((visit.certificate for visit in visits if visit.certificate), None)) is not None
    ]


def _forget(noted: dict[str, Any], fingerprint: Fingerprint) -> None:
    _keep(noted, lambda refusal: refusal.fingerprint != fingerprint or refusal.code not in _WAITING)


def _keep(noted: dict[str, Any], stays: Callable[[Refusal], bool]) -> None:
    noted[_REFUSALS] = [as_row(refusal) for refusal in read_rows(noted.get(_REFUSALS)) if stays(refusal)]


def _denied(noted: Mapping[str, Any]) -> dict[Fingerprint, datetime]:
    found: dict[Fingerprint, datetime] = {}
    rows = noted.get(_DENIED)
    for digest, moment in rows.items() if isinstance(rows, dict) else ():
        with contextlib.suppress(TypeError, ValueError):
            found[Fingerprint(bytes.fromhex(digest))] = read_moment(moment)
    return found


def _write_denied(noted: dict[str, Any], denied: Mapping[Fingerprint, datetime]) -> None:
    newest = sorted(denied.items(), key=lambda item: item[1])[-_MOST_DENIED:]
    noted[_DENIED] = {fingerprint.digest.hex(): moment.isoformat() for fingerprint, moment in newest}

"""Refusals as they are remembered: what each was, a bounded table of them, and the same as JSON.

When there are too many, the source that has most loses its oldest, so that one source's flood never pushes out another's.
What other people's hands, or a broken disk, have made of the file is left out; nothing in it admits anybody.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from peerauth.errors import printable
from peerauth.trust.explain import LARGEST, Told
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import NAME
from peerauth.trust.succession import Question

MOST: Final = 300
MOST_BYTES: Final = 384 << 10  # of certificates
SUCCESSOR: Final = "successor"  # in place of a code: nobody was refused, and a person is to be asked
_LONGEST = 1000  # characters of a text
_MOST_TIMES = 2**53 - 1

Key = tuple[str, bytes | None, str, str]


class Refusal(NamedTuple):
    """Somebody who was refused, once or more often, in the same way and from the same source at the same service.

    `address` is how the last was shown; `told` gives the words of the log. `certificate` (DER) is kept of strangers alone;
    `proven`: whether whoever presented it has shown that they hold its key. `successor_of` is the peer whose next
    certificate this is to be, by that peer's own statement, `old` the one that it follows, and `retire` when that is to be
    retired then.
    """

    code: str
    fingerprint: Fingerprint | None
    source: str
    service: str
    address: str
    last: datetime
    told: Callable[[], Told]
    peer: str | None = None
    certificate: bytes | None = None
    proven: bool = False
    first: datetime | None = None  # None: the last is the first
    times: int = 1
    successor_of: str | None = None
    old: Fingerprint | None = None
    retire: datetime | None = None

    @property
    def key(self) -> Key:
        """What is remembered as one."""
        return self.code, self.fingerprint.digest if self.fingerprint else None, self.source, self.service

    @property
    def since(self) -> datetime:
        """When it was seen first."""
        return self.first or self.last

    @property
    def weight(self) -> int:
        """What counts towards MOST_BYTES."""
        return len(self.certificate or b"")

    def and_then(self, other: Refusal) -> Refusal:
        """The two, of the same key, as one."""
        older, newer = (self, other) if self.last <= other.last else (other, self)
        return newer._replace(
            certificate=newer.certificate or older.certificate,
            proven=newer.proven or older.proven,
            first=min(older.since, newer.since),
            times=min(older.times + newer.times, _MOST_TIMES),
        )


class Table:
    """Refusals, the one that was seen last at the end: at most `most`, whose certificates have at most `most_bytes`.

    What peers have asked for a person to look at stays, whatever strangers do.
    """

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._held: dict[Key, Refusal] = {}
        self._by_source: dict[str, dict[Key, None]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Refusal]:
        return iter(list(self._held.values()))

    def note(self, refusal: Refusal) -> None:
        """Add one, or count it with those of its key; others may have to go."""
        key = refusal.key
        before = self._held.get(key)
        if before is not None:
            self._drop(key)
            refusal = before.and_then(refusal)
        self._held[key] = refusal
        self._by_source.setdefault(refusal.source, {})[key] = None
        self._bytes += refusal.weight
        while len(self._held) > self._most or self._bytes > self._most_bytes:
            self._drop(self._dispensable())

    def _drop(self, key: Key) -> None:
        refusal = self._held.pop(key)
        self._bytes -= refusal.weight
        of_source = self._by_source[refusal.source]
        del of_source[key]
        if not of_source:
            del self._by_source[refusal.source]

    def _dispensable(self) -> Key:
        """The oldest of the source that has most."""
        _, fullest = max(self._by_source.items(), key=lambda held: 0 if held[0].startswith(SUCCESSOR) else len(held[1]))
        return next(iter(fullest))


def successor(question: Question, address: str, now: datetime) -> Refusal:
    """The entry that asks a person about a peer's next certificate."""
    name, fingerprint = question.peer, question.certificate.fingerprint
    text = f"the next certificate of {name}, put forward by whoever holds the key of the one before"
    hint = f"if its owner confirms the fingerprint: peerauth peer approve {fingerprint}"
    return Refusal(
        SUCCESSOR,
        fingerprint,
        f"{SUCCESSOR} {name}",
        SUCCESSOR,
        address,
        now,
        lambda: (text, hint),
        peer=name,
        certificate=question.certificate.der,
        proven=True,
        successor_of=name,
        old=question.old.fingerprint,
        retire=question.retire,
    )


def as_row(refusal: Refusal) -> dict[str, Any]:
    """A refusal as JSON."""
    message, hint = refusal.told()
    certificate = base64.b64encode(refusal.certificate).decode() if refusal.certificate else None
    row = {
        "code": refusal.code,
        "fingerprint": refusal.fingerprint.digest.hex() if refusal.fingerprint else None,
        "source": refusal.source,
        "service": refusal.service,
        "address": refusal.address,
        "first": _written(refusal.since),
        "last": _written(refusal.last),
        "times": refusal.times,
        "message": printable(message, _LONGEST),
        "hint": printable(hint, _LONGEST) if hint else None,
        "peer": refusal.peer,
        "certificate": certificate,
        "proven": refusal.proven or None,
        "successor_of": refusal.successor_of,
        "old": refusal.old.digest.hex() if refusal.old else None,
        "retire": _written(refusal.retire) if refusal.retire else None,
    }
    return {key: value for key, value in row.items() if value is not None}


def read_rows(rows: object) -> Iterator[Refusal]:
    """The refusals in what was read as JSON; what is none is left out."""
    for row in rows if isinstance(rows, list) else []:
        try:
            yield _from_row(row)
        except (KeyError, TypeError, ValueError, OverflowError):
            continue


def _from_row(row: Any) -> Refusal:  # noqa: ANN401 - whatever JSON had there
    fingerprint = Fingerprint(bytes.fromhex(row["fingerprint"])) if "fingerprint" in row else None
    certificate = base64.b64decode(row["certificate"], validate=True) if "certificate" in row else None
    if certificate is not None and (len(certificate) > LARGEST or fingerprint != Fingerprint.of(certificate)):
        raise ValueError
    message, hint = _text(row, "message"), _text(row, "hint") if "hint" in row else None
    times, proven = row["times"], row.get("proven", False)
    if not isinstance(times, int) or not 0 < times <= _MOST_TIMES or not isinstance(proven, bool):
        raise ValueError
    names = {key: row[key] for key in ("peer", "successor_of") if key in row}
    if not all(NAME.fullmatch(name) for name in names.values()):
        raise ValueError
    return Refusal(
        _text(row, "code"),
        fingerprint,
        _text(row, "source"),
        _text(row, "service"),
        _text(row, "address"),
        read_moment(row["last"]),
        lambda: (message, hint),
        certificate=certificate,
        proven=proven,
        first=read_moment(row["first"]),
        times=times,
        old=Fingerprint(bytes.fromhex(row["old"])) if "old" in row else None,
        retire=read_moment(row["retire"]) if "retire" in row else None,
        **names,
    )


def _text(row: Any, key: str) -> str:  # noqa: ANN401 - as above
    text = row[key]
    if not isinstance(text, str) or len(text) > _LONGEST + 1:
        raise ValueError
    return text


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def read_moment(text: str) -> datetime:
    """An aware moment. Raises ValueError or TypeError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError
    return moment.astimezone(UTC)


def newest_first(refusals: Iterable[Refusal]) -> list[Refusal]:
    """In the order in which people look at them."""
    return sorted(refusals, key=lambda refusal: refusal.last, reverse=True)

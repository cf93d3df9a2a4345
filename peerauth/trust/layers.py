"""An immutable mapping whose changed copy costs what changed, not what it holds.

A big dictionary that is never touched again, and over it a small one with what changed since; copies share the big one. When
the small one has grown to a share of the big one, both become a new big one. Looking up takes one or two steps, whatever the
size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeVar, overload

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

_SHARE: Final = 16  # the upper layer holds at most one in so many, and _LEAST
_LEAST: Final = 64
_UNTOUCHED: Final = object()


class Layered(Mapping[K, V]):
    """A mapping that nobody edits; `changed` gives another one. No value is None."""

    __slots__ = ("_base", "_length", "_over")

    def __init__(self) -> None:
        self._base: dict[K, V] = {}
        self._over: dict[K, V | None] = {}  # None: it is in the base, and gone
        self._length = 0

    def __getitem__(self, key: K) -> V:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V | D) -> V | D: ...
    def get(self, key: K, /, default: V | D | None = None) -> V | D | None:
        """What is held under this key, or `default`."""
        found: object = self._over.get(key, _UNTOUCHED) if self._over else _UNTOUCHED
        if found is _UNTOUCHED:
            return self._base.get(key, default)
        return default if found is None else found  # type: ignore[return-value]

    def __contains__(self, key: object) -> bool:
        return self.get(key) is not None  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[K]:
        over = self._over
        for key in self._base:
            if key not in over:
                yield key
        for key, value in over.items():
            if value is not None:
                yield key

    def changed(self, changes: Mapping[K, V | None]) -> Layered[K, V]:
        """The same mapping with these changes; None takes a key away."""
        fresh: Layered[K, V] = Layered()
        if not self._length:
            fresh._base = {key: value for key, value in changes.items() if value is not None}
            fresh._length = len(fresh._base)
            return fresh
        fresh._length = self._length + sum((value is not None) - (key in self) for key, value in changes.items())
        if len(self._over) + len(changes) <= _LEAST + len(self._base) // _SHARE:
            fresh._base, fresh._over = self._base, {**self._over, **changes}
            return fresh
        base = fresh._base = self._base.copy()
        for layer in (self._over, changes):
            for key, value in layer.items():
                if value is None:
                    base.pop(key, None)
                else:
                    base[key] = value
        return fresh

    def differences(self, newer: Layered[K, V]) -> Iterator[K]:
        """The keys, each once, under which the two do not hold the same or equal values."""
        if self._base is newer._base:
            keys: Iterator[K] = iter({**self._over, **newer._over})
        else:
            keys = self._keys_of_both(newer)
        for key in keys:
            old, new = self.get(key), newer.get(key)
            if old is not new and old != new:
                yield key

    def _keys_of_both(self, newer: Layered[K, V]) -> Iterator[K]:
        yield from self
        yield from (key for key in newer if key not in self)

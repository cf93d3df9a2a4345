"""Which paths and methods are open to whom.

1. A rule's path is one path, or with a "/" at its end everything below it, itself included.
2. The rule with the longest path decides. What no rule allows is refused.
3. Of the rules with that path those that name the method decide, or else those that name none; who names GET names HEAD.
4. A rule guards more than it gives. Programs disagree about case, about a final slash, about what may follow a name
   (`/admin.json`, `/admin.php/x`): what some of them would take for the rule's path, and is not, is refused.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from peerauth.errors import printable
from peerauth.trust.peers import Peer
from peerauth.trust.policy import EVERY_PEER, Policy

_SHOWN = 120  # characters of a path that are said again, or kept
_MOST_SEEN = 1000  # paths


@dataclass(frozen=True, slots=True)
class Route:
    """One rule. `path` is decoded and normal; no `methods`: all of them; `policy`: for which of the service's peers."""

    path: str
    methods: frozenset[str] = frozenset()
    policy: Policy = EVERY_PEER

    def __str__(self) -> str:
        """The rule for people: `/metrics (GET)`."""
        return f"{self.path} ({', '.join(sorted(self.methods))})" if self.methods else self.path


@dataclass(frozen=True, slots=True)
class Denied:
    """Why a request goes nowhere. `rule` names the rule, in words for the caller; `path` is the rule's, None without one."""

    rule: str
    path: str | None = None


class Routes:
    """The rules of a service, in their order, and ready to decide."""

    __slots__ = ("_all", "_by_key", "_longest", "_seen")

    def __init__(self, routes: Iterable[Route]) -> None:
        """Raises ValueError where two paths differ only in what programs do not agree about."""
        self._all = tuple(routes)
        self._by_key: dict[str, list[Route]] = {}
        self._longest = 0
        self._seen: dict[str, list[Route]] = {}  # what was found for some paths: it takes longer than all the rest
        for route in self._all:
            rules = self._by_key.setdefault(_key(route.path), [])
            if rules and rules[0].path != route.path:
                raise ValueError(route.path, rules[0].path)
            rules.append(route)
            self._longest = max(self._longest, len(_key(route.path)))

    def __iter__(self) -> Iterator[Route]:
        return iter(self._all)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Routes) and self._all == other._all

    def __hash__(self) -> int:
        return hash(self._all)

    def __repr__(self) -> str:
        return f"<Routes {', '.join(map(str, self._all))}>"

    def decide(self, method: bytes, path: str, peer: Peer) -> Denied | None:
        """None if this peer may; `path` is that of a `Target`, made with `routed`."""
        rules = self._seen.get(path)
        if rules is None:
            rules = self._nearest(path)
            if len(self._seen) < _MOST_SEEN and len(path) <= _SHOWN:
                self._seen[path] = rules
        if not rules:
            return Denied(f"no route of this service leads to {printable(path, _SHOWN)}")
        at = rules[0].path
        if not _covers(at, path):
            return Denied(f"the route {at} is not for {printable(path, _SHOWN)}, which some would take for it", at)
        verb = method.decode("ascii", "replace")
        named = [rule for rule in rules if verb in rule.methods]
        if not named and verb == "HEAD":
            named = [rule for rule in rules if "GET" in rule.methods]
        if not named and verb == verb.upper():  # some make DELETE of delete
            named = [rule for rule in rules if not rule.methods]
        if not named:
            methods = ", ".join(sorted({name for rule in rules for name in rule.methods}))
            return Denied(f"the route {at} is for {methods or 'methods in capitals'}, not for {printable(verb, 20)}", at)
        if not any(rule.policy.allows(peer) for rule in named):
            return Denied(f"the route {named[0]} is not for {peer.name}", at)
        return None

    def _nearest(self, path: str) -> list[Route]:
        """The rules with the longest path that this is, or is below, or could be taken for."""
        key = _key(path)
        at = len(key)
        while at >= 0:
            if at <= self._longest and (rules := self._by_key.get(key[:at].rstrip(". "))) is not None:
                return rules
            end = min(at, self._longest + 1)  # what is longer than every rule is not looked at piece by piece
            at = max(key.rfind("/", 0, end), key.rfind(".", 0, end))
        return []


def _covers(rule: str, path: str) -> bool:
    """Whether the rule is for this path, letter by letter."""
    if rule.endswith("/"):
        return path.startswith(rule) or path == rule[:-1] or (rule == "/" and path == "*")
    return path == rule


def _key(path: str) -> str:
    """What is left of a path when everything is taken away that programs disagree about."""
    if not path.isascii():
        apart = unicodedata.normalize("NFKD", path.upper().casefold())
        path = "".join(letter for letter in apart if not unicodedata.combining(letter))  # MySQL finds á for a
    segments = path.lower().split("/")
    return "/".join(segment.strip().rstrip(". ") for segment in segments).rstrip("/") if path != "*" else ""

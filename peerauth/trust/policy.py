"""Which of the admitted peers a service is for."""

from __future__ import annotations

from dataclasses import dataclass

from peerauth.trust.peers import Peer


@dataclass(frozen=True, slots=True)
class Policy:
    """A service's allow-list of peer names and tags; `names is None` means every pinned peer."""

    service: str = "default"
    names: frozenset[str] | None = None
    tags: frozenset[str] = frozenset()

    def allows(self, peer: Peer) -> bool:
        """Whether this peer may use the service."""
        if self.names is None:
            return True
        return peer.name in self.names or not self.tags.isdisjoint(peer.tags)


EVERY_PEER = Policy()

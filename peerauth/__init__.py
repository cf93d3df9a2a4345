"""peerauth: mutual TLS between machines by pinned self-signed certificates. authorized_keys for TLS.

The library is `Node`: load one from its home, get a drop-in `ssl.SSLContext`, or serve and connect on the fast engine.
`peer_of` says who is on the other side of an open connection, and `when_removed` that it is nobody any more.
"""

from __future__ import annotations

from peerauth.errors import BadInput, ConnectFailed, PeerAuthError, TrustRefused

TYPE_CHECKING = False  # true to type checkers; that of `typing` would have every start import typing
if TYPE_CHECKING:
    from peerauth.node import Node as Node
    from peerauth.node import PeerServer as PeerServer
    from peerauth.tls.stdlib import peer_of as peer_of
    from peerauth.tls.stdlib import when_removed as when_removed
    from peerauth.trust.fingerprint import Fingerprint as Fingerprint
    from peerauth.trust.peers import Peer as Peer
    from peerauth.trust.peers import PeerSettings as PeerSettings

__version__ = "0.1.0"

_HOMES = {
    "Node": "peerauth.node",
    "PeerServer": "peerauth.node",
    "Fingerprint": "peerauth.trust.fingerprint",
    "Peer": "peerauth.trust.peers",
    "PeerSettings": "peerauth.trust.peers",
    "peer_of": "peerauth.tls.stdlib",
    "when_removed": "peerauth.tls.stdlib",
}

__all__ = [
    "BadInput",
    "ConnectFailed",
    "Fingerprint",
    "Node",
    "Peer",
    "PeerAuthError",
    "PeerServer",
    "PeerSettings",
    "TrustRefused",
    "__version__",
    "peer_of",
    "when_removed",
]

if not TYPE_CHECKING:  # a type checker would take it to mean that every name is there

    def __getattr__(name: str) -> object:
        """Import what is asked for when it is asked for: the command line starts without the engine."""
        if name in _HOMES:
            from importlib import import_module

            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

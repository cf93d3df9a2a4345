"""What the log is told of a request that no route allows."""

from __future__ import annotations

from peerauth.audit import Event
from peerauth.errors import printable
from peerauth.http.routes import Denied
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import Peer

_SHOWN = 120  # characters of what was asked for


def denied_event(
    denied: Denied, asked: str, *, service: str, peer: Peer, fingerprint: Fingerprint | str, address: str
) -> Event:
    """For `Audit.refused`: a peer can ask as often as it likes. `asked` is the method and the path, as they came."""
    if denied.path is None:
        code, hint = "no-route", "what no route in config.toml leads to is for nobody"
    else:
        code, hint = "route", "who may is said by routes in config.toml"
    return Event(
        "denied",
        f"{peer.name} from {address}: {printable(asked, _SHOWN)}: {denied.rule}",
        hint,
        service=service,
        address=address,
        peer=peer.name,
        fingerprint=str(fingerprint),
        code=code,
    )

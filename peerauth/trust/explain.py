"""A refusal in words: who was presented, why it was refused, and what to type (promise 5)."""

from __future__ import annotations

from peerauth.errors import TrustRefused
from peerauth.trust.decision import Code, Refused
from peerauth.trust.peers import Peer, PeerSet


def refused_client(refused: Refused) -> tuple[str, str | None]:
    """(message, hint) for the person who runs the server that refused."""
    who = f"peer {refused.peer.name}" if refused.peer else "a stranger"
    over = f" over the key {refused.key}" if refused.key else ""
    presented = f", who presents {refused.fingerprint}{over}" if refused.fingerprint else ""
    name = refused.peer.name if refused.peer else "NAME"
    hints = {
        Code.UNKNOWN: f"if you know it, take its certificate: peerauth peer add FILE --expect {refused.fingerprint}",
        Code.NO_CERTIFICATE: "the client must present its certificate (curl: --cert NAME.crt --key NAME.key)",
    }
    hint = hints.get(refused.code) or _hint(refused.code, name, by_key=_by_key(refused.peer))
    return f"refused {who}{presented}: {refused.reason} ({refused.code})", hint


def _by_key(peer: Peer | None) -> bool:
    return peer is not None and peer.settings.pin == "key"


def _hint(code: Code, name: str, *, by_key: bool) -> str | None:
    """What to do about a peer that is known and refused all the same, in either role."""
    if by_key and code is Code.EXPIRED:
        return "on its machine, renew the certificate over the same key; here nothing is to be done: its key is pinned"
    hints = {
        Code.MALFORMED: "on its machine, make a new certificate: peerauth keygen --force",
        Code.EXPIRED: f"on its machine: peerauth keygen --force; here: peerauth peer remove {name}, and add the new one",
        Code.NOT_YET_VALID: "compare the clocks of the two machines",
        Code.UNTIL_PASSED: f"to admit it longer, change 'until' in peers/{name}.toml",
        Code.NOT_FROM_HERE: f"its addresses are in 'from' in peers/{name}.toml",
        Code.NOT_ALLOWED: "whom a service is for is in 'allow' in config.toml",
        Code.TOO_MANY: f"the limit is 'max_connections' in peers/{name}.toml, or in [limits] in config.toml",
        Code.WEAK_KEY: "on its machine, make a stronger key: peerauth keygen --force",
    }
    return hints.get(code)


def refused_server(refused: Refused, expected: str, where: str, peers: PeerSet) -> TrustRefused:
    """The error for the person whose client refused the server at `where`, meaning to reach the peer `expected`."""
    presented = f"it presents {refused.fingerprint}" if refused.fingerprint else "it presents no certificate"
    other = peers.holder(refused.fingerprint) if refused.fingerprint else None
    pinned = peers.get(expected)
    hint: str | None
    if refused.code is Code.UNKNOWN and other is not None:
        reason = f"that is {other.name}, not {expected}"
        hint = f"if you mean {other.name}: --peer {other.name}"
    elif refused.code is Code.UNKNOWN and refused.peer is not None:  # by its key, to those who must have the certificate
        reason, hint = refused.reason, f"to have it: peerauth peer scan {where} --add {expected}"
    elif refused.code is Code.UNKNOWN:
        reason = f"{expected} is pinned as {pinned.pins[0]}" if pinned else f"there is no peer {expected}"
        if pinned and refused.key and pinned.keys:
            reason = f"its key is {refused.key}, while {expected} is pinned by the key {pinned.keys[0]}"
        hint = (
            "someone may stand in between, or it has a new certificate; ask its owner for `peerauth id --fingerprint`, "
            f"then: peerauth peer remove {expected}; peerauth peer scan {where} --add {expected} --expect FINGERPRINT"
        )
    else:
        reason, hint = refused.reason, _hint(refused.code, expected, by_key=_by_key(refused.peer))
    return TrustRefused(str(refused.code), f"{where} is not admitted as {expected}: {presented}, and {reason}", hint)

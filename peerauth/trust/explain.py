"""A refusal in words: who was presented, why it was refused, and what to type (promise 5)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from peerauth.errors import TrustRefused
from peerauth.trust.certificate import Certificate
from peerauth.trust.decision import Address, Code, Refused
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import NAME, Peer, PeerSet, suggest_name

Told = tuple[str, str | None]  # a message, and what to type
LARGEST = 8 << 10  # bytes of a stranger's certificate that is read, or kept
_PREFIX = 8  # bytes of a fingerprint in a command to be typed: enough that nobody makes another one that begins like it


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to say besides the decision. `reserved`: names that are not to be suggested.

    `remembered`: whether `peer approve` will find the certificate (DER).
    """

    peers: PeerSet
    certificate: bytes | None = None
    remote: Address | None = None
    reserved: frozenset[str] = frozenset()
    remembered: bool = False


def refused_client(refused: Refused, scene: Scene | None = None) -> Told:
    """(message, hint) for the person who runs the server that refused."""
    who = f"peer {refused.peer.name}" if refused.peer else "a stranger"
    over = f" over the key {refused.key}" if refused.key else ""
    presented = f", who presents {refused.fingerprint}{over}" if refused.fingerprint else ""
    message = f"refused {who}{presented}: {refused.reason} ({refused.code})"
    if refused.code is Code.NO_CERTIFICATE:
        return message, "the client must present its certificate (curl: --cert NAME.crt --key NAME.key)"
    if refused.code is not Code.UNKNOWN or refused.fingerprint is None:
        return message, _hint(refused.code, refused.peer.name if refused.peer else "NAME", by_key=_by_key(refused.peer))
    if scene is None:
        return message, f"if you know it, take its certificate: {_admitting(refused.fingerprint, None, 'NAME')}"
    more, hint = _stranger(refused.fingerprint, scene)
    return f"{message}{more}", hint


def _stranger(fingerprint: Fingerprint, scene: Scene) -> tuple[str, str]:
    """Which of the peers it may be, as far as that can be told, and what to type."""
    claim = claimed_name(scene.certificate)
    namesake = scene.peers.get(claim.lower())
    neighbour = scene.peers.at_host(str(scene.remote)) if scene.remote else None
    more = f"; it calls itself {quoted(claim)}" if claim else ""
    if namesake:
        more += f", but {namesake.name} is pinned with another certificate, {namesake.pins[0]}"
    elif neighbour:
        more += f"; its address is the one noted for {neighbour.name}, who is pinned as {neighbour.pins[0]}"
    if namesake:
        admit = _admitting(fingerprint, scene, namesake.name)
        return more, (
            f"somebody may pretend to be {namesake.name}, or it has a new certificate; "
            f"if its owner confirms the fingerprint: peerauth peer remove {namesake.name}; {admit}"
        )
    given = free_name(claim, scene.peers, scene.reserved) or "NAME"
    return more, f"if its owner confirms the fingerprint: {_admitting(fingerprint, scene, given)}"


def _admitting(fingerprint: Fingerprint, scene: Scene | None, name: str) -> str:
    """The command that pins this certificate as `name`."""
    if scene is not None and scene.remembered:
        return f"peerauth peer approve {str(fingerprint)[: 3 * _PREFIX - 1]} --name {name}"
    named = "" if name == "NAME" else f" --name {name}"
    return f"peerauth peer add FILE{named} --expect {fingerprint}"


def claimed_name(certificate: bytes | None) -> str:
    """What a certificate (DER) calls itself, which anybody can write into theirs: escaped; empty where it says nothing."""
    if certificate is None or len(certificate) > LARGEST:
        return ""
    try:
        return Certificate(certificate).common_name
    except Exception:  # noqa: BLE001 - whatever a stranger has written there
        return ""


def proposed_name(claim: str) -> str | None:
    """The peer's name that is nearest to what a certificate calls itself; None where that is not near."""
    name = suggest_name(claim)
    near = re.search(r"[a-z0-9]", claim.lower()) is not None and "\\" not in claim
    return name if near else None


def free_name(claim: str, peers: PeerSet, reserved: frozenset[str]) -> str | None:
    """The same, if nobody has it, and no service or group is made for it: it hands out no more than it says."""
    name = proposed_name(claim)
    return None if name in peers or name in reserved else name


def quoted(claim: str) -> str:
    """Such a claim in a sentence of ours, which it cannot get out of."""
    return claim if NAME.fullmatch(claim) else "'" + claim.replace("'", '"') + "'"


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
        Code.RETIRED: f"what still presents the old one is to be restarted; the dates are in [retire] in peers/{name}.toml",
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
        scan = f"peerauth peer scan {where} --add {expected} --expect FINGERPRINT"
        hint = f"ask its owner for `peerauth id --fingerprint`, then: {scan}"
        if pinned:
            hint = (
                "someone may stand in between, or it has a new certificate; ask its owner for `peerauth id --fingerprint`, "
                f"then: peerauth peer remove {expected}; {scan}"
            )
    else:
        reason, hint = refused.reason, _hint(refused.code, expected, by_key=_by_key(refused.peer))
    return TrustRefused(str(refused.code), f"{where} is not admitted as {expected}: {presented}, and {reason}", hint)


def unpinned_server(fingerprint: Fingerprint, where: str) -> TrustRefused:
    """The error for the person whose client met a server that nobody in particular was expected to be, and nobody is."""
    return TrustRefused(
        str(Code.UNKNOWN),
        f"{where} is not pinned here: it presents {fingerprint}",
        "if you know it, ask its owner for `peerauth id --fingerprint`, "
        f"then: peerauth peer scan {where} --add NAME --expect FINGERPRINT",
    )


def mend_there(code: str, own: Certificate, file: str) -> str:
    """What to do about a node that refuses us with this code; `file` is the certificate that we present."""
    add = f"peerauth peer add {file} --expect {own.fingerprint}"
    anew = f"here: peerauth keygen --force; there: peerauth peer remove NAME (ours there), then peerauth peer add {file}"
    hints = {
        Code.EXPIRED: anew,
        Code.WEAK_KEY: anew,
        Code.MALFORMED: anew,
        Code.NOT_YET_VALID: "compare the clocks of the two machines",
        Code.UNTIL_PASSED: "there: change 'until' in our peers/NAME.toml",
        Code.NOT_FROM_HERE: "there: our address is not in 'from' of our peers/NAME.toml",
        Code.NOT_ALLOWED: "there: 'allow' in config.toml does not name us",
        Code.TOO_MANY: "there: 'max_connections' in our peers/NAME.toml, or in [limits] in config.toml",
    }
    return next((hint for known, hint in hints.items() if known == code), f"there, with our certificate: {add}")

"""A refusal in words for whoever is refused: what concerns its own certificate, and nothing about anybody else.

A stranger may read this. So no peer is named here, nor whether there is one of some name, nor what is noted about one.
"""

from __future__ import annotations

from dataclasses import dataclass

from peerauth.trust.decision import Code, Refused
from peerauth.trust.explain import LARGEST, claimed_name, proposed_name
from peerauth.trust.fingerprint import Fingerprint

_ANEW = "make a new one, and have that pinned there"
_HINTS = {
    Code.NO_CERTIFICATE: (
        "present that of your node: to curl, --cert NAME.crt --key NAME.key; to a browser, what peerauth id --p12 writes"
    ),
    Code.UNKNOWN: "whoever runs this service can admit it",
    Code.MALFORMED: f"{_ANEW}: peerauth keygen --force",
    Code.EXPIRED: f"{_ANEW}: peerauth keygen --force",
    Code.WEAK_KEY: f"{_ANEW}: peerauth keygen --force",
    Code.NOT_YET_VALID: "compare the clocks of the two machines",
    Code.RETIRED: "present the newer one; what has not seen it yet is to be restarted",
    Code.UNTIL_PASSED: "whoever runs this service can change 'until' in the notes of this peer",
    Code.NOT_FROM_HERE: "whoever runs this service can change 'from' in the notes of this peer",
    Code.NOT_ALLOWED: "whoever runs this service can change 'allow' in its config.toml",
    Code.TOO_MANY: "end a connection, or try again later",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """What somebody who is refused is told. `admitting`: the commands that would admit it, each by itself."""

    code: Code
    message: str
    hint: str
    fingerprint: Fingerprint | None = None
    admitting: tuple[str, ...] = ()


def notice(refused: Refused, certificate: bytes | None, *, remembered: bool) -> Notice:
    """The words for whoever presented this certificate (DER). `remembered`: `peer approve` will find it."""
    code, fingerprint = refused.code, refused.fingerprint
    commands: tuple[str, ...] = ()
    if code is Code.UNKNOWN and fingerprint is not None:
        name = proposed_name(claimed_name(certificate)) or "NAME"
        commands = (f"peerauth peer add FILE --name {name} --expect {fingerprint}",)
        if remembered and certificate is not None and len(certificate) <= LARGEST:
            commands = (f"peerauth peer approve {fingerprint} --name {name}", *commands)
    return Notice(code, refused.reason, _HINTS[code], fingerprint, commands)

"""What a server makes of us, read from what it did. What is certain is told from what is only likely.

A server that is a node says it in words; any other has its own way of not admitting a certificate, and some give no reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from peerauth.client.observe import End, Observation
from peerauth.control.wire import ProtocolError
from peerauth.errors import ConnectFailed, PeerAuthError, TrustRefused, printable
from peerauth.tls.alerts import TRUST_ALERTS
from peerauth.tls.context import CONTROL, MinimumVersion
from peerauth.trust.certificate import Certificate
from peerauth.trust.decision import Code
from peerauth.trust.explain import mend_there
from peerauth.trust.identity import Identity
from peerauth.trust.peers import PeerSet

_NO_GOOD = {401, 403, 495, 496}  # answers of HTTP to those who are not let in; 495 and 496 are nginx's


@dataclass(frozen=True, slots=True)
class Ourselves:
    """The node that checks. `file` is its certificate, as a person would name it."""

    name: str
    identity: Identity
    file: str
    peers: PeerSet
    min_tls: MinimumVersion = "1.3"

    @property
    def certificate(self) -> Certificate:
        """The certificate that we present."""
        return self.identity.certificate


@dataclass(frozen=True, slots=True)
class There:
    """What the server makes of us. `how` says it for people; `certain`: nothing else can have been meant.

    `code` is why not: the node's own code, or `alert`, `http`, `closed`, or the code of an error.
    """

    admitted: bool
    certain: bool
    how: str
    code: str | None = None
    error: PeerAuthError | None = None
    name: str | None = None
    services: tuple[str, ...] = ()


def judge_there(seen: Observation, ourselves: Ourselves, who: str) -> There:
    """What this observation says of how the server, whom people call `who`, judges us."""
    if seen.trouble is not None:
        return There(False, False, f"it is not known: {seen.trouble.message}", seen.trouble.code, _broken(seen.trouble, who))
    if seen.answer is not None:
        return _by_its_own_words(seen, ourselves, who)
    if seen.end is End.ALERT:
        return _by_alert(seen, ourselves, who)
    if seen.status is not None:
        return _by_http(seen, ourselves, who)
    if seen.end is End.CLOSED:
        return _by_its_end(seen, ourselves, who)
    if not seen.asked:
        return There(True, True, "yes, as anybody: it asks for no certificate")
    if not seen.presented:
        return There(True, False, f"it takes no key like ours ({ourselves.certificate.key_type}), and goes on without")
    if seen.accepted:
        return There(True, True, "yes: it has taken our certificate, and waits for more")
    return There(True, False, "it seems so: it has said nothing against our certificate")


def _by_its_own_words(seen: Observation, ourselves: Ourselves, who: str) -> There:
    answer = seen.answer
    assert answer is not None
    services = tuple(printable(service, 64) for service in answer.services)
    if answer.code is None and answer.name is not None:
        name = printable(answer.name, 64)
        if services:
            return There(True, True, f"as {name}", name=name, services=services)
        error = _refusal(ourselves, who, f"it knows us as {name}, and none of its services is for us")
        error.hint = mend_there(Code.NOT_ALLOWED, ourselves.certificate, ourselves.file)
        return There(False, True, f"as {name}, and to no service", str(Code.NOT_ALLOWED), error, name)
    code, reason = printable(answer.code or "unknown", 40), printable(answer.reason or "it does not say why", 300)
    error = _refusal(ourselves, who, f"{reason} ({code})")
    error.hint = mend_there(code, ourselves.certificate, ourselves.file)
    if code == Code.UNKNOWN:  # a node of peerauth, where we wait to be approved if it remembers refusals
        own = ourselves.certificate.fingerprint
        error.hint = f"there: peerauth peer approve {own} --name {ourselves.name}, or {error.hint.removeprefix('there, ')}"
    return There(False, True, f"no: {reason}", code, error)


def _by_alert(seen: Observation, ourselves: Ourselves, who: str) -> There:
    meaning = seen.refusal.removeprefix("the other side refused us: ")
    certain = seen.alert in TRUST_ALERTS.values()
    if not certain and not seen.asked:
        return There(False, False, f"no: {meaning}", "alert", ConnectFailed("tls-alert", f"{who}: {meaning}"))
    error = _refusal(ourselves, who, meaning if seen.presented or not seen.asked else _other_kind(ourselves))
    if not seen.presented and seen.asked:
        error.hint = "make another key: peerauth keygen --force (RSA, which every TLS stack takes)"
    elif seen.alert == 45 and ourselves.certificate.not_after > datetime.now(UTC):
        error.hint = "compare the clocks of the two machines"
    return There(False, certain, f"no: {meaning}", "alert", error)


def _by_http(seen: Observation, ourselves: Ourselves, who: str) -> There:
    said = f"{seen.status} {seen.phrase}".rstrip()
    about_us = bool(seen.complaint) and seen.status in _NO_GOOD | {400}
    if about_us or seen.status in _NO_GOOD:
        says = f"it answers {said}" + (f": {seen.complaint.removeprefix(f'{seen.status} ')}" if about_us else "")
        return There(False, about_us, f"no: {says}", "http", _refusal(ourselves, who, says))
    if not seen.asked:
        return There(True, True, f"yes, as anybody: it asks for no certificate, and answers {said}")
    return There(True, True, f"yes: it answers {said}")


def _by_its_end(seen: Observation, ourselves: Ourselves, who: str) -> There:
    if seen.protocol == CONTROL.decode():  # where it would have told anybody
        error = ConnectFailed("closed-unanswered", f"{who} hangs up on us", "it may have many visitors: try again")
        return There(False, False, "it is not known: it hangs up", "closed", error)
    if seen.accepted or not seen.asked:
        before = "its TLS has taken our certificate" if seen.accepted else "it asks for no certificate"
        text = f"{who} ends the connection at once, though {before}"
        error = ConnectFailed("closed-unanswered", text, "is the program running that it leads to?")
        return There(seen.accepted, False, f"{before}, and then it hangs up", "closed", error)
    how = "it ends the connection without a word, as servers in Node, asyncio and Java do that do not admit a certificate"
    return There(False, False, f"no, as it seems: {how}", "closed", _refusal(ourselves, who, how))


def _refusal(ourselves: Ourselves, who: str, why: str) -> TrustRefused:
    own = ourselves.certificate
    if own.not_after < datetime.now(UTC):
        hint = mend_there(Code.EXPIRED, own, ourselves.file)
    else:
        hint = (
            f"there, if it is peerauth: peerauth peer add {ourselves.file} --expect {own.fingerprint}; "
            f"other software: add {ourselves.file} to the certificates of clients that it trusts"
        )
    text = f"{who} does not admit us: {why}; we are {ourselves.name}, {own.fingerprint}"
    return TrustRefused("refused-by-peer", text, hint, side="peer")


def _broken(error: PeerAuthError, who: str) -> PeerAuthError:
    """One who has chosen peerauth/1 and speaks something else is no node."""
    if not isinstance(error, ProtocolError):
        return error
    return ConnectFailed("not-peerauth", f"{who} does not keep to peerauth/1: {error.message}", error.hint)


def _other_kind(ourselves: Ourselves) -> str:
    return f"it takes no key like ours ({ourselves.certificate.key_type}), so it got no certificate"

"""Whether we and a server admit each other, and if not: on which side, why, and what to type. Judged from observations.

What is certain is told from what is only likely: a server that hangs up without a word gives no reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from peerauth.address import Address
from peerauth.client.observe import End, Observation, observe
from peerauth.control.wire import ProtocolError
from peerauth.errors import ConnectFailed, PeerAuthError, TrustRefused, printable
from peerauth.tls.alerts import TRUST_ALERTS
from peerauth.tls.context import CONTROL, MinimumVersion
from peerauth.trust.certificate import Certificate
from peerauth.trust.decision import Code, Decision, Refused, decide
from peerauth.trust.explain import mend_there, refused_server, unpinned_server
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.identity import Identity
from peerauth.trust.peers import Peer, PeerSet

AT_ONCE = 16  # servers that are looked at
SKEW = 60  # seconds between two clocks that are worth a word
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
class Here:
    """What we make of the server: as which peer it is pinned, if any, and why it is not admitted, if it is not."""

    pinned_as: str | None
    error: TrustRefused | None


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


@dataclass(frozen=True, slots=True)
class Report:
    """One server and ourselves. Without an observation it was not reached, and `error` says why not.

    With one, `error` is what else keeps us from using it. `peer` is who is meant, or else who it is.
    """

    address: Address
    peer: str | None
    seen: Observation | None = None
    here: Here | None = None
    there: There | None = None
    error: PeerAuthError | None = None

    @property
    def who(self) -> str:
        """The server for people."""
        return f"{self.peer} at {self.address}" if self.peer else str(self.address)

    @property
    def certificate(self) -> Certificate | None:
        """The server's certificate, if it can be read."""
        try:
            return Certificate(self.seen.certificate) if self.seen else None
        except PeerAuthError:
            return None

    @property
    def troubles(self) -> list[PeerAuthError]:
        """Why the two do not admit each other: what failed, what is wrong here, what is wrong there."""
        found = (self.error, self.here and self.here.error, self.there and self.there.error)
        return [error for error in found if error]

    @property
    def verdict(self) -> str:
        """That it works, where nothing is in the way, in a sentence."""
        name = f" as {self.there.name}" if self.there and self.there.name else ""
        certain = self.there is None or self.there.certain
        return f"{self.who} is admitted here, and " + (f"admits us{name}" if certain else "admits us, as it seems")

    @property
    def exit_code(self) -> int:
        """0: both admit the other; 3: one of them does not; else as for any command that fails so."""
        codes = {trouble.exit_code for trouble in self.troubles}
        return TrustRefused.exit_code if TrustRefused.exit_code in codes else max(codes, default=0)


@dataclass(frozen=True, slots=True)
class Concern:
    """What works still and will not for long, or not as somebody wants it."""

    text: str
    hint: str | None = None
    critical: bool = False


def concerns(report: Report, ourselves: Ourselves, now: datetime, days: int) -> list[Concern]:
    """What to see to; `days`: how soon an end of a certificate counts."""
    seen, theirs = report.seen, report.certificate
    if seen is None:
        return []
    own = ourselves.certificate
    found = (
        [_expiring(f"the certificate of {report.who}", "on its machine: peerauth keygen --force", theirs, now, days)]
        if theirs
        else []
    )
    found.append(
        _expiring(
            f"our own certificate, {ourselves.file},", "peerauth keygen --force, and hand out the new one", own, now, days
        )
    )
    if seen.skew is not None and abs(seen.skew) > SKEW:
        ahead = "ahead of" if seen.skew > 0 else "behind"
        found.append(Concern(f"the clock of {report.who} is {abs(seen.skew):.0f} s {ahead} ours", "set both by NTP"))
    if not seen.asked:
        found.append(Concern(f"{report.who} asks for no certificate: whoever comes gets as far as we do"))
    if seen.status is not None and seen.status >= 500:
        found.append(Concern(f"{report.who} lets us in, and answers {seen.status} {seen.phrase}".rstrip()))
    return [concern for concern in found if concern]


def _expiring(whose: str, hint: str, certificate: Certificate, now: datetime, days: int) -> Concern | None:
    left = certificate.not_after - now
    if left >= timedelta(days=days) and left > timedelta(days=1):
        return None
    when = f"{certificate.not_after:%Y-%m-%d %H:%M} UTC"
    text = f"{whose} has expired, on {when}" if left < timedelta(0) else f"{whose} expires on {when}"
    return Concern(text, hint, left < timedelta(days=1))


async def check_all(ourselves: Ourselves, targets: Sequence[tuple[Peer | None, Address]], seconds: float) -> list[Report]:
    """A report of each, in their order; AT_ONCE of them are looked at at a time."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(peer: Peer | None, address: Address) -> Report:
        async with turns:
            return await check(ourselves, peer, address, seconds)

    return list(await asyncio.gather(*(one(peer, address) for peer, address in targets)))


async def check(ourselves: Ourselves, peer: Peer | None, address: Address, seconds: float) -> Report:
    """Look at the server for at most so many seconds and judge; `peer` is who should be there, where that is known."""
    deadline = asyncio.get_running_loop().time() + seconds
    name = peer.name if peer else None
    error: PeerAuthError | None = None
    try:
        try:
            seen = await observe(ourselves.identity, address, deadline, ourselves.min_tls)
        except ConnectFailed as failed:
            if failed.code != "tls-version" or ourselves.min_tls == "1.2":
                raise
            seen, error = await observe(ourselves.identity, address, deadline, "1.2"), _too_old(address)
    except PeerAuthError as failed:
        return Report(address, name, error=failed)
    here = _here(seen, name, ourselves.peers, address)
    report = Report(address, name or here.pinned_as, seen, here, error=error)
    return replace(report, there=judge_there(seen, ourselves, report.who))


def _too_old(address: Address) -> ConnectFailed:
    hint = 'to speak to software without TLS 1.3: min_tls = "1.2" under [node] in config.toml'
    return ConnectFailed("tls-version", f"{address} does not speak TLS 1.3, and this node speaks no older one", hint)


def _here(seen: Observation, meant: str | None, peers: PeerSet, address: Address) -> Here:
    holder = _holder(seen.certificate, peers)
    name = meant or holder
    if name is None:
        return Here(None, unpinned_server(Fingerprint.of(seen.certificate), str(address)))
    decision: Decision = decide(seen.certificate, peers.only(name), now=datetime.now(UTC))
    error = refused_server(decision, name, str(address), peers) if isinstance(decision, Refused) else None
    return Here(holder, error)


def _holder(der: bytes, peers: PeerSet) -> str | None:
    holder = peers.holder(Fingerprint.of(der))
    if holder is None and peers.pins_keys:
        try:
            holder = peers.key_holder(Certificate(der))
        except PeerAuthError:
            return None
    return holder.name if holder else None


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

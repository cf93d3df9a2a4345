"""Whether we and a server admit each other, and if not: on which side, why, and what to type."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from peerauth.address import Address
from peerauth.client.observe import Observation, observe
from peerauth.client.verdict import Ourselves, There, judge_there
from peerauth.errors import ConnectFailed, PeerAuthError, TrustRefused
from peerauth.trust.certificate import Certificate
from peerauth.trust.decision import Refused, decide
from peerauth.trust.expiry import advice
from peerauth.trust.explain import refused_server, unpinned_server
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import Peer, PeerSet

AT_ONCE = 16  # servers that are looked at
SKEW = 60  # seconds between two clocks that are worth a word


@dataclass(frozen=True, slots=True)
class Here:
    """What we make of the server: as which peer it is pinned, if any, and why it is not admitted, if it is not."""

    pinned_as: str | None
    error: TrustRefused | None


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
    found = []
    if theirs is not None:
        mend = f"on its machine: {'peerauth rotate' if now < theirs.not_after else 'peerauth keygen --force'}"
        found.append(_expiring(f"the certificate of {report.who}", mend, theirs, now, days))
    hint = advice(None, ourselves.certificate.not_after, now)
    found.append(_expiring(f"our own certificate, {ourselves.file},", hint, ourselves.certificate, now, days))
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
    decision = decide(seen.certificate, peers.only(name), now=datetime.now(UTC))
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

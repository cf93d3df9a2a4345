"""`join` from the side of the new node: to whoever has the pin that the token names, and to nobody else."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from peerauth.address import Address
from peerauth.client.control import conversation, exactly
from peerauth.client.reaching import TIMEOUT
from peerauth.control.invitation import Join, Joined
from peerauth.control.line import Declined
from peerauth.errors import BadInput, ConnectFailed, PeerAuthError, TrustRefused, printable
from peerauth.store.peerdir import PeerDirectory
from peerauth.tls.alerts import Truncated
from peerauth.tls.session import NotAdmitted
from peerauth.trust.certificate import Certificate
from peerauth.trust.decision import Code, Refused
from peerauth.trust.identity import Identity
from peerauth.trust.invitation import Token
from peerauth.trust.peers import PeerSettings

NEW_ONE = "ask for a new invitation, there: peerauth invite"
_PAUSE = 1.0  # seconds between tries, and up to as much again, so that many who wait do not come at once


@dataclass(frozen=True, slots=True)
class Welcome:
    """What came of it: who invited us, reached where, and what it answered."""

    certificate: Certificate
    address: Address
    answer: Joined


@dataclass(frozen=True)
class Joining:
    """One attempt to join: as whom, with what; `look` is shown the other's certificate before anything is asked of it."""

    identity: Identity
    token: Token
    name: str
    address: str | None
    look: Callable[[Certificate], None]
    timeout: float = TIMEOUT  # seconds for one address

    async def join(self, wait: float, waiting: Callable[[PeerAuthError], None]) -> Welcome:
        """Join at the first address that answers; for `wait` seconds more while none does, which `waiting` hears of once.

        Raises TrustRefused: `not-expected`, or the code of a refusal; ConnectFailed.
        """
        until = time.monotonic() + wait
        told = False
        while True:
            try:
                return await self._at_one_of_them()
            except (ConnectFailed, Declined) as error:
                passing = isinstance(error, ConnectFailed) or error.code == "too-many-attempts"
                if not passing or time.monotonic() >= until:
                    raise _explained(error, self.token) from error
                if not told:
                    waiting(error)
                    told = True
            await asyncio.sleep(min(_PAUSE * (1 + random.random()), max(0.0, until - time.monotonic())))  # noqa: S311 - a pause

    async def _at_one_of_them(self) -> Welcome:
        failed: PeerAuthError | None = None
        for address in self.token.addresses:
            try:
                return await self._at(address)
            except TrustRefused as error:
                failed = error  # of several, who is there and is another says more than who is not there
            except ConnectFailed as error:
                failed = failed or error
        assert failed is not None, "a token has an address"
        raise failed

    async def _at(self, address: Address) -> Welcome:
        try:
            async with conversation(self.identity, address, exactly(self.token.pin), timeout=self.timeout) as line:
                certificate = Certificate(line.session.certificate or b"")
                self.look(certificate)
                own = self.identity.certificate.fingerprint
                proof = self.token.prove(line.session.channel_binding(), own)
                await line.send(Join(self.token.id, proof, self.name, self.address))
                return Welcome(certificate, address, await line.receive(Joined))
        except NotAdmitted as error:
            raise self._not_admitted(error.refused, address) from error
        except Truncated as error:  # as a server does that has too many visitors
            raise ConnectFailed("closed-unanswered", f"{address} ended the connection without an answer") from error
        except (ConnectFailed, TrustRefused) as error:
            if str(address) not in error.message:
                error.message = f"{address}: {error.message}"
            raise

    def _not_admitted(self, refused: Refused, address: Address) -> TrustRefused:
        if refused.code is not Code.UNKNOWN:
            return TrustRefused(str(refused.code), f"{address} is who invited, but is not admitted: {refused.reason}")
        return TrustRefused(
            "not-expected",
            f"{address} presents {refused.fingerprint}, and the invitation is from {self.token.pin}: "
            "someone stands in between, it is another machine, or it has a new certificate since",
            NEW_ONE,
        )


def pin(welcome: Welcome, directory: PeerDirectory, reserved: frozenset[str], given: str | None = None) -> str:
    """Pin who invited us, with its address; its name here. Raises BadInput.

    It is called `given`, which a person said; else what it calls itself, or the next free name, and none of `reserved`.
    """
    certificate, address = welcome.certificate, str(welcome.address)
    holder = directory.refresh().known(certificate)
    if holder is not None:
        if holder.address is None and certificate.fingerprint in holder.pins:
            directory.add(holder.name, [certificate], replace(holder.settings, address=address))
        return holder.name
    settings = PeerSettings(note=f"invited us, {datetime.now(UTC):%Y-%m-%d}", address=address)
    if given is not None:
        directory.add(given, [certificate], settings)
        return given
    try:
        return directory.enrol(welcome.answer.node, certificate, settings, reserved)
    except BadInput as error:
        text = f"this node is known there now, but did not pin it: {error.message}"
        raise BadInput(error.code, text, "say what to call it here, and join again: --name NAME") from error


def _explained(error: PeerAuthError, token: Token) -> PeerAuthError:
    """A refusal with what to do about it here or there."""
    if not isinstance(error, Declined):
        return error
    where = " or ".join(map(str, token.addresses))
    hints = {
        "invitation": NEW_ONE,
        "name-reserved": "choose another: --as NAME; or have it given there: peerauth invite --name NAME",
        "bad-name": "choose another: --as NAME",
        "name-taken": "the invitation is for this name alone; there: peerauth peer remove NAME, or another invitation",
        "too-many-attempts": "try again in a minute, or with --wait 2m",
    }
    return TrustRefused(error.code, f"{where} says no: {printable(error.reason, 300)}", hints.get(error.code), side="peer")

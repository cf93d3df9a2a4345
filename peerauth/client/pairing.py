"""Pairing with a node that waits for it: the initiator's side. Nobody is trusted before the exchange has succeeded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from enum import IntEnum

from peerauth.address import Address
from peerauth.client.control import anyone, conversation
from peerauth.control.exchange import Exchange, wrong_code
from peerauth.control.line import Declined, Line
from peerauth.control.pairing import Element, Pair, Paired, Pinned, Proof
from peerauth.errors import ConnectFailed, PeerAuthError, TrustRefused
from peerauth.trust.certificate import Certificate
from peerauth.trust.identity import Identity
from peerauth.trust.pairing import not_pairing

Pin = Callable[[Certificate, str], str]  # pins the other side, which proposes this name; the name it got
_NAMES = {"bad-name", "name-reserved", "name-taken"}
_SEE = "there: peerauth peer list; pairing again, with a new code, mends it either way"


class _Stage(IntEnum):
    """How far it went: what each side may have done when it ends here."""

    NOTHING = 0
    ASKED = 1  # the other side counts a guess
    PROVEN = 2  # the other side may have pinned us
    KNOWN = 3  # the other side knows the code, and has pinned us
    PINNED = 4  # so have we


async def pair(identity: Identity, address: Address, code: str, own: str, pin: Pin) -> tuple[str, Certificate]:
    """Pair with the node at `address`, where we propose the name `own` for ourselves; what `pin` called it, and who it is.

    `code` in its one form is tried once. Raises TrustRefused: `wrong-code`, `itself`, or the code of a refusal there;
    ConnectFailed: `pair-broken`, which says who may have pinned whom; or what `conversation` and `pin` raise.
    """
    attempt = _Attempt(identity, address, code, own, pin)
    try:
        async with conversation(identity, address, anyone, hear_anyone=True) as line:
            await attempt.make(line)
    except PeerAuthError as error:
        if attempt.stage < _Stage.PINNED:
            raise attempt.explained(error) from error
    assert attempt.peer is not None
    return attempt.name, attempt.peer


class _Attempt:
    def __init__(self, identity: Identity, address: Address, code: str, own: str, pin: Pin) -> None:
        self._identity = identity
        self._address = address
        self._code = code
        self._own = own
        self._pin = pin
        self.stage = _Stage.NOTHING
        self.peer: Certificate | None = None
        self.name = ""

    async def make(self, line: Line) -> None:
        ours = self._identity.certificate.fingerprint
        assert line.session.certificate is not None
        peer = Certificate(line.session.certificate)
        if peer.fingerprint == ours:
            raise TrustRefused("itself", f"{self._address} is this node itself", "pair is for two nodes")
        exchange = Exchange("initiator", self._code, ours, peer.fingerprint, line.session.channel_binding())
        self.stage = _Stage.ASKED
        await line.send(Pair(exchange.element))
        exchange.hear((await line.receive(Element)).element)
        self.stage = _Stage.PROVEN
        await line.send(Proof(exchange.prove(self._own), self._own))
        answer = await line.receive(Proof)
        exchange.check(answer.proof, answer.name)
        self.stage = _Stage.KNOWN
        self.name = self._pin(peer, answer.name)  # in one go: no timeout comes between it and knowing of it
        self.peer = peer
        self.stage = _Stage.PINNED
        with contextlib.suppress(OSError, PeerAuthError):  # it knows without being told, or sees no harm in not knowing
            await line.send(Pinned())
            await line.receive(Paired)

    def explained(self, error: PeerAuthError) -> PeerAuthError:
        """The same trouble with what each side has done."""
        where = str(self._address)
        if isinstance(error, Declined):
            return self._declined(error)
        if self.stage is _Stage.NOTHING:
            return error
        if self.stage is _Stage.KNOWN:
            text = f"{where} knows the code and has pinned this node, which has not pinned it: {error.message}"
            return type(error)(error.code, text, error.hint)
        if error.code == "wrong-code":
            return TrustRefused("wrong-code", f"{where}: {wrong_code().message}; nothing was pinned here", _AGAIN)
        if self.stage is _Stage.ASKED:
            text = f"the connection to {where} broke off before anything was proven: neither side has pinned the other"
            return ConnectFailed("pair-broken", f"{text} ({error.message})", "try again: one guess less is left there")
        text = f"the connection to {where} broke off at the last step: it may have pinned this node, which has not pinned it"
        return ConnectFailed("pair-broken", f"{text} ({error.message})", _SEE)

    def _declined(self, error: Declined) -> PeerAuthError:
        where = str(self._address)
        if error.code == "not-pairing":
            return TrustRefused("not-pairing", f"{where}: {error.reason}", not_pairing().hint)
        if error.code == "wrong-code":
            return TrustRefused("wrong-code", f"{where} says no: {error.reason}; nothing was pinned here", _AGAIN)
        hint = "propose another: --as NAME; or there: peerauth pair --name NAME" if error.code in _NAMES else None
        return TrustRefused(error.code, f"{where} says no: {error.reason}; nothing was pinned here", hint, side="peer")


_AGAIN = (
    "compare the code letter by letter; if it was right, somebody stands in between, and this network is not to be trusted"
)

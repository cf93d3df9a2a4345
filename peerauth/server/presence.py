"""A server presents the identity that is on disk: when that changes, new connections have the new one, and no other ends."""

from __future__ import annotations

import asyncio

from peerauth.audit import Audit, Event
from peerauth.errors import BadInput, PeerAuthError
from peerauth.server.contexts import Contexts
from peerauth.server.tally import Share
from peerauth.store.own import Own
from peerauth.trust.identity import Identity


def unusable(error: PeerAuthError) -> Event:
    """What is said of an identity on disk that cannot be taken over."""
    text = f"the identity on disk has changed and cannot be used, so the old one is still presented: {error.message}"
    return Event("problem", text, error.hint, code=error.code)


def take_over(own: Own, contexts: Contexts) -> bool:
    """Present what is on disk; whether that is another certificate. Raises BadInput, and the old one is still presented."""
    own.look()
    before = contexts.identity
    if own.identity.certificate == before.certificate:
        return False
    try:
        contexts.present(own.identity)
    except BadInput:
        own.identity = before
        raise
    return True


class Presence:
    """Which identity one server presents, in the running loop."""

    def __init__(self, own: Own, contexts: Contexts, share: Share, audit: Audit) -> None:
        self._own = own
        self._contexts = contexts
        self._share = share
        self._audit = audit

    async def look(self) -> Identity:
        """Present what is on disk, if that is another identity than before and can be used; which it is now."""
        own, contexts = self._own, self._contexts
        if own.stirred or own.identity is not contexts.identity:
            try:
                if await asyncio.to_thread(take_over, own, contexts):
                    self._say(contexts.identity)
            except PeerAuthError as error:
                self._audit.common(unusable(error))
        return contexts.identity

    def _say(self, identity: Identity) -> None:
        self._share.begin_epoch()  # a resumed session shows no certificate: whoever has a ticket is to see the new one
        own = identity.certificate.fingerprint
        text = f"new connections present the certificate {own}, valid until {identity.certificate.not_after:%Y-%m-%d}"
        self._audit.common(Event("identity-changed", text, fingerprint=str(own)))

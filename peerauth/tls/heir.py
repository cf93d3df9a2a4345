"""What a drop-in context presents follows the identity on the disk, while the context stays the same.

OpenSSL cannot exchange the key of a context that other threads make connections of, and one of another kind (RSA, EC)
would stay beside the new one. So an heir is made, a context with the identity that is there now, and every connection
passes to the newest heir before its handshake begins (SSL_set_SSL_CTX(3)). It takes its key, certificate and pool from
there; what was set on the context itself it has already, or the heir has inherited it.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterable

from peerauth.errors import BadInput

_log = logging.getLogger("peerauth")


class HeritableContext(ssl.SSLContext):
    """A context that remembers what OpenSSL does not tell again. Only before it is used may it be changed, as any other."""

    protocols: Iterable[str] | None = None
    ciphers: str | None = None

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """As in `ssl.SSLContext`."""
        self.protocols = list(alpn_protocols)
        super().set_alpn_protocols(self.protocols)

    def set_ciphers(self, cipherlist: str) -> None:
        """As in `ssl.SSLContext`."""
        self.ciphers = cipherlist
        super().set_ciphers(cipherlist)

    def bequeath(self, heir: HeritableContext) -> None:
        """Give an heir what connections ask their context for while they shake hands."""
        if self.protocols is not None:
            heir.set_alpn_protocols(self.protocols)
        if self.ciphers is not None:
            heir.set_ciphers(self.ciphers)
        if self.sni_callback is not None:
            heir.sni_callback = self.sni_callback


class Line:
    """A context and its heirs. For one thread at a time.

    `make` builds a context with what is on the disk now; `identity` tells which one that is, by any value.
    """

    def __init__(self, make: Callable[[], HeritableContext], identity: Callable[[], object]) -> None:
        """Raises what `make` raises."""
        self._make, self._identity = make, identity
        self._presented = identity()  # before the files are read: what changes in between is noticed
        self.first = self.newest = make()

    def look(self) -> bool:
        """Whether there is another heir now. What cannot be used leaves the one from before, and is looked at again."""
        try:
            identity = self._identity()
            if identity == self._presented:
                return False
            heir = self._make()
            self.first.bequeath(heir)
        except BadInput as error:  # key and certificate are two files, and between the two there is a moment
            _log.debug("the new identity cannot be presented yet: %s", error)
            return False
        self._presented, self.newest = identity, heir
        return True

"""Which of the strangers that are remembered still wait for a person's word."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from peerauth.errors import BadInput

if TYPE_CHECKING:
    from peerauth.store.peerdir import PeerDirectory
    from peerauth.store.pending import Stranger
    from peerauth.store.state import State


def waiting(state: State, directory: PeerDirectory) -> list[Stranger]:
    """Those who can be approved and are not pinned meanwhile; the denied, too."""
    from peerauth.store.pending import strangers

    return [stranger for stranger in strangers(state) if pinned_as(stranger.certificate, directory) is None]


def pinned_as(certificate: bytes, directory: PeerDirectory) -> str | None:
    """The peer that has this certificate (DER) pinned now, or its key."""
    from peerauth.trust.certificate import Certificate
    from peerauth.trust.fingerprint import Fingerprint

    peers = directory.current
    holder = peers.holder(Fingerprint.of(certificate))
    if holder is None and peers.pins_keys:
        with contextlib.suppress(BadInput):
            holder = peers.key_holder(Certificate(certificate))
    return holder.name if holder else None

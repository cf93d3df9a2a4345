"""The strangers that are remembered: which of them still wait for a person's word, and whose key one has."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from peerauth.errors import BadInput

if TYPE_CHECKING:
    from peerauth.cli.ui import Ui
    from peerauth.store.config import Config
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


def same_key(certificate: bytes, directory: PeerDirectory) -> str | None:
    """The peer whose name this certificate (DER) claims, if one of its pinned certificates is over the same key."""
    from peerauth.trust.certificate import Certificate
    from peerauth.trust.explain import claimed_name

    name = claimed_name(certificate).lower()
    if name not in directory.current:
        return None
    key = Certificate(certificate).key_fingerprint
    return name if any(held.key_fingerprint == key for held in directory.certificates(name)) else None


def say_if_off(ui: Ui, config: Config) -> None:
    """Say it where the setting is off."""
    if not config.remember:
        ui.say(f"refusals are not remembered now: {ui.path(config.path)} says so ([refusals] remember = false)")

"""What is said when a pairing has come to its end, on either side."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from peerauth.cli.describe import aligned, words_lines
from peerauth.cli.ui import Ui

if TYPE_CHECKING:
    from peerauth.trust.certificate import Certificate
    from peerauth.trust.fingerprint import Fingerprint
    from peerauth.trust.peers import PeerSet


def tell(
    ui: Ui, name: str, fingerprint: Fingerprint, certificate: Certificate | None, before: PeerSet, *, paired: bool
) -> None:
    """Say who was pinned; `before`: who was so far; `paired`: whether it is known that the other side has pinned us, too."""
    if ui.json:
        ui.emit({"name": name, "fingerprint": fingerprint, "words": fingerprint.words, "paired": paired})
    else:
        ui.data(aligned([("name", name), ("fingerprint", str(fingerprint)), *words_lines(fingerprint)]))
    for sentence in certificate.unusual(datetime.now(UTC)) if certificate else ():
        ui.warn(f"{name}: {sentence}")
    if before.holder(fingerprint) is not None:
        ui.say(f"{name} was pinned already; its name and what is noted about it stay as they are")
    if paired:
        ui.say(f"paired: {name} and this node have pinned each other; to undo it here: peerauth peer remove {name}")
    else:
        ui.warn(
            f"{name} is pinned here; it has not said that it pinned this node, too",
            f"ask there; pairing again, with a new code, mends it; to undo it here: peerauth peer remove {name}",
        )

"""`demo`: not built yet. The lead writes this module; its function is registered in main.py."""

from __future__ import annotations

from peerauth.cli.command import command
from peerauth.cli.ui import Ui
from peerauth.errors import PeerAuthError


@command
def demo(ui: Ui) -> None:
    """Not built yet."""
    raise PeerAuthError("not-built", "this command is not built yet")

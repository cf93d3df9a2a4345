"""What the commands that speak to others need of the node that lives in the home."""

from __future__ import annotations

import gc
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from peerauth.cli.secret import load_own
from peerauth.cli.ui import Ui

if TYPE_CHECKING:
    from peerauth.client.dial import Dialer
    from peerauth.store.peerdir import PeerDirectory

T = TypeVar("T")
_SELDOM = 10_000  # new objects until Python looks for cycles among them


def load_peers(ui: Ui, path: Path) -> PeerDirectory:
    """The peers directory, read; its problems are warned about."""
    from peerauth.store.hands import processors
    from peerauth.store.peerdir import PeerDirectory

    directory = PeerDirectory(path)
    directory.refresh(processes=processors())
    for problem in directory.problems:
        ui.warn(problem.message)
    return directory


def make_dialer(ui: Ui, passphrase_file: Path | None, alpn: tuple[bytes, ...] = ()) -> Dialer:
    """A dialer with this node's identity and peers."""
    from peerauth.client.dial import Dialer
    from peerauth.client.renewal import Renewal

    own = load_own(ui, passphrase_file)
    config, directory = own.config, load_peers(ui, own.config.peers)
    renewal = Renewal(config, directory, own.identity, ui.warn)
    return Dialer.of(
        own.identity,
        config.name,
        lambda: directory.current,
        min_tls=config.min_tls,
        alpn=alpn,
        own=own,
        renewal=renewal,
        directory=directory,
    )


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run on the fastest event loop that there is for this system."""
    gc.set_threshold(_SELDOM, 10, 10)  # this process stays; its connections make no cycles, so there is little to find
    if sys.platform == "win32":
        import asyncio

        return asyncio.run(main)
    import uvloop

    return uvloop.run(main)

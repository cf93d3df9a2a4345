"""Which directories may be served: none in which a peer would find what is this node's own."""

from __future__ import annotations

from pathlib import Path

from peerauth.errors import BadInput
from peerauth.store.config import Config
from peerauth.store.files import shown
from peerauth.store.state import DIRECTORY as STATE


def check_root(directory: Path, config: Config) -> None:
    """Look at a directory that is to be served, links in its path followed.

    Raises BadInput("not-a-directory"), or BadInput("bad-root") where the key, the home, what the program notes there, or the
    peers are in it, or it is in one of the latter two.
    """
    if directory.is_file():
        raise BadInput("not-a-directory", f"{shown(directory)} is no directory", "serve the directory that it is in")
    if not directory.is_dir():
        raise BadInput("not-a-directory", f"there is no directory {shown(directory)}", "make it first")
    home = config.path.parent
    place = directory.resolve()
    own = {"the private key": config.key, "the home of this node": home, "its peers": config.peers}
    for what, path in own.items():
        if path.resolve().is_relative_to(place):
            raise _bad(directory, f"{what}, {shown(path)}, is in it")
    for what, path in {"what the program notes": home / STATE, "its peers": config.peers}.items():
        if place.is_relative_to(path.resolve()):
            raise _bad(directory, f"it holds {what}")


def _bad(directory: Path, why: str) -> BadInput:
    hint = "serve a directory that holds nothing but what peers may read"
    return BadInput("bad-root", f"{shown(directory)} cannot be served: {why}", hint)

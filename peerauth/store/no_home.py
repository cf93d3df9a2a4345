"""What is said where no node lives: that, and where one may have been meant."""

from __future__ import annotations

import contextlib
from itertools import islice
from pathlib import Path
from typing import Final

from peerauth.errors import BadInput
from peerauth.store.files import shown

_LOOKED_AT: Final = 200  # entries of the directory
_NAMED: Final = 3


def no_home(directory: Path, file_name: str) -> BadInput:
    """The error for a directory in which there is no config.toml, `file_name`."""
    if directory.is_file():
        hint = f"type: --home {shown(directory.parent)}"
        return BadInput("no-config", f"{shown(directory)} is a file, and the home of a node is a directory", hint)
    hint = "type: peerauth keygen   (or name another directory with --home)"
    with contextlib.suppress(OSError):
        below = sorted(entry for entry in islice(directory.iterdir(), _LOOKED_AT) if (entry / file_name).is_file())
        if below:
            known = ", ".join(shown(entry) for entry in below[:_NAMED])
            hint = f"go to a node that lives below it, or name it with --home: {known}"
    return BadInput("no-config", f"{shown(directory)} is not the home of a node: there is no {file_name} in it", hint)

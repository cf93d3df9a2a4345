"""The way into the program `peerauth`.

Only what every start needs is imported here; the commands are in `program`. What a start may load is counted by
tests/cli/test_start.py, and docs/decisions/0017-a-quick-start.md says why.
"""

from __future__ import annotations

import gc
import io
import sys
import warnings
from collections.abc import Sequence

import peerauth

_SELDOM = 50_000  # new objects until Python looks for cycles among them; a command that shows something and ends makes fewer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Without `arguments` it is the process's own, and the process then ends."""
    if arguments is not None:
        return _run(list(arguments))
    gc.set_threshold(_SELDOM)
    try:
        return _run(sys.argv[1:])
    finally:
        gc.freeze()  # what is left goes with the process, and need not be searched for cycles first


def _run(words: list[str]) -> int:
    if words == ["--version"] and _said(f"peerauth {peerauth.__version__}\n"):
        return 0
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what a library dislikes about a stranger's certificate is not a person's matter
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale may lack what a note is written in

    from peerauth.cli.program import run

    return run(words)


def _said(text: str) -> bool:
    """Print it; False when that fails, which the long way then says as for any command."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (OSError, AttributeError):  # AttributeError: there is no standard output
        return False
    return True

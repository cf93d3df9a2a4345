"""What is meant by a command or an option that there is not.

People bring the words of other tools: wg's `genkey`, ssh-keygen's habit of naming by an option, `ls` and `rm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from peerauth.cli.commands import COMMANDS, PEER_COMMANDS, PROGRAM

_COMMANDS: Final = {
    **{word: f"peer {word}" for word in PEER_COMMANDS},
    "genkey": "keygen",
    "init": "keygen",
    "ls": "peer list",
    "rm": "peer remove",
    "start": "serve",
    "run": "up",
    "ping": "check",
    "curl": "get",
    "log": "why",
    "version": "--version",
}
_PEER_COMMANDS: Final = {
    "ls": "peer list",
    "rm": "peer remove",
    "delete": "peer remove",
    "mv": "peer rename",
    **{word: word for word in COMMANDS},
}
_OPTIONS: Final = {
    ("keygen", "--name"): "keygen NAME",
    ("serve", "--port"): "serve --listen :PORT",
    ("get", "-O"): "get URL -o FILE",
    ("get", "--cacert"): "peer add FILE --address HOST:PORT",
    ("get", "-k"): "peer scan HOST:PORT --add NAME",
}


def meant(path: str, wrong: str, words: Sequence[str]) -> str | None:
    """What to type instead of `wrong`, which is no command or option of `path` ("peerauth peer"), where that is known."""
    command = path.removeprefix(PROGRAM).strip()
    found = {"": _COMMANDS, "peer": _PEER_COMMANDS}.get(command, {}).get(wrong) or _OPTIONS.get((command, wrong))
    if found is not None:
        return f"{PROGRAM} {found}"
    if command == "serve" and "--" not in words and _follows_a_stray_word(wrong, words):
        return f"a program and its options stand behind two dashes: {PROGRAM} serve --listen ADDRESS -- COMMAND ARG..."
    return None


def _follows_a_stray_word(wrong: str, words: Sequence[str]) -> bool:
    """Whether the option stands behind a word that is no option's value."""
    at = next((at for at, word in enumerate(words) if word.startswith(wrong)), 0)
    return at > 1 and not words[at - 1].startswith("-") and not words[at - 2].startswith("-")

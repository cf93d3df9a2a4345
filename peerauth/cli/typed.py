"""Commands in messages, as they are to be typed: with `--home`, where they would otherwise mean another node.

Whoever writes a message knows no home. A command that it names is for this node, unless the words before it say that it is
for another ("there: ", "on its machine: "), or it stands in backquotes, which only speak of it.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

from peerauth.cli.commands import COMMANDS, PROGRAM

HOME_VARIABLE = "PEERAUTH_HOME"
_ELSEWHERE = re.compile(
    r"\bthere[:,]|\b(its|that|the other) machine\b|\bnew node\b|\bask its owner[:,]|\bon (each|others)\b"
)


def call(home: Path) -> str:
    """How the program is called so that it means this home: without `--home` only where it is sure to be found.

    A variable may be set for one command, or for a service alone; nobody can see that from within.
    """
    sure = not os.environ.get(HOME_VARIABLE) and os.path.abspath(home) == os.path.abspath(".")  # noqa: PTH100 - as it is found
    if sure:
        return PROGRAM
    import shlex

    return f"{PROGRAM} --home {shlex.quote(str(home))}"


def typed(text: str, called: str) -> str:
    """`text` with the commands for this node as they are to be typed; `called`: what `call` said."""
    if called == PROGRAM or PROGRAM not in text:
        return text
    return ";".join(_clause(clause, called) for clause in text.split(";"))


def _clause(clause: str, called: str) -> str:
    found = next((match for match in _command().finditer(clause)), None)
    if found is None or _ELSEWHERE.search(clause, 0, found.start()):
        return clause
    return _command().sub(lambda _: called, clause)


@cache
def _command() -> re.Pattern[str]:
    """The program's name before that of a command, where neither a home nor a look at the help follows."""
    names = "|".join(map(re.escape, (*COMMANDS, "peer")))
    return re.compile(rf"(?<![`\w.-]){PROGRAM}(?= (?:{names})\b)(?![^;(\n]* --(?:home|help)\b)")

"""docs/applications.md: its programs are written to files, its commands are typed, and what came is what it shows."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from peerauth.services import asgi, http_bounds, wsgi
from tests.docs.pages import CHECKOUT, blocks
from tests.docs.terminals import Terminals
from tests.support.programs import needs

PAGE = (CHECKOUT / "docs/applications.md").read_text("utf-8")


def test_the_applications_on_the_page_run_and_know_their_caller(terminals: Terminals, nodes: Path) -> None:
    needs("curl")
    python = nodes / ".terminals" / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    names = []
    for block in blocks(PAGE, "python"):
        name = block.text.partition("\n")[0].removeprefix("# ")
        names.append(name)
        (nodes / name).write_text(terminals.ports.replaced(block.text))
    assert {"main.py", "chat.py", "shop.py", "library.py"} <= set(names)
    for block in blocks(PAGE, "console"):
        terminals.type(block)


def test_the_figures_of_the_page_are_those_of_the_code() -> None:
    text = " ".join(re.findall(r"^## (?:Start and end|Bounds)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    for figure in (
        f"{http_bounds.HEAD_TIME:g} s after its first byte",
        f"more than {http_bounds.MOST_HEAD >> 10} KB",
        f"idle for {asgi.KEEP_ALIVE} s",
        f"gets {asgi.LAST_WORK:g} s",
        f"application {asgi.SHUTDOWN:g} s",
        f"in {wsgi.THREADS} threads",
    ):
        assert figure in " ".join(text.split()), figure

"""docs/drop-in.md runs: each of its servers with a client, each of its clients with a server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import CHECKOUT
from tests.docs.terminals import DEADLINE_S, Running, Terminals, pattern, plain

PAGE = (CHECKOUT / "docs/drop-in.md").read_text("utf-8")
_EXAMPLE = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^##+ (.+)$", re.MULTILINE)

EXAMPLES = {
    _SECTION.findall(PAGE, 0, found.start())[-1] if _SECTION.search(PAGE, 0, found.start()) else "the first": found.groups(
        ""
    )
    for found in _EXAMPLE.finditer(PAGE)
}
SERVERS = [name for name, (_, shown) in EXAMPLES.items() if not shown]
OTHERS = [name for name, (_, shown) in EXAMPLES.items() if shown]
CLIENT = "The standard library"


def start(terminals: Terminals, nodes: Path, server: str) -> Running:
    program = [sys.executable, "-W", "error", "-c", terminals.ports.replaced(EXAMPLES[server][0])]
    running = terminals.start(program, nodes)
    running.wait_for_port(terminals.ports.number("8443"))
    return running


def run(terminals: Terminals, nodes: Path, example: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", terminals.ports.replaced(EXAMPLES[example][0])],
        cwd=nodes,
        env=terminals.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_every_example_is_run() -> None:
    assert len(EXAMPLES) == PAGE.count("```python\n"), "two examples in one section: name them apart"
    assert len(SERVERS) == 4
    assert CLIENT in OTHERS


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_on_the_page_serves_its_peer_and_no_stranger(terminals: Terminals, nodes: Path, server: str) -> None:
    """The stranger is mallory, with the page's own client; what the server's person is told is on standard error."""
    running = start(terminals, nodes, server)
    try:
        admitted = run(terminals, nodes, CLIENT)
        mallory = Path(nodes, "mallory").rename(Path(nodes, "stranger"))
        Path(nodes, "alice").rename(Path(nodes, "mallory"))
        mallory.rename(Path(nodes, "alice"))
        refused = run(terminals, nodes, CLIENT)
    finally:
        said = running.end()

    assert (admitted.returncode, admitted.stdout) == (0, "hello alice\n")
    assert refused.returncode == 1, refused.stdout
    assert "hello" not in refused.stdout
    assert "refused a stranger: the certificate is not pinned" in said


@pytest.mark.parametrize("example", OTHERS)
def test_any_other_example_prints_what_is_shown(terminals: Terminals, nodes: Path, example: str) -> None:
    running = start(terminals, nodes, "http.server, socketserver")
    try:
        done = run(terminals, nodes, example)
    finally:
        running.end()

    shown = terminals.ports.replaced(EXAMPLES[example][1])
    assert done.returncode == 0, done.stdout
    assert pattern(shown.splitlines()).fullmatch(plain(done.stdout)), f"{shown}---\n{done.stdout}"

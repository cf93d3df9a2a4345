"""docs/library.md runs, and its lists are those of the code."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import peerauth
from peerauth.node import Node, Peers, PeerServer
from tests.docs.pages import CHECKOUT, rows, sections, spans
from tests.docs.terminals import DEADLINE_S, Running, Terminals, pattern, plain

PAGE = (CHECKOUT / "docs/library.md").read_text("utf-8")
_EXAMPLE = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def test_the_examples_run_and_print_what_is_shown(terminals: Terminals, nodes: Path) -> None:
    """One that serves goes on while the others run."""
    examples = _EXAMPLE.findall(PAGE)
    assert sum(bool(shown) for _, shown in examples) >= 4
    serving: list[Running] = []
    try:
        for example, shown in examples:
            program = [sys.executable, "-W", "error", "-c", terminals.ports.replaced(example)]
            if "serve_forever" in example:
                serving.append(terminals.start(program, nodes))
                serving[-1].wait_for_port(terminals.ports.number("8443"))
                continue
            done = subprocess.run(
                program,
                cwd=nodes,
                env=terminals.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=DEADLINE_S,
                check=False,
            )
            assert done.returncode == 0, done.stdout
            assert pattern(shown.splitlines()).fullmatch(plain(done.stdout)), f"{shown}---\n{done.stdout}"
    finally:
        said = [one.end() for one in serving]
    (text,) = said
    assert "admitted alice from 127.0.0.1:" in text
    assert text.endswith("KeyboardInterrupt\n")  # which is how a program ends that nobody tells otherwise
    assert "never retrieved" not in text


@pytest.mark.parametrize("kind", [Node, PeerServer, Peers], ids=lambda kind: kind.__name__)
def test_every_public_method_is_listed_with_its_parameters(kind: type) -> None:
    listed = {}
    for first, _ in rows(sections(PAGE)[kind.__name__]):
        (span,) = spans(first)
        name, parameters = re.fullmatch(rf"{kind.__name__}\.(\w+)(?:\((.*)\))?", span).groups()  # type: ignore[union-attr]
        listed[name] = parameters
    public = {name: member for name, member in vars(kind).items() if not name.startswith("_")}
    assert set(listed) == set(public)
    for name, parameters in listed.items():
        if parameters is not None:
            taken = [taken for taken in inspect.signature(getattr(kind, name)).parameters if taken != "self"]
            assert [word for word in parameters.split(", ") if word] == taken, name
        else:
            assert isinstance(public[name], property), f"{name} is called with ()"


def test_every_public_name_is_on_the_page() -> None:
    words = {word for span in spans(PAGE) for word in re.findall(r"\w+", span)}
    assert [name for name in peerauth.__all__ if name not in words and name != "__version__"] == []


def test_every_kind_of_error_is_listed() -> None:
    listed = {spans(first)[0] for first, _ in rows(sections(PAGE)["Errors"])}
    public = {name: getattr(peerauth, name) for name in peerauth.__all__}
    assert listed == {name for name, kind in public.items() if isinstance(kind, type) and issubclass(kind, Exception)}

"""The Python programs of docs/drop-in.md, servers.md and clients.md, by the section that they are in."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import CHECKOUT
from tests.docs.terminals import DEADLINE_S, Ports, pattern, plain

_PROGRAM = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^##+ (.+)$", re.MULTILINE)
_STARTED = re.compile(r"# (\w+)\.py, started with: (\w+) (.+)\n")


@dataclass(frozen=True)
class PageProgram:
    """A program, and what the page shows that it prints; a server shows nothing."""

    section: str
    text: str
    shown: str

    def command(self, directory: Path, port: int) -> list[str]:
        """How it is run, with this port in place of the page's; a file is made where the page says how it is called.

        A port at which the program itself listens, 8446 on the pages, is a free one.
        """
        text = self.text.replace("8443", str(port)).replace("8446", str(Ports().number("8446")))
        if found := _STARTED.match(text):
            module, program, words = found.groups()
            (directory / f"{module}.py").write_text(text)
            return [sys.executable, "-W", "error", "-m", program, *words.split()]
        return [sys.executable, "-W", "error", "-c", text]

    def run(self, directory: Path, port: int, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.command(directory, port),
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def has_run(self, done: subprocess.CompletedProcess[str], port: int) -> None:
        """Hold what it printed against what the page shows."""
        assert done.returncode == 0, done.stdout
        shown = self.shown.replace("8443", str(port))
        assert pattern(shown.splitlines()).fullmatch(plain(done.stdout)), f"{shown}---\n{done.stdout}"


def programs(page: str) -> list[PageProgram]:
    """Every program of a page of docs/."""
    text = (CHECKOUT / "docs" / page).read_text("utf-8")

    def found() -> Iterator[PageProgram]:
        for one in _PROGRAM.finditer(text):
            sections = _SECTION.findall(text, 0, one.start())
            yield PageProgram(sections[-1] if sections else "the first", *one.groups(""))

    listed = list(found())
    assert len(listed) == text.count("```python\n")
    return listed


def by_section(page: str) -> dict[str, PageProgram]:
    """The first program of each section of a page."""
    return {program.section: program for program in reversed(programs(page))}

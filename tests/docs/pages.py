"""Markdown pages as what they claim: blocks of code, links, tables, and the commands and options they name."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peerauth.cli.program import LaterCommand, program

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAM = "peerauth"

_BLOCK = re.compile(
    r"^(?:<!-- terminal: (?P<terminal>[\w-]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^(#+) +(.+)$", re.MULTILINE)
_WORD = re.compile(r"'[^']*'|\S+")


@dataclass(frozen=True)
class Block:
    """A fenced block of code, and the terminal that it was typed in, if that is said."""

    language: str
    text: str
    terminal: str | None = None


def pages() -> list[Path]:
    """Every page that a person reads: those at the top, beside the example, and in docs/."""
    return sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("peers/*.md"), *CHECKOUT.glob("docs/**/*.md")])


def named(path: Path) -> str:
    """A page's path as it is shown."""
    return path.relative_to(CHECKOUT).as_posix()


def blocks(text: str, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page."""
    found = [Block(m["language"], m["text"], m["terminal"]) for m in _BLOCK.finditer(text)]
    return [block for block in found if language in (None, block.language)]


def prose(text: str) -> str:
    """The page without its blocks."""
    return _BLOCK.sub("", text)


def spans(text: str) -> list[str]:
    """What stands between backticks in running text and tables, where | is written with a backslash."""
    return [found.replace("\\|", "|") for found in _SPAN.findall(prose(text))]


def links(text: str) -> list[str]:
    """Where the page's links lead."""
    return _LINK.findall(prose(text))


def anchor(heading: str) -> str:
    """What a heading is called in a link, as the usual renderers make it."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """Every heading of the page as a link's #fragment."""
    return {anchor(heading) for _, heading in _HEADING.findall(prose(text))}


def sections(text: str, level: int = 2) -> dict[str, str]:
    """The page's parts by their headings of this level; what is below deeper headings belongs to them."""
    parts = re.split(rf"^{'#' * level} +(.+)$", text, flags=re.MULTILINE)
    return {heading.strip("` "): body for heading, body in zip(parts[1::2], parts[2::2], strict=True)}


def rows(text: str) -> list[list[str]]:
    """The rows of a section's tables, without their headers."""
    found: list[list[str]] = []
    lines = prose(text).splitlines()
    for number, line in enumerate(lines):
        header = number + 1 < len(lines) and re.fullmatch(r"\|(\s*:?-+:?\s*\|)+", lines[number + 1])
        if line.startswith("|") and not header and not re.fullmatch(r"\|(\s*:?-+:?\s*\|)+", line):
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))])
    return found


@functools.cache
def commands() -> dict[str, Any]:
    """Every command of the program by what is typed for it: `peerauth`, `peerauth peer add`."""

    def below(path: str, command: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - typer has no public name for it
        yield path, command.loaded if isinstance(command, LaterCommand) else command
        for name, sub in getattr(command, "commands", {}).items():
            yield from below(f"{path} {name}", sub)

    return dict(below(PROGRAM, program()))


def options(command: str) -> set[str]:
    """The options of a command, in every spelling."""
    spellings = {spelling for parameter in commands()[command].params for spelling in parameter.opts}
    return {spelling for spelling in spellings if spelling.startswith("-")} | {"--help", "-h"}


def what_is_wrong(line: str) -> str | None:
    """What is wrong with a command line that begins with `peerauth`: no such command or option. None if nothing is."""
    words = _WORD.findall(line.replace("[", "").replace("]", ""))[1:]
    command = PROGRAM
    while words and f"{command} {words[0].strip(',')}" in commands():
        command += f" {words.pop(0).strip(',')}"
    if getattr(commands()[command], "commands", None) and words and re.match(r"[a-z]", words[0]):
        return f"there is no command '{command} {words[0]}'"
    used = {word.partition("=")[0].rstrip(",;.") for word in words if re.match(r"--?[A-Za-z]", word)}
    unknown = used - options(command)
    return f"'{command}' has no {', '.join(sorted(unknown))}" if unknown else None


def typed(line: str) -> list[str]:
    """The commands of ours in a line of a shell, which may join several, or put one into another."""
    inner = re.findall(r"\$\(([^()]*)\)", line)
    parts = re.split(r"\s(?:&&|\|\||[|;&])(?:\s|$)", re.sub(r"\$\([^()]*\)", "X", line))
    found = (re.sub(r"^(\w+=\S+\s+)+", "", part.strip()) for part in (*parts, *inner))
    return [part for part in found if re.match(rf"{PROGRAM}(\s|$)", part)]

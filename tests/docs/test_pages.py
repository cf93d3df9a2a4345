"""What the pages say is so: links lead somewhere, blocks run or parse, and lists are complete in both directions."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from peerauth.store.config import parse_config
from peerauth.store.peerfile import parse_settings
from tests.docs.pages import (
    CHECKOUT,
    PROGRAM,
    anchors,
    blocks,
    commands,
    links,
    named,
    options,
    pages,
    rows,
    sections,
    spans,
    typed,
    what_is_wrong,
)
from tests.docs.terminals import Terminals, steps
from tests.support.architecture import LAYERS
from tests.support.programs import needs

every_page = pytest.mark.parametrize("page", pages(), ids=named)
COMMON = {"--home", "--json", "-q", "--quiet", "-v", "--verbose", "-h", "--help"}


def read(name: str) -> str:
    return (CHECKOUT / name).read_text("utf-8")


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in links(page.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, fragment = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (fragment and fragment not in anchors(target.read_text("utf-8"))):
            broken.append(link)
    assert not broken


@every_page
def test_every_command_on_a_page_exists_with_its_options(page: Path) -> None:
    text = page.read_text("utf-8")
    lines = [*spans(text), *(step.command for block in blocks(text, "console") for step in steps(block))]
    assert [wrong for line in lines for command in typed(line) if (wrong := what_is_wrong(command))] == []


@every_page
def test_every_block_of_toml_is_a_configuration_or_the_notes_about_a_peer(page: Path, tmp_path: Path) -> None:
    for block in blocks(page.read_text("utf-8"), "toml"):
        if re.search(r"^\[", block.text, re.MULTILINE):
            node = "" if "[node]" in block.text else '[node]\nname = "example"\n'
            parse_config(f"{node}{block.text}".encode(), tmp_path)
        else:
            parse_settings(block.text.encode(), tmp_path / "alice.toml")


@every_page
def test_every_block_of_python_compiles(page: Path) -> None:
    for block in blocks(page.read_text("utf-8"), "python"):
        compile(block.text, named(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


# Two have tests of their own, which bring what is typed there what it needs.
WITH_TERMINALS = [
    page
    for page in pages()
    if page.name not in {"README.md", "applications.md"}
    and any(block.terminal for block in blocks(page.read_text("utf-8"), "console"))
]


@pytest.mark.parametrize("page", WITH_TERMINALS, ids=named)
def test_what_the_terminals_of_a_page_show_is_what_happens(page: Path, terminals: Terminals) -> None:
    for program in ("curl", "openssl"):
        needs(program)
    for block in blocks(page.read_text("utf-8"), "console"):
        if block.terminal:
            terminals.type(block)


def headed() -> dict[str, str]:
    """The sections of docs/commands.md by the command that each is about."""
    found = {}
    for heading, body in sections(read("docs/commands.md")).items():
        if heading.startswith(PROGRAM):
            words = [word for word in heading.split() if word.islower()]
            found[" ".join(words)] = body
    return found


def test_every_command_has_its_section_and_every_section_its_command() -> None:
    leaves = {name for name, command in commands().items() if not getattr(command, "commands", None)}
    assert set(headed()) == leaves


@pytest.mark.parametrize("command", sorted(headed()))
def test_every_option_of_a_command_is_in_its_table_and_no_other(command: str) -> None:
    first = [span.split()[0] for cells in rows(headed()[command]) for span in spans(cells[0])]
    assert set(first) == options(command) - COMMON
    assert len(first) == len(set(first))


def test_the_common_options_are_those_of_every_command() -> None:
    every = sections(read("docs/commands.md"))["Every command"]
    listed = {span.split()[0] for cells in rows(every) for span in spans(cells[0]) if span.startswith("-")}
    assert listed == COMMON
    assert all(options(command) >= COMMON for command in headed())


def test_every_variable_of_the_environment_is_listed() -> None:
    known = {
        found
        for file in (CHECKOUT / "peerauth").rglob("*.py")
        for found in re.findall(r'"(PEERAUTH_[A-Z0-9_]*[A-Z0-9])"', file.read_text("utf-8"))
    }
    every = sections(read("docs/commands.md"))["Every command"]
    assert {span for cells in rows(every) for span in spans(cells[0]) if span.startswith("PEERAUTH_")} == known


def test_every_promise_is_on_the_page_with_tests_that_exist() -> None:
    """In the README's words and order; that the files are there is said by the links."""
    told = [f"{number}. {words}" for number, words in re.findall(r"^(\d)\. \*\*(.+?)\*\*", read("README.md"), re.MULTILINE)]
    promises = sections(read("docs/promises.md"))
    assert list(promises) == told
    for number, body in zip("123456789", promises.values(), strict=True):
        assert f"../tests/promises/test_promise_{number}.py" in links(body)


def test_every_room_is_in_the_table_and_imports_point_up_it() -> None:
    listed = [spans(cells[0])[0] for cells in rows(sections(read("docs/architecture.md"))["The rooms"])]
    rooms = {path.stem for path in (CHECKOUT / "peerauth").iterdir() if (path.is_dir() and (path / "__init__.py").exists())}
    modules = {path.stem for path in (CHECKOUT / "peerauth").glob("[a-z]*.py")}
    assert set(listed) == rooms | modules
    assert [LAYERS[room] for room in listed] == sorted(LAYERS[room] for room in listed)


@every_page
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    modules = [span for span in spans(page.read_text("utf-8")) if re.fullmatch(r"(peerauth/)?\w+/\w+\.py", span)]
    roots = (CHECKOUT, CHECKOUT / "peerauth")
    assert [module for module in modules if not any((root / module).is_file() for root in roots)] == []


def test_every_decision_is_in_the_index_with_its_number() -> None:
    files = sorted(path.name for path in (CHECKOUT / "docs/decisions").glob("0*.md"))
    index = read("docs/decisions/README.md")
    assert [link for link in links(index) if link.startswith("0")] == files
    assert [name[:4] for name in files] == [f"{number:04}" for number in range(1, len(files) + 1)]


@pytest.mark.parametrize("page", sorted((CHECKOUT / "docs/decisions").glob("0*.md")), ids=named)
def test_every_decision_has_its_three_parts_on_one_page(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text.startswith(f"# {page.name[:4]}: ")
    assert list(sections(text)) == ["Context", "Decision", "What it costs"]
    assert len(text.splitlines()) <= 60

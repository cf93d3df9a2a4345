"""docs/messages.md has every code that is in the source, under the kind of trouble that it is, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from peerauth.trust.decision import Code
from tests.docs.pages import CHECKOUT, rows, sections, spans

PAGE = (CHECKOUT / "docs/messages.md").read_text("utf-8")
KINDS = {
    "Errors, exit code 1": {"BadInput", "Mistake", "PeerAuthError", "AppFailed", "ProtocolError"},
    "Errors, exit code 2": {"UsageError"},
    "Errors, exit code 3": {"TrustRefused"},
    "Errors, exit code 4": {"ConnectFailed"},
}
CODE_AT = {"Problem": 1, "Event": 7} | {kind: 0 for kinds in KINDS.values() for kind in kinds}
Found = tuple[str, str]  # what is made with a code, and the code


def codes(source: str) -> Iterator[Found]:
    """Every code that is written in a source, with the class that it is given to, or "event", or "code"."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name), args=values, keywords=named) if name in CODE_AT:
                given = [value for at, value in enumerate(values) if at == CODE_AT[name]]
                given += [keyword.value for keyword in named if keyword.arg == "code"]
                yield from ((name, text) for value in given for text in texts(value))
                if name == "Event" and values:
                    yield from (("event", text) for text in texts(values[0]))
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                pairs = zip(targets, values, strict=True)
                yield from (("Event", text) for target, value in pairs if named_code(target) for text in texts(value))
            case ast.Dict(keys=keys, values=values):
                items = zip(keys, values, strict=True)
                yield from (("event", text) for key, value in items if "event" in texts(key) for text in texts(value))
            case _:
                pass


def named_code(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "code"


def texts(node: ast.AST | None) -> list[str]:
    """A text in a source, as it is; of an f-string, with * for what is put in."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return ["".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts)]
        case _:
            return []


def in_source() -> set[Found]:
    files = sorted((CHECKOUT / "peerauth").rglob("*.py"))
    assert files
    return {found for file in files for found in codes(Path(file).read_text("utf-8"))}


def listed(section: str, part: int | None = None) -> set[str]:
    """The codes in the first column of a section's tables, or of one of them."""
    body = sections(PAGE)[section]
    if part is not None:
        body = re.split(r"\n(?=\| (?:event|code) \|)", body)[part]
    return {span for cells in rows(body) for span in spans(cells[0])}


@pytest.mark.parametrize("section", KINDS)
def test_every_code_of_an_error_is_listed_under_its_exit_code(section: str) -> None:
    assert {code for kind, code in in_source() if kind in KINDS[section]} == listed(section)


def test_every_reason_of_a_refusal_is_listed_in_the_order_of_the_questions() -> None:
    cells = [spans(cells[0])[0] for cells in rows(sections(PAGE)["Why a certificate is refused"])]
    assert sorted(cells) == sorted(Code)
    asked = re.findall(r"Code\.([A-Z_]+)", (CHECKOUT / "peerauth/trust/decision.py").read_text("utf-8"))
    order = list(dict.fromkeys(asked))
    questions = [Code[name] for name in order if name != "UNKNOWN"]  # its answer is a function below the others
    assert [cell for cell in cells if cell != Code.UNKNOWN] == questions


def test_every_event_is_listed() -> None:
    patterns = {code for kind, code in in_source() if kind == "event"}
    events = listed("Events", 1)
    unknown = [event for event in events if not any(re.fullmatch(one.replace("*", ".+"), event) for one in patterns)]
    missing = [one for one in patterns if not any(re.fullmatch(one.replace("*", ".+"), event) for event in events)]
    assert (unknown, missing) == ([], [])


def test_every_code_of_an_event_is_listed() -> None:
    found = in_source()
    assert {code for kind, code in found if kind == "Event"} - listed("Events", 3) == listed("Events", 2)
    assert {code for kind, code in found if kind == "Problem"} <= listed("Events", 3)
    assert listed("Events", 3) <= {code for kind, code in found if kind in {"Problem", "Event"}}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("raise BadInput('a', 'text')", {("BadInput", "a")}),
        ("Event('x', 'text', code='a')", {("event", "x"), ("Event", "a")}),
        ("Event(f'peer-{verb}', 'text')", {("event", "peer-*")}),
        ("Problem(path, 'a', text)", {("Problem", "a")}),
        ("code, message = 'a', 'text'", {("Event", "a")}),
        ("emit({'event': 'x', 'other': 'y'})", {("event", "x")}),
        ("raise BadInput(error.code, 'text')", set()),
        ("raise ValueError('a')", set()),
    ],
)
def test_a_code_is_found_in_a_source(source: str, found: set[Found]) -> None:
    assert set(codes(source)) == found

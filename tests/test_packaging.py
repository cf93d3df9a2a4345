"""What leaves this checkout: nothing of the machine it was written on, and every dependency explained."""

import ast
import re
import subprocess
import tempfile
import tomllib
from pathlib import Path, PurePath
from typing import Any

import pytest

import peerauth
from tests.support import needs

CHECKOUT = Path(__file__).resolve().parent.parent

# A checkout directly in one of these says nothing about a person's machine; texts may well mention them.
ANYBODYS = {"/", "/home", "/opt", "/srv", "/usr/src", "/var", tempfile.gettempdir()}
LOCK_FILES = ("*.lock", "*.lock.json", "*-lock.json", "*-lock.yaml", ".~lock.*", ".#*", "*.swp")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="module")
def dependencies(project: dict[str, Any]) -> list[str]:
    """Names of all dependencies, runtime and development."""
    table = project["project"]
    listed = [*table["dependencies"], *table["optional-dependencies"]["dev"]]
    return [re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in listed]


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """Files that are in the repository, or would be with `git add --all`."""
    git = [
        needs("git"),
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    done = subprocess.run(git, cwd=CHECKOUT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [CHECKOUT / name for name in done.stdout.decode().split("\0") if name and (CHECKOUT / name).is_file()]


def private_places() -> list[str]:
    """Return the directories whose mention would tell where this checkout was written."""
    places = {CHECKOUT, CHECKOUT.parent, Path.home()}
    return sorted(str(place) for place in places if str(place) not in ANYBODYS)


def mentions(text: str, places: list[str]) -> list[int]:
    """Return the numbers of the lines that name one of `places` or something in it."""
    pattern = re.compile("|".join(rf"(?<![\w.}}-]){re.escape(place)}(?![\w.-])" for place in places))
    return [number for number, line in enumerate(text.splitlines(), 1) if pattern.search(line)]


def is_lock_file(name: str) -> bool:
    return any(PurePath(name).match(pattern) for pattern in LOCK_FILES)


def test_no_file_names_a_place_of_the_machine_it_was_written_on(tracked: list[Path]) -> None:
    places = private_places()
    found = [
        f"{file.relative_to(CHECKOUT)}:{line}"
        for file in tracked
        for line in mentions(file.read_text("utf-8", errors="replace"), places)
    ]
    assert not found, f"{', '.join(places)} is named in\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "twin"),
    [
        ("see /somebody/checkout/x.py", "see /somebody-else/checkout/x.py"),
        ("x = '/somebody'", "x = '/var/somebody'"),
        ("file:///somebody/x", "https://example.org/somebody/x"),
    ],
)
def test_a_named_place_is_found(text: str, twin: str) -> None:
    assert mentions(f"first\n{text}\nlast", ["/somebody"]) == [2]
    assert mentions(f"first\n{twin}\nlast", ["/somebody"]) == []


def test_no_lock_file_is_tracked(tracked: list[Path]) -> None:
    assert [file.name for file in tracked if is_lock_file(file.name)] == []


@pytest.mark.parametrize(("name", "twin"), [("uv.lock", "lock.py"), ("package-lock.json", "package.json")])
def test_a_lock_file_is_found(name: str, twin: str) -> None:
    assert is_lock_file(name)
    assert not is_lock_file(twin)


def test_every_dependency_has_its_reason_in_a_decision_record(dependencies: list[str]) -> None:
    records = "\n".join(file.read_text("utf-8") for file in (CHECKOUT / "docs/decisions").glob("*.md"))
    assert [name for name in dependencies if not re.search(rf"\*\*{re.escape(name)}\*\*", records)] == []


def test_every_dependency_has_its_exact_version_in_the_constraints(dependencies: list[str]) -> None:
    exact = (CHECKOUT / "constraints.txt").read_text("utf-8").lower().replace("_", "-")
    missing = [name for name in dependencies if f"\n{name.lower().replace('_', '-')}==" not in exact]
    assert missing == []


def test_the_constraints_are_names_and_versions_alone() -> None:
    lines = (CHECKOUT / "constraints.txt").read_text("utf-8").splitlines()
    odd = [line for line in lines if not line.startswith("#") and not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    assert odd == []


def test_the_version_is_the_same_in_the_package_and_in_its_metadata(project: dict[str, Any]) -> None:
    assert project["project"]["version"] == peerauth.__version__


def test_the_package_tells_type_checkers_that_it_is_typed() -> None:
    assert (CHECKOUT / "peerauth/py.typed").is_file()


def test_every_program_a_test_needs_is_installed_by_ci() -> None:
    script = (CHECKOUT / ".ci/run").read_text("utf-8")
    asked = {
        str(program.value)
        for file in (CHECKOUT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "needs"
        and isinstance(program := node.args[0], ast.Constant)
    }
    assert "git" in asked
    made_up = {"sh", "no-such-program"}
    assert [program for program in asked - made_up if f" {program}=" not in script] == []

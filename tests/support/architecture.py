"""The rules of the house, as functions from source text to the places that break them.

Every rule takes a `Module` and yields `Violation`s; it never imports the code it reads. Why the rules are
these is in docs/decisions/0001-rooms-and-layers.md.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeAlias

# Imports point to smaller numbers. Rooms of the same number do not know each other.
LAYERS = {
    "errors": 0,
    "address": 1,
    "locks": 1,
    "rate": 1,
    "trust": 2,
    "http": 3,
    "store": 4,
    "tls": 4,
    "net": 5,
    "control": 5,
    "audit": 5,
    "services": 6,
    "server": 7,
    "client": 7,
    "doctor": 7,
    "export": 7,
    "node": 8,
    "grpc": 9,
    "__init__": 9,
    "cli": 10,
    "__main__": 11,
}
# Rooms that not everybody above them may import: nothing but a server leads to what serves whoever is in.
KNOWN_TO = {"services": {"server", "node", "cli"}}

OUTSIDE_WORLD = {
    "OpenSSL", "asyncio", "os", "pathlib", "shutil", "socket", "ssl", "subprocess", "tempfile", "time",
}  # fmt: skip
CLOCKS = {"now", "utcnow", "today"}

WRITING_FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND", "O_TRUNC", "O_TMPFILE"}
WRITING_CALLS = {
    "os.link", "os.remove", "os.rename", "os.renames", "os.replace", "os.symlink", "os.truncate", "os.unlink",
    "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree", "shutil.move", "shutil.rmtree",
    "tempfile.NamedTemporaryFile", "tempfile.mkstemp",
}  # fmt: skip
WRITING_METHODS = {"hardlink_to", "symlink_to", "touch", "unlink", "write_bytes", "write_text"}
MOVING_METHODS = {
    "rename",
    "replace",
}  # of a Path: one argument; str.replace takes two, dataclasses.replace names them

LONGEST_FILE = 350
LONGEST_FUNCTION = 70


@dataclass(frozen=True)
class Violation:
    """A line that breaks a rule; printed, an editor can jump to it."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Import:
    """One imported name, absolute: `from os import path as p` is `os.path` known as `p`."""

    line: int
    target: str
    known_as: str


class Module:
    """The source of one file; `path` is relative to the checkout (`peerauth/tls/session.py`)."""

    def __init__(self, path: str, source: str) -> None:
        self.path = path
        self.source = source
        self.nodes = tuple(ast.walk(ast.parse(source, path)))
        self.imports = tuple(self._imports())
        self._names = {found.known_as: found.target for found in self.imports}

    @property
    def room(self) -> str:
        """`tls` for `peerauth/tls/session.py`, `errors` for `peerauth/errors.py`."""
        return PurePosixPath(self.path).parts[1].removesuffix(".py")

    def violation(self, where: ast.AST | int, message: str) -> Violation:
        line = where if isinstance(where, int) else getattr(where, "lineno", 1)
        return Violation(self.path, line, message)

    def dotted(self, node: ast.expr) -> str:
        """Return `os.replace` for that, whatever name os was imported under; "" for anything but names."""
        if isinstance(node, ast.Name):
            return self._names.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            owner = self.dotted(node.value)
            return f"{owner}.{node.attr}" if owner else ""
        return ""

    def calls(self) -> Iterator[tuple[ast.Call, str, str]]:
        """Yield every call, its dotted name, and the last part of it (`unlink`, also for `f().unlink`)."""
        for node in self.nodes:
            if isinstance(node, ast.Call):
                dotted = self.dotted(node.func)
                last = node.func.attr if isinstance(node.func, ast.Attribute) else dotted
                yield node, dotted, last

    def _imports(self) -> Iterator[Import]:
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for name in node.names:
                    top = name.name.partition(".")[0]
                    yield Import(node.lineno, name.name, name.asname or top)
            elif isinstance(node, ast.ImportFrom):
                origin = self._origin(node)
                for name in node.names:
                    yield Import(node.lineno, f"{origin}.{name.name}", name.asname or name.name)
            elif isinstance(node, ast.Call) and _is_importing(node.func) and node.args:
                target = node.args[0]
                if isinstance(target, ast.Constant) and isinstance(target.value, str):
                    yield Import(node.lineno, target.value, "")

    def _origin(self, node: ast.ImportFrom) -> str:
        if node.level == 0:
            return node.module or ""
        here = PurePosixPath(self.path).with_suffix("").parts
        return ".".join([*here[: len(here) - node.level], *([node.module] if node.module else [])])


Rule: TypeAlias = Callable[[Module], Iterator[Violation]]


def imports_point_down(module: Module) -> Iterator[Violation]:
    """Imports point down the layers, and never sideways to another room of the same layer."""
    here = LAYERS.get(module.room)
    if here is None:
        yield module.violation(1, f"the room {module.room!r} stands in no layer; LAYERS lists them")
        return
    for found in module.imports:
        if found.target.partition(".")[0] != "peerauth":
            continue
        room = [*found.target.split("."), "__init__"][1]
        if room not in LAYERS:
            room = "__init__"  # peerauth itself, or a name that it offers
        if room == module.room:
            continue
        if LAYERS[room] >= here or module.room not in KNOWN_TO.get(room, LAYERS):
            yield module.violation(found.line, f"{module.room} may not import {found.target}")


def trust_is_pure(module: Module) -> Iterator[Violation]:
    """trust/ and http/ know no disk, network, TLS library or clock: bytes and `now` in, values out."""
    if module.room not in {"trust", "http"}:
        return
    for found in module.imports:
        if found.target.partition(".")[0] in OUTSIDE_WORLD:
            yield module.violation(found.line, f"{module.room} may not import {found.target}")
    for call, dotted, last in module.calls():
        if last in CLOCKS or dotted in {"time", "time.time"}:
            yield module.violation(call, f"{module.room} reads no clock ({last}); `now` is an argument")
        if dotted in {"open", "io.open"}:
            yield module.violation(call, f"{module.room} opens no file")


def openssl_stays_in_tls(module: Module) -> Iterator[Violation]:
    """Only tls/ knows pyOpenSSL and the ssl module."""
    if module.room == "tls":
        return
    for found in module.imports:
        if found.target == "ssl" and module.room == "node":
            continue  # the library hands out an ssl.SSLContext and says so in its types
        if found.target.partition(".")[0] in {"OpenSSL", "ssl"}:
            yield module.violation(found.line, f"only peerauth/tls/ may import {found.target}")


def cancellation_is_heard(module: Module) -> Iterator[Violation]:
    """asyncio.wait_for may swallow a cancellation until Python 3.12, and whoever awaits the task waits for ever."""
    for call, dotted, _ in module.calls():
        if dotted == "asyncio.wait_for":
            yield module.violation(call, "asyncio.wait_for may swallow a cancellation; use asyncio.timeout")


def only_cli_talks_and_exits(module: Module) -> Iterator[Violation]:
    """Only cli/ knows typer and rich, prints, and ends the process."""
    if module.room in {"cli", "__main__"}:
        return
    for found in module.imports:
        if found.target.partition(".")[0] in {"typer", "rich", "click"}:
            yield module.violation(found.line, f"only peerauth/cli/ may import {found.target}")
    for call, dotted, _ in module.calls():
        if dotted == "print":
            yield module.violation(call, "only peerauth/cli/ prints")
        if dotted in {"sys.exit", "exit", "quit", "SystemExit"}:
            yield module.violation(call, f"only peerauth/cli/ ends the process ({dotted})")


def only_files_py_writes(module: Module) -> Iterator[Violation]:
    """Only store/files.py writes, moves or removes files: atomic and durable is decided in one place."""
    if module.path == "peerauth/store/files.py":
        return
    for call, dotted, last in module.calls():
        if _writes(call, dotted, last):
            what = dotted or f"….{last}"
            yield module.violation(call, f"only peerauth/store/files.py writes or removes files ({what})")


def files_fit_in_the_head(module: Module) -> Iterator[Violation]:
    lines = len(module.source.splitlines())
    if lines > LONGEST_FILE:
        yield module.violation(LONGEST_FILE + 1, f"{lines} lines; the longest file has {LONGEST_FILE}")


def functions_fit_on_a_screen(module: Module) -> Iterator[Violation]:
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                yield module.violation(node, f"{node.name}: {lines} lines; the longest has {LONGEST_FUNCTION}")


def _is_importing(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in {"import_module", "__import__"}


def _writes(call: ast.Call, dotted: str, last: str) -> bool:
    if dotted in WRITING_CALLS or last in WRITING_METHODS:
        return True
    if dotted == "os.open":
        return any(isinstance(n, ast.Attribute | ast.Name) and _last(n) in WRITING_FLAGS for n in ast.walk(call))
    if last in MOVING_METHODS and isinstance(call.func, ast.Attribute):
        return len(call.args) == 1 and not call.keywords
    if dotted in {"open", "io.open", "os.fdopen"}:
        return _mode_writes(call, position=1)
    return last == "open" and _mode_writes(call, position=0)  # Path.open(mode)


def _last(node: ast.Attribute | ast.Name) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id


def _mode_writes(call: ast.Call, position: int) -> bool:
    """Say whether the mode of an open() may write; one that is not a literal may."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] or call.args[position : position + 1]
    if not given:
        return False
    mode = given[0]
    if isinstance(mode, ast.Constant) and isinstance(mode.value, str):
        return set(mode.value) <= set("rwxab+t") and not set(mode.value).isdisjoint("wax+")
    return position == 1

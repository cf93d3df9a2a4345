"""A service of files: those beneath a directory, to be read over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peerauth.errors import BadInput
from peerauth.store.files import shown
from peerauth.store.kind import Kind
from peerauth.store.schema import Table


@dataclass(frozen=True, slots=True)
class Root(Kind):
    """The files beneath a directory. The path is absolute."""

    directory: Path

    def __str__(self) -> str:
        return f"serves the files in {shown(self.directory)}"

    @property
    def leads_to(self) -> str | None:
        """The directory."""
        return str(self.directory)


def root(directory: str, relative_to: Path | None = None) -> Root:
    """The files in this directory (default: relative to the current one). Raises BadInput("bad-path")."""
    if not directory or "\0" in directory:
        raise BadInput("bad-path", "it is not the path of a directory")
    return Root(((relative_to or Path.cwd()) / directory).absolute())


def read_root(table: Table) -> Root:
    """The files of a `[[serve]]` block."""
    with table.about("root"):
        return root(table.text("root") or "", table.directory)

"""A service that is an application in Python: which one, and where it is looked for. Nothing is imported here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peerauth.errors import BadInput, printable
from peerauth.store.kind import Kind
from peerauth.store.schema import Table

Interface = Literal["auto", "asgi", "wsgi"]
_INTERFACES: tuple[Interface, ...] = ("auto", "asgi", "wsgi")
_REFERENCE = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*(?:\.[^\W\d]\w*)*)(\(\))?")


@dataclass(frozen=True, slots=True)
class App(Kind):
    """An ASGI or WSGI application. `directory` is where its module is looked for first; absolute."""

    module: str
    attribute: str
    directory: Path
    interface: Interface = "auto"
    factory: bool = False  # the attribute is called, without arguments, to make the application

    def __str__(self) -> str:
        return f"runs {self.leads_to}"

    @property
    def leads_to(self) -> str:
        """The application, as it is written: MODULE:ATTRIBUTE, with () behind it where that makes it."""
        return f"{self.module}:{self.attribute}{'()' if self.factory else ''}"


def app(reference: str, directory: Path, interface: Interface = "auto") -> App:
    """The application MODULE:ATTRIBUTE. Raises BadInput("bad-app")."""
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        text = f"'{printable(reference, 80)}' is not MODULE:ATTRIBUTE"
        raise BadInput("bad-app", text, f"for instance: {_suggested(reference)}")
    return App(found[1], found[2], directory, interface, found[3] is not None)


def read_app(table: Table) -> App:
    """The application of a `[[serve]]` block; its directory is relative to the file, and that of the file without it."""
    chosen = table.choice("interface", _INTERFACES, "auto")
    directory = table.path("app_dir", ".")
    with table.about("app"):
        return app(table.text("app") or "", directory, next(known for known in _INTERFACES if known == chosen))


def _suggested(reference: str) -> str:
    """What may have been meant by a path, or by a module alone."""
    module, _, attribute = reference.partition(":")
    dotted = re.sub(r"\W+", ".", module.removesuffix(".py")).strip(".")
    name = re.sub(r"\W+", "", attribute.partition("(")[0])
    meant = f"{dotted or 'main'}:{name or 'app'}"
    return meant if _REFERENCE.fullmatch(meant) else "main:app"

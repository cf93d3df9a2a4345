"""Passphrases and passwords: from a file, from the environment, or typed; never a word of the command line.

Where none is given and nobody can be asked, the error names the ways to give one.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from peerauth.cli.reading import read_input
from peerauth.cli.ui import Ui
from peerauth.errors import BadInput, UsageError, printable
from peerauth.store.files import shown

if TYPE_CHECKING:
    from peerauth.store.config import Config
    from peerauth.store.own import Own

T = TypeVar("T")
MAXIMUM_BYTES = 1023  # what OpenSSL's own PEM password callback takes
_TRIES = 3

PassphraseFileOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        readable=False,
        help="The passphrase is this file's first line.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a secret may come from, besides the terminal: an option, and variables of the environment."""

    what: str
    option: str
    variable: str | None = None
    file_variable: str | None = None

    def given(self, file: Path | None) -> bytes | None:
        """The secret, if an option or the environment gives it. Raises BadInput naming the file or variable."""
        if file is not None:
            return _first_line(file, self.what)
        if self.variable and (text := os.environ.get(self.variable)):
            return _checked(os.fsencode(text), f"${self.variable}", self.what)
        if self.file_variable and (name := os.environ.get(self.file_variable)):
            return _first_line(Path(name), self.what)
        return None

    def ask(self, prompt: str) -> bytes:
        """Have the secret typed on the terminal. Raises UsageError("no-terminal")."""
        if not can_ask():
            ways = [f"{self.option} FILE", *(f"${name}" for name in (self.variable, self.file_variable) if name)]
            raise UsageError(
                "no-terminal",
                f"the {self.what} is needed, and there is no terminal to ask on",
                f"give it with {' or '.join(ways)}",
            )
        try:
            return os.fsencode(getpass.getpass(prompt, stream=sys.stderr))
        except EOFError:
            raise KeyboardInterrupt from None

    def make(self, file: Path | None, prompt: str) -> bytes:
        """A new secret: given, or typed twice. Raises BadInput when it is empty or the two differ."""
        secret = self.given(file)
        if secret is not None:
            return secret
        typed = _checked(self.ask(f"{prompt}: "), "what was typed", self.what)
        if self.ask(f"{prompt}, again: ") != typed:
            raise BadInput("passphrase-differs", f"the two did not agree: no {self.what} was set, and nothing was written")
        return typed

    def unlock(self, file: Path | None, prompt: str, attempt: Callable[[bytes], T]) -> T:
        """What `attempt` makes of the secret; where it is typed, a wrong one may be typed again."""
        secret = self.given(file)
        if secret is not None:
            return attempt(secret)
        for left in reversed(range(_TRIES)):
            try:
                return attempt(self.ask(prompt))
            except BadInput as error:
                if not left or not error.code.endswith("-wrong"):
                    raise
        raise AssertionError("the last try returns or raises")


NODE_KEY = Source("passphrase", "--passphrase-file", "PEERAUTH_PASSPHRASE", "PEERAUTH_PASSPHRASE_FILE")


def load_own(ui: Ui, passphrase_file: Path | None = None) -> Own:
    """The identity of the node that lives in `ui.home`; warns when others on this machine can read the key.

    Raises BadInput (`no-config`, `no-identity`, ...) or UsageError("no-terminal").
    """
    from peerauth.store.config import load_config

    return unlocked(ui, load_config(ui.home), passphrase_file)


def unlocked(ui: Ui, config: Config, passphrase_file: Path | None = None) -> Own:
    """The identity of this node, its passphrase asked for where the key has one."""
    from peerauth.store.home import key_is_encrypted, key_is_exposed, read_identity
    from peerauth.store.own import Own

    if key_is_exposed(config):
        ui.warn(f"others on this machine can read {ui.path(config.key)}", f"chmod 600 {ui.path(config.key)}")
    if not key_is_encrypted(config):
        return Own(config, read_identity(config))

    def attempt(passphrase: bytes) -> Own:
        return Own(config, read_identity(config, passphrase), passphrase)

    return NODE_KEY.unlock(passphrase_file, f"Passphrase of {ui.path(config.key)}: ", attempt)


def can_ask() -> bool:
    """Whether a person sits at a terminal: standard error is one, and the process has a controlling one.

    Standard input need not be: an ssh ProxyCommand has a pipe there.
    """
    if not sys.stderr.isatty():
        return False
    try:
        with Path("/dev/tty").open("rb", buffering=0):
            return True
    except OSError:
        return sys.stdin.isatty()


def _first_line(file: Path, what: str) -> bytes:
    data = read_input(file, 64 << 10)
    return _checked(data.split(b"\n", 1)[0].removesuffix(b"\r"), shown(file), what)


def _checked(secret: bytes, where: str, what: str) -> bytes:
    if not secret:
        raise BadInput("passphrase-empty", f"the {what} is empty: {printable(where)}")
    if len(secret) > MAXIMUM_BYTES:
        raise BadInput("passphrase-too-long", f"the {what} is longer than {MAXIMUM_BYTES} bytes: {printable(where)}")
    return secret

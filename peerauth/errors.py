"""Everything that can go wrong, as data: a stable code, a plain message, and what to type next.

No message carries text from a peer that has not passed `printable`. The exit code belongs to the kind of trouble:
1 failed, 2 usage, 3 refused by trust, 4 could not connect.
"""

from __future__ import annotations


def printable(text: str, limit: int = 200) -> str:
    """Show text that a stranger wrote: control, format and bidirectional characters escaped, length bounded."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[:limit])
    return shown + "…" if len(text) > limit else shown


def counted(count: int, what: str) -> str:
    """`1 peer`, `2 peers`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


class PeerAuthError(Exception):
    """A trouble that a person can act on.

    `code` is stable and for programs; `message` is one plain sentence; `hint` is what to type or do next.
    `also`: what else was found to be wrong at the same time.
    """

    exit_code = 1
    also: tuple[PeerAuthError, ...] = ()

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class BadInput(PeerAuthError):
    """A file or a value that was given to us is broken; nothing was changed."""


class UsageError(PeerAuthError):
    """The command line asks for something that does not go together."""

    exit_code = 2


class TrustRefused(PeerAuthError):
    """One side does not admit the other; `side` says which ("us" or "peer")."""

    exit_code = 3

    def __init__(self, code: str, message: str, hint: str | None = None, *, side: str = "us") -> None:
        super().__init__(code, message, hint)
        self.side = side


class ConnectFailed(PeerAuthError):
    """The other side could not be reached, or the connection broke before trust was decided."""

    exit_code = 4

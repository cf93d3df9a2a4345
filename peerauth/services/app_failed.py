"""An application that cannot be served: an error of ours, with what Python said where that helps who wrote it."""

from __future__ import annotations

from typing import Any

from peerauth.errors import PeerAuthError

MOST_TRACE = 8000  # characters, of the end


class AppFailed(PeerAuthError):
    """`app-not-found`, or `app-failed`; `trace` is the traceback, or what the application said itself; empty if nothing."""

    def __init__(self, code: str, message: str, hint: str | None = None, *, trace: str = "") -> None:
        super().__init__(code, message, hint)
        self.trace = trace.strip()[-MOST_TRACE:]


def as_data(error: PeerAuthError) -> dict[str, Any]:
    """The error for another process."""
    trace = error.trace if isinstance(error, AppFailed) else ""
    return {"code": error.code, "message": error.message, "hint": error.hint, "trace": trace}


def from_data(value: object) -> PeerAuthError | None:
    """The error that another process has had; None when it is none."""
    try:
        return AppFailed(**value) if isinstance(value, dict) else None
    except TypeError:
        return None

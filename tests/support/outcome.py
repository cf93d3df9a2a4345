"""What a call came to, where both ends are right: its value, or the BadInput that it raised; anything else comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from peerauth.errors import BadInput

T = TypeVar("T")


def outcome(call: Callable[[], T]) -> T | BadInput:
    """The value, or the error as a value."""
    try:
        return call()
    except BadInput as error:
        return error

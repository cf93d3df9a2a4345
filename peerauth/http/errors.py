"""What is wrong with a request, for whoever answers it."""

from __future__ import annotations


class BadRequest(Exception):
    """A request that goes nowhere. `status` is that of the answer (RFC 9110 section 15), `reason` one plain sentence.

    The reason holds nothing that the caller sent, so that it can be said and logged as it is.
    """

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status

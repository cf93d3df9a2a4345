"""What uvicorn and applications say of requests that went wrong: bounded, for a peer can cause it as often as it likes.

It carries what peers wrote, so that it is escaped line by line, and no line of it can be taken for one of ours.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime

from peerauth.errors import printable
from peerauth.rate import Bucket
from peerauth.services.app_failed import MOST_TRACE

AT_ONCE = 20
PER_SECOND = 2.0
_LONGEST_LINE = 1000
_JUNK = "Invalid HTTP request received."  # as uvicorn has it

log = logging.getLogger("peerauth.app")


class Bounded(logging.Filter):
    """Lets so many records through, each as a text that is safe to show."""

    def __init__(self) -> None:
        super().__init__()
        self._bucket = Bucket(AT_ONCE, PER_SECOND, time.monotonic)
        self._formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """As of any filter."""
        if record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
            return False  # what was cut off at the end of the server is not its failure
        if record.msg == _JUNK:
            return False  # whoever sent it was told so
        if not self._bucket.take():
            return False
        left_out = self._bucket.left_out()
        text = record.getMessage().strip()
        if record.exc_info:
            text += "\n" + self._formatter.formatException(record.exc_info)[-MOST_TRACE:]
        if left_out:
            text += f"\n({left_out} more before this were left out)"
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        record.msg = f"{stamp} application: " + "\n    ".join(printable(line, _LONGEST_LINE) for line in text.splitlines())
        record.args = record.exc_info = record.exc_text = record.stack_info = None
        return True


def bound() -> None:
    """Bound both, once in a process, whatever an application has made of its logging meanwhile."""
    for logger in (log, logging.getLogger("uvicorn.error")):
        logger.disabled = False  # what logging.config does to loggers that it is not told of
        logger.setLevel(logging.WARNING)
        if not any(isinstance(known, Bounded) for known in logger.filters):
            logger.addFilter(Bounded())

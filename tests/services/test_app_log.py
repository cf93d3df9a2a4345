"""What goes wrong in an application is shown to its operator: whole, bounded, and with nothing that a peer can forge."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from peerauth.services import app_log
from tests.support.applications import Scope, applying, request, said, status
from tests.support.engine import Yard, on_loops

LAST = "Connection: close"


async def fails(scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    del receive, send
    if scope["type"] == "http":
        raise RuntimeError(scope["path"])


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Each test has the whole bound."""
    for name in ("uvicorn.error", "peerauth.app"):
        logging.getLogger(name).filters.clear()


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    made = Yard(tmp_path / "peers")
    made.pin("alice")
    return made


@on_loops("uvloop")
async def test_a_failure_is_shown_whole_and_forges_no_line(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    async with applying(yard, fails) as node:
        target = "/no%20%1b[2J%0a2026-01-01T00:00:00Z%20admitted:%20eve"
        data, _ = await said(node, request(target, LAST))
        assert status(data) == 500
        assert b"RuntimeError" not in data
    (record,) = caplog.records
    text = record.getMessage()
    assert "Traceback" in text
    assert "raise RuntimeError(scope[" in text
    assert "\\x1b[2J" in text
    first, *more = text.split("\n")
    assert first.endswith(" application: Exception in ASGI application")
    assert all(line.startswith("    ") for line in more)
    assert all(line.isprintable() for line in more)


@on_loops("uvloop")
async def test_failures_are_bounded_and_what_is_left_out_is_counted(
    yard: Yard, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("peerauth.services.app_log.time.monotonic", lambda: now)
    async with applying(yard, fails) as node:
        for _ in range(app_log.AT_ONCE + 7):
            await said(node, request("/", LAST))
        assert len(caplog.records) == app_log.AT_ONCE
        now = 1.0
        await said(node, request("/", LAST))
    assert "(7 more before this were left out)" in caplog.records[-1].getMessage()


def test_a_configuration_of_logging_does_not_silence_it(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("uvicorn.error").disabled = True  # as logging.config does to loggers that it is not told of
    app_log.bound()
    logging.getLogger("uvicorn.error").error("it is %s", "heard")
    assert "it is heard" in caplog.text
    assert len(logging.getLogger("uvicorn.error").filters) == 1
    app_log.bound()
    assert len(logging.getLogger("uvicorn.error").filters) == 1

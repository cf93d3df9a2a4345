"""An application starts before it is served, says why it cannot, and ends in bounded time; some know nothing of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from peerauth.services.app_failed import AppFailed
from peerauth.services.lifespan import Lifespan
from tests.support.engine import on_loops

Steps = list[str]
Step = Callable[[Steps, Any, Any], Awaitable[None]]


async def complete(steps: Steps, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    for what in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{what}"
        steps.append(what)
        await send({"type": f"lifespan.{what}.complete"})


async def says_no(steps: Steps, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    await receive()
    steps.append("startup")
    await send({"type": "lifespan.startup.failed", "message": "Traceback ...\nConnectionError: no \x1b[2Jdatabase\n"})


async def leaves(steps: Steps, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    del receive, send
    steps.append("startup")
    raise SystemExit(3)


async def unsupported(steps: Steps, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    del steps, receive, send
    raise TypeError("only http")


async def surprised(steps: Steps, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    del send
    steps.append((await receive())["body"])


async def returns(steps: Steps, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    del steps, receive, send


async def breaks_later(steps: Steps, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    await receive()
    await send({"type": "lifespan.startup.complete"})
    steps.append("startup")
    raise RuntimeError("while it served")


async def hangs(steps: Steps, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    steps.append("shutdown")
    await asyncio.Event().wait()


def lifespan(step: Step) -> tuple[Lifespan, Steps]:
    steps: Steps = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        assert scope["type"] == "lifespan"
        await step(steps, receive, send)

    return Lifespan(app, "main:app"), steps


@on_loops()
async def test_an_application_is_told_when_it_starts_and_when_it_ends() -> None:
    made, steps = lifespan(complete)
    await made.start()
    assert steps == ["startup"]
    await made.stop(5)
    await made.stop(5)  # a second signal
    assert steps == ["startup", "shutdown"]


@on_loops()
async def test_one_that_says_that_it_cannot_start_is_not_served() -> None:
    for step, message, trace in (
        (says_no, "failed to start: ConnectionError: no \\x1b[2Jdatabase", "Traceback ..."),
        (leaves, "failed to start: SystemExit: 3", "SystemExit: 3"),
    ):
        made, _ = lifespan(step)
        with pytest.raises(AppFailed) as caught:
            await made.start()
        assert caught.value.code == "app-failed"
        assert message in caught.value.message
        assert caught.value.trace.startswith(trace)


@pytest.mark.parametrize("step", [unsupported, returns])
@on_loops("uvloop")
async def test_one_that_knows_no_lifespan_is_served(step: Step, caplog: pytest.LogCaptureFixture) -> None:
    made, _ = lifespan(step)
    await made.start()
    await made.stop(5)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (surprised, "is served although its startup raised"),
        (breaks_later, "failed in its lifespan"),
        (hangs, "was not done with its shutdown after 0.1 s"),
    ],
)
@on_loops("uvloop")
async def test_what_goes_wrong_and_does_not_keep_it_from_being_served_is_said(
    step: Step, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    made, _ = lifespan(step)
    await made.start()
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await made.stop(0.1)
    assert [said in record.message for record in caplog.records] == [True]
    assert caplog.records[0].levelno >= logging.WARNING


@on_loops()
async def test_a_start_that_is_given_up_leaves_nothing_running() -> None:
    entered = asyncio.Event()

    async def slow(scope: object, receive: object, send: object) -> None:
        del scope, receive, send
        entered.set()
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    starting = asyncio.create_task(Lifespan(slow, "main:app").start())
    await entered.wait()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert starting.cancelled()
    assert asyncio.all_tasks() == before

"""The lifespan of an ASGI application: told when it is to start, and when it is to end.

https://asgi.readthedocs.io/en/latest/specs/lifespan.html. An application that raises where it is asked knows no lifespan,
and is served all the same; one that says that its startup failed is not served.

An application runs once in a loop, however many doors lead to it. Otherwise one that has started for a new door would be
told to end when the old one is left, and serve on without what its shutdown has closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from peerauth.errors import printable
from peerauth.services.app_failed import AppFailed
from peerauth.services.app_log import log

Application = Callable[..., Any]  # (scope, receive, send) -> awaitable, as ASGI 3 has it
_running: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, Lifespan]] = WeakKeyDictionary()  # by id of what runs


def lifespan_of(app: Application, name: str) -> Lifespan:
    """The one of this application in the running loop, begun already or not."""
    known = _running.setdefault(asyncio.get_running_loop(), {})
    return known.setdefault(id(app), Lifespan(app, name))


class Lifespan:
    """One application's. `state` is what it wants to have in the scope of every request.

    Whoever serves it starts it and stops it; the first start and the last stop are the application's.
    """

    def __init__(self, app: Application, name: str) -> None:
        self._app = app
        self._name = name
        self._users = 0
        self.state: dict[str, Any] = {}
        self._told: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._started = asyncio.Event()
        self._ended = asyncio.Event()
        self._failed: str | None = None  # what it said when it failed to start
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Have it start. Raises AppFailed("app-failed") when it says that it cannot."""
        self._users += 1
        if self._users > 1:
            return
        self._running = asyncio.create_task(self._run())
        self._told.put_nowait({"type": "lifespan.startup"})
        try:
            await self._started.wait()
        except asyncio.CancelledError:
            await self._leave()
            raise
        if self._failed is not None:
            await self._leave()
            said = self._failed.strip().splitlines()
            why = f": {printable(said[-1])}" if said else ""
            raise AppFailed("app-failed", f"the application {self._name} failed to start{why}", trace=self._failed)

    async def stop(self, seconds: float) -> None:
        """Have it end, in so many seconds at most, if nobody else serves it."""
        self._users -= 1
        if self._users > 0:
            return
        self._forget()
        if self._running is None or self._running.done():
            return
        self._told.put_nowait({"type": "lifespan.shutdown"})
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            log.error("%s was not done with its shutdown after %g s", self._name, seconds)
        await self._leave()

    def _forget(self) -> None:
        known = _running.get(asyncio.get_running_loop(), {})
        if known.get(id(self._app)) is self:
            del known[id(self._app)]

    async def _leave(self) -> None:
        self._forget()
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running], timeout=1)

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        asked = False

        async def receive() -> dict[str, str]:
            nonlocal asked
            asked = True
            return await self._told.get()

        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._app(scope, receive, self._hear)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever an application raises is its own trouble
            if self._failed is not None:
                return  # it has said so itself
            if isinstance(error, SystemExit) and not self._started.is_set():
                self._failed = f"SystemExit: {error}"
            elif self._started.is_set():
                log.exception("%s failed in its lifespan", self._name)
            elif asked:  # it may have meant to start, or it knows nothing of lifespans: the standard has it served
                log.warning("%s is served although its startup raised an exception", self._name, exc_info=error)
        finally:
            self._started.set()
            self._ended.set()

    async def _hear(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._started.set()
            case "lifespan.startup.failed":
                self._failed = str(message.get("message", ""))
                self._started.set()
            case "lifespan.shutdown.complete":
                self._ended.set()
            case "lifespan.shutdown.failed":
                log.error("%s failed to shut down: %s", self._name, message.get("message", ""))
                self._ended.set()
            case other:
                raise RuntimeError(f"no lifespan has a message {other!r}")

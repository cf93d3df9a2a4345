"""Getting ready can take as long as an application likes, and whoever waits for it can always be told to end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def unless_told(work: Coroutine[Any, Any, None], told: asyncio.Queue[T]) -> T | None:
    """Do this to its end, and return None; or give it up when something is told, and return that."""
    working, hearing = asyncio.ensure_future(work), asyncio.ensure_future(told.get())
    try:
        await asyncio.wait({working, hearing}, return_when=asyncio.FIRST_COMPLETED)
        if hearing.done():
            return hearing.result()
        working.result()
        return None
    finally:
        working.cancel()
        hearing.cancel()
        await asyncio.gather(working, hearing, return_exceptions=True)

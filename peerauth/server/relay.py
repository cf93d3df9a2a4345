"""A TCP service: an admitted peer's connection joined to a target in the clear."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from peerauth.address import Address
from peerauth.net.reach import connect_plain
from peerauth.net.splice import Front, Side


def relay_handler(target: Address, failed: Callable[[OSError], None]) -> Callable[[object], Front]:
    """The handler of a service that leads to `target`; `failed` is told when that cannot be reached."""

    async def reach(side: Side) -> None:
        try:
            await connect_plain(target, side)
        except OSError as error:  # TimeoutError is one
            failed(error)
            raise

    def protocol(_: object) -> Front:
        return Front(lambda side: asyncio.get_running_loop().create_task(reach(side)))

    return protocol

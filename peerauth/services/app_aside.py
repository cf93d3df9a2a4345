"""An application imported while others are served: in a thread of its own, and waited for only so long.

Python cannot end a thread. One whose import hangs goes on hanging until the process ends, and nobody waits for it then. It
is the only one: whoever asks for the same application again waits for that import, and not for a second beside it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Final

from peerauth.services.app_failed import AppFailed
from peerauth.services.app_loading import load
from peerauth.services.lifespan import Application
from peerauth.store.kind_app import App

PATIENCE: Final = 20.0  # seconds; less than the parent of several workers has with them
_Import = concurrent.futures.Future[Application]
_under_way: dict[App, _Import] = {}


async def load_aside(kind: App) -> Application:
    """The application, as ASGI. Raises AppFailed, also when the import is not done in time."""
    wanted = _under_way.get(kind) or _begin(kind)
    try:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.shield(asyncio.wrap_future(wanted))
    except TimeoutError:
        text = f"the import of {kind.leads_to} was not done in {PATIENCE:g} s; it goes on in a thread, which nothing can end"
        hint = "when it is done, SIGHUP takes it as it is; to have it begun anew, stop the program and start it again"
        raise AppFailed("app-failed", text, hint) from None


def _begin(kind: App) -> _Import:
    wanted = _under_way[kind] = _Import()

    def work() -> None:
        try:
            found = load(kind)
        except BaseException as error:  # noqa: BLE001 - whoever waits has to hear of it
            del _under_way[kind]
            wanted.set_exception(error)
        else:
            del _under_way[kind]
            wanted.set_result(found)

    threading.Thread(target=work, name=f"import of {kind.leads_to}", daemon=True).start()
    return wanted

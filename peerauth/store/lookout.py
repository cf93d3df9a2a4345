"""A peers directory, followed in a thread, for programs whose loops and threads are not ours.

The thread begins with the first that wants to hear of changes, in the process where it wants to (a fork has no threads), and
ends when nobody is left who does, or with the process. Nobody is kept alive by it.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from weakref import WeakMethod

from peerauth.locks import ForkLock
from peerauth.store.peerfiles import PeerFiles

if TYPE_CHECKING:
    from peerauth.store.notifier import Notifier

LOOK: Final = 2.0  # seconds; the directory is looked at so often, and times are, whether or not the system tells of a change
LOOK_BLIND: Final = 0.2  # the same where it cannot tell
_REST: Final = 20  # times what a look took, until the next that nobody has asked for

_log = logging.getLogger("peerauth")


class Lookout:
    """Calls whoever wants to hear of it when the peers may have changed, and now and then, in a thread of its own."""

    def __init__(self, directory: PeerFiles) -> None:
        self._directory = directory
        self._heard_by: set[WeakMethod[Callable[[], object]]] = set()
        self._lock = ForkLock()
        self._process = 0  # in which the thread is
        self._notifier: Notifier | None = None
        self._stopped = False

    def tell(self, review: Callable[[], object]) -> None:
        """Have this method called. Safe in any thread; quick where it is known already."""
        heard_by = WeakMethod(review)
        if self._process == os.getpid() and heard_by in self._heard_by:
            return
        # It takes 10 ms, and many need none; in the thread, a fork at that moment could never import it (importlib's locks).
        import peerauth.store.notifier  # noqa: F401, PLC0415

        with self._lock:
            self._heard_by.add(heard_by)
            if self._process != os.getpid():
                self._process, self._stopped = os.getpid(), False
                thread = threading.Thread(target=self._follow, name="peerauth-lookout", daemon=True)
                atexit.register(self._stop, thread)
                thread.start()

    def _stop(self, thread: threading.Thread) -> None:
        """Python must not end while the thread is in code that is not Python's."""
        self._stopped = True
        if self._process == os.getpid():
            if self._notifier is not None:
                self._notifier.stop()
            thread.join(1.0)

    def _follow(self) -> None:
        from peerauth.store.notifier import Notifier, identities  # noqa: PLC0415 - as in `tell`

        while not self._stopped:
            places = identities(self._directory)
            self._notifier = notifier = Notifier(self._directory, places)
            try:
                while not self._stopped:
                    began = time.monotonic()
                    self._directory.refresh()
                    if not self._call():
                        return
                    if notifier.broken or identities(self._directory) != places:  # or a link leads elsewhere
                        break
                    cost = time.monotonic() - began
                    notifier.wait(max(LOOK_BLIND if notifier.blind else LOOK, _REST * cost))
            except Exception:  # noqa: BLE001 - whoever no longer hears of removals must not just go on
                _log.exception("following the peers failed and begins anew")
                time.sleep(LOOK_BLIND)
            finally:
                notifier.stop()

    def _call(self) -> bool:
        """Whether there is still anybody to be called."""
        for heard_by in list(self._heard_by):
            review = heard_by()
            if review is not None:
                try:
                    review()
                except Exception:  # noqa: BLE001 - others are still to hear of it
                    _log.exception("a change of the peers could not be followed")
        with self._lock:
            self._heard_by = {heard_by for heard_by in self._heard_by if heard_by() is not None}
            if not self._heard_by:
                self._process = 0  # whoever comes next begins another
                atexit.unregister(self._stop)
            return bool(self._heard_by)

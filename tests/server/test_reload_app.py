"""An application that comes with a changed config.toml: whoever is served meanwhile does not notice."""

from __future__ import annotations

import signal
import time

from tests.server.test_reload import Node, several, up
from tests.support.applications import heard, request, status
from tests.support.engine import Caller
from tests.support.workers import Home, ping, with_patch

SLOW = """
import os, pathlib, threading, time
here, began = pathlib.Path(__file__).parent, time.monotonic()
with open(here / "begun", "a") as begun:
    begun.write(f"{os.getpid()}\\n")
threading.Thread(target=time.sleep, args=(60,)).start()
while not (here / "go").exists() and time.monotonic() - began < 60:
    time.sleep(0.01)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})

async def never(scope, receive, send):
    await receive()
    await receive()

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""


class Slow:
    """An application in a file whose import ends when `go` is there."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.place = node.home.home.parent / "applications"
        self.place.mkdir()
        (self.place / "slow.py").write_text(SLOW)

    def service(self, attribute: str = "app") -> str:
        """The block of config.toml."""
        listen = f'name = "two"\nlisten = "127.0.0.1:{self.node.ports["two"]}"'
        return f'[[serve]]\n{listen}\napp = "slow:{attribute}"\napp_dir = "{self.place}"\n'

    @property
    def begun(self) -> list[str]:
        """The processes that have begun to import it, each as often as it did."""
        path = self.place / "begun"
        return path.read_text().split() if path.exists() else []

    def go(self) -> None:
        """Let imports end."""
        (self.place / "go").touch()

    def answers(self, caller: Caller) -> bool:
        """Whether it serves."""
        with caller.open(self.node.ports["two"]) as tls:
            tls.sendall(request())
            return status(heard(tls)) == 200


@several
def test_relays_go_on_while_an_application_is_imported(home: Home, workers: int) -> None:
    caller = Caller(home.pin("alice"))
    with up(home, workers, "one") as node:
        slow = Slow(node)
        open_before = [node.call(caller, "one") for _ in range(4 * workers)]
        node.write(node.service("one"), slow.service())
        node.serving.send(signal.SIGHUP)
        node.serving.until(lambda: len(set(slow.begun)) == workers)
        longest = 0.0
        for tls in open_before * 5:
            began = time.monotonic()
            ping(tls)
            longest = max(longest, time.monotonic() - began)
        for _ in range(4):
            node.call(caller, "one").close()
        assert longest < 0.5
        assert node.serving.told("reloaded") == []
        slow.go()
        assert node.serving.hears("reloaded")["message"].endswith("1 new, 1 as before")
        assert slow.answers(caller)
        node.write(node.service("one"), slow.service("wsgi"))
        node.reload()
        assert slow.answers(caller)
        for tls in open_before:
            ping(tls)
            tls.close()


@several
def test_import_that_hangs_is_waited_for_a_while_and_begun_once(home: Home, workers: int) -> None:
    caller = Caller(home.pin("alice"))
    patience = "import peerauth.services.app_aside as a; a.PATIENCE = 0.3"
    with up(home, workers, "one", program=with_patch(patience)) as node, node.call(caller, "one") as tls:
        slow = Slow(node)
        node.write(node.service("one"), slow.service())
        for _ in range(2):
            said = node.reload("problem", code="app-failed")
            assert "the import of slow:app was not done in 0.3 s; it goes on in a thread" in said
            ping(tls)
            node.serving.until(lambda: node.is_shut("two"))
        assert len(slow.begun) == len(set(slow.begun)), "each process once"
        slow.go()
        assert node.reload().endswith("1 new, 1 as before")
        assert slow.answers(caller)
        ping(tls)


@several
def test_import_that_hangs_does_not_keep_us_from_ending(home: Home, workers: int) -> None:
    """Nor do the threads that it has started."""
    home.pin("alice")
    patience = "import peerauth.services.app_aside as a; a.PATIENCE = 0.3"
    with up(home, workers, "one", program=with_patch(patience)) as node:
        node.write(Slow(node).service())
        node.reload("problem", code="app-failed")
        node.serving.send(signal.SIGTERM)
        assert node.serving.wait() == 0


@several
def test_startup_that_never_ends_is_not_waited_for_for_ever(home: Home, workers: int) -> None:
    caller = Caller(home.pin("alice"))
    patience = "import peerauth.server.site as s; s.PATIENCE = 0.5; import peerauth.server.reloading as r; r.PATIENCE = 0.5"
    with up(home, workers, "one", program=with_patch(patience)) as node, node.call(caller, "one") as tls:
        slow = Slow(node)
        slow.go()
        node.write(node.service("one"), slow.service("never"))
        assert "did not get ready in 0.5 s" in node.reload("problem", code="not-prepared")
        ping(tls)
        node.write(node.service("one"), node.service("three"))
        node.reload()
        node.call(caller, "three").close()
        ping(tls)


@several
def test_what_serves_http_is_loaded_aside_too(home: Home, workers: int) -> None:
    """A tenth of a second that nobody who is served waits for."""
    home.pin("alice")
    patch = """
import os, sys, threading
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in {"uvicorn", "httptools"} and threading.current_thread() is threading.main_thread():
            os._exit(9)
sys.meta_path.insert(0, Watch())
"""
    with up(home, workers, "one", program=with_patch(patch)) as node:
        at = f'listen = "127.0.0.1:{node.ports["two"]}"'
        node.write(node.service("one"), f'[[serve]]\nname = "two"\n{at}\n')
        node.reload()
        node.write(node.service("one"), f'[[serve]]\nname = "two"\n{at}\nhttp = "http://{node.where}"\n')
        node.reload()
        node.write(node.service("one"), f'[[serve]]\nname = "two"\n{at}\nroot = "{Slow(node).place}"\n')
        node.reload()
        assert node.serving.told("worker-ended") == []

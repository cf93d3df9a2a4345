"""Applications under `serve`, as processes: loaded in each worker, with one error where it cannot be, and ended in order."""

from __future__ import annotations

import asyncio
import signal
import ssl
from pathlib import Path

import pytest

from peerauth.server.unless_told import unless_told
from tests.cli.running import Result, process
from tests.support.applications import heard, request, status, until_the_end
from tests.support.engine import Caller, identity, on_loops
from tests.support.workers import Home, serving

SOURCE = """
import asyncio, os, pathlib, threading
notes = pathlib.Path(__file__).with_name("notes")
main = threading.current_thread() is threading.main_thread()

def note(what):
    with notes.open("a") as file:
        file.write(f"{what} {os.getpid()}\\n")

note(f"imported {main}")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        note("started")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        note("stopped")
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = f"{scope['state']['peer'].name} {os.getpid()}".encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    await send({"type": "http.response.body", "body": body})

async def never(scope, receive, send):
    note("waiting")
    await asyncio.Event().wait()

async def refuses(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "Traceback of\\nOSError: no database"})

def stuck(environ, start_response):
    note("stuck")
    threading.Event().wait()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.pin("alice")
    (made.home / "orders.py").write_text(SOURCE)
    return made


def block(home: Home, app: str, **limits: int) -> None:
    lines = "".join(f"{key} = {value}\n" for key, value in limits.items())
    home.configure(f'[[serve]]\nlisten = "127.0.0.1:0"\napp = "orders:{app}"\n[limits]\n{lines}')


def notes(home: Home, what: str) -> list[int]:
    """The processes that have noted this."""
    path = home.home / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [int(line.rpartition(" ")[2]) for line in lines if line.startswith(what)]


def ask(tls: ssl.SSLSocket, path: str = "/") -> str:
    tls.sendall(request(path))
    data = heard(tls)
    assert status(data) == 200
    return data.partition(b"\r\n\r\n")[2].decode()


def test_each_worker_has_its_own_application_which_is_asked_about_its_peer(home: Home) -> None:
    with serving(home, "--app", "orders:app", "--app-dir", str(home.home), relay=False) as node:
        pids = [node.pid(1), node.pid(2)]
        assert sorted(notes(home, "imported True")) == sorted(pids)
        assert sorted(notes(home, "started")) == sorted(pids)
        assert node.process.pid not in notes(home, "imported")
        seen = set()
        caller = Caller(identity("alice"))
        for _ in range(60):
            with caller.open(node.port) as tls:
                name, pid = ask(tls).split()
                assert name == "alice"
                seen.add(int(pid))
            if len(seen) == 2:
                break
        assert seen == set(pids)
        with caller.open(node.port) as idle, caller.open(node.port) as slow:
            ask(idle)
            slow.sendall(request("/slow"))
            assert slow.recv(1) == b"H"
            node.send(signal.SIGTERM)
            assert until_the_end(idle) == (b"", "goodbye")
            data, end = until_the_end(slow)
            assert (int(data.rpartition(b" ")[2]) in pids, end) == (True, "goodbye")
        assert node.wait() == 0
        assert sorted(notes(home, "stopped")) == sorted(pids)


def serve(home: Home, *words: str) -> Result:
    return process("serve", "--home", home.home, *words)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_keeps_an_application_from_being_served_is_said_once(home: Home, workers: int) -> None:
    block(home, "refuses", workers=workers)
    done = serve(home)
    assert done.code == 1
    assert done.err.splitlines() == [
        "Traceback of",
        "OSError: no database",
        "error: the application orders:refuses failed to start: OSError: no database",
    ]
    (home.home / "orders.py").write_text("import json\n1 / 0\n")
    done = serve(home, "--json")
    assert done.code == 1
    assert done.json["error"]["code"] == "app-failed"
    assert done.err.count("error:") == 1
    assert "Traceback (most recent call last)" in done.err
    assert "ZeroDivisionError: division by zero" in done.err


@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGTERM), (2, signal.SIGINT)])
def test_a_start_that_takes_long_can_be_interrupted(home: Home, workers: int, number: signal.Signals) -> None:
    with serving(home, "--app", "orders:never", "--app-dir", str(home.home), relay=False, workers=workers) as node:
        node.until(lambda: len(notes(home, "waiting")) == workers)
        node.send(number)
        assert node.wait() == 0
        assert not node.told("listening")
        assert node.errors == ""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_thread_of_an_application_that_hangs_holds_nobody_up(home: Home, workers: int) -> None:
    options = ("--app", "orders:stuck", "--app-dir", str(home.home))
    with (
        serving(home, *options, relay=False, workers=workers) as node,
        Caller(identity("alice")).open(node.port) as tls,
    ):
        tls.sendall(request())
        node.until(lambda: len(notes(home, "stuck")) == 1)
        node.send(signal.SIGINT)
        assert node.wait() == 0


def test_on_the_command_line_the_module_is_looked_for_where_one_is(home: Home, tmp_path: Path) -> None:
    """And in config.toml below the home: the same node from the same directory, twice."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "orders.py").write_text("typed = True\n")
    (home.home / "orders.py").write_text("configured = True\n")
    options = ("--app", "orders:app", "--listen", "127.0.0.1:0")
    done = process("serve", "--home", home.home, *options, cwd=code)
    assert f"orders ({code}/orders.py) has no 'app'" in done.err
    done = process("serve", "--home", home.home, *options, "--app-dir", "../home", cwd=code)
    assert "home/orders.py) has no 'app'" in done.err
    block(home, "app")
    done = process("serve", "--home", home.home, cwd=code)
    assert f"orders ({home.home}/orders.py) has no 'app'" in done.err


@on_loops()
async def test_work_that_is_done_is_done_and_what_was_told_meanwhile_is_kept() -> None:
    told: asyncio.Queue[str] = asyncio.Queue()

    async def quick() -> None:
        await asyncio.sleep(0)

    async def broken() -> None:
        raise ValueError("broken")

    async def endless() -> None:
        await asyncio.Event().wait()

    assert await unless_told(quick(), told) is None
    with pytest.raises(ValueError, match="broken"):
        await unless_told(broken(), told)
    told.put_nowait("end")
    assert await unless_told(endless(), told) == "end"
    assert told.empty()

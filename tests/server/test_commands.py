"""`serve -- COMMAND`: a command that starts with the server and ends with it, however that ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from peerauth.errors import PeerAuthError
from peerauth.server.commands import Commands
from peerauth.store.config import Service, parse_config
from peerauth.store.kinds import Command, Http, run
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, hear_line, identity
from tests.support.workers import Home, is_alive, serving, with_patch

BACKEND = str(Path(__file__).parents[1] / "support/backend.py")
BOTH = pytest.mark.parametrize("workers", [1, 2])
QUICK = "import peerauth.server.keeper as k; k.GRACE_S = 0.5; import peerauth.server.commands as c; c.START_S = 1.0"


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A node's home in which alice is pinned, and whose path is short."""
    made = Home(tmp_path_factory.mktemp("c"))
    made.pin("alice")
    return made


def backend(home: Home, *words: str, workers: int = 1, **how: Any) -> Any:  # noqa: ANN401 - as serving
    """A server in front of tests/support/backend.py, which is given these words."""
    return serving(home, "--speaks", "tcp", "--", sys.executable, BACKEND, *words, workers=workers, relay=False, **how)


def ask(tls: ssl.SSLSocket) -> dict[str, Any]:
    """What the command says about itself."""
    tls.sendall(b"?\n")
    said: dict[str, Any] = json.loads(hear_line(tls))
    return said


def until(true: Callable[[], bool]) -> None:
    """Wait until this is true of some process, of which nobody tells us."""
    give_up = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def leftovers(home: Home) -> list[Path]:
    """Directories of commands in state/."""
    return list((home.home / "state").glob("*.command"))


@contextlib.contextmanager
def caller(port: int) -> Iterator[ssl.SSLSocket]:
    """alice, connected."""
    with contextlib.closing(Caller(identity("alice")).open(port)) as tls:
        yield tls


def asked(port: int) -> dict[str, Any]:
    """What the command says to alice."""
    with caller(port) as tls:
        return ask(tls)


@BOTH
def test_command_is_started_once_serves_and_is_ended_with_us(home: Home, workers: int) -> None:
    words = ("child", "{backend}", "unix:{backend}")
    with backend(home, *words, workers=workers, program=with_patch(QUICK)) as node:
        said = [asked(node.port) for _ in range(4)]
        started = node.told("command-started")
        directory = Path(said[0]["variables"]["PEERAUTH_BACKEND"]).parent
        assert leftovers(home) == [directory]
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        node.send(signal.SIGTERM)
        assert node.wait() == 0
    assert len(started) == 1
    assert {one["pid"] for one in said} == {started[0]["pid"]}, "one command, whoever of the workers was asked"
    path = str(directory / "backend.sock")
    assert said[0]["words"] == ["child", path, f"unix:{path}"]
    assert said[0]["variables"] == {"PEERAUTH_BACKEND": path}
    assert not is_alive(said[0]["pid"])
    assert not is_alive(said[0]["child"]), "what it has started, and what is deaf to SIGTERM, has ended, too"
    assert leftovers(home) == []


def test_command_gets_nothing_of_ours(home: Home) -> None:
    """Neither the passphrase nor a descriptor; its output is no data of ours, and there is no input."""
    names = ("PEERAUTH_PASSPHRASE", "PEERAUTH_INVITE", "PEERAUTH_WHATEVER", "PEERAUTH_HOME")
    patched = f"import os; os.environ.update(dict.fromkeys({names}, 'something'))"
    with backend(home, program=with_patch(patched)) as node:
        said = asked(node.port)
        assert "on standard output" in node.errors
        errors = node._errors
    assert said["variables"].keys() == {"PEERAUTH_BACKEND", "PEERAUTH_HOME"}
    assert said["group"], "it has a process group of its own"
    assert said["files"] == ["/dev/null", str(errors), str(errors)]
    more = [number for number in said["descriptors"] if int(number) > 2]
    assert len(more) <= 3, "its own: a listener, a connection, and the directory that it looks at"
    assert not any(event.get("event") is None for event in node.events)


@BOTH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_connections_end_before_the_command_that_they_lead_to(home: Home, workers: int, number: signal.Signals) -> None:
    with backend(home, workers=workers) as node:
        with caller(node.port) as tls:
            pid = ask(tls)["pid"]
            node.send(number)
            if number is signal.SIGTERM:
                node.until(lambda: not listens(node.port))
                assert ask(tls)["pid"] == pid, "while connections have time to end, it goes on serving"
        assert node.wait() == 0
    assert not is_alive(pid)


@BOTH
def test_command_that_was_told_to_stop_as_well_ends_nobodys_time(home: Home, workers: int) -> None:
    """As systemd does it, which tells every process of a unit."""
    with backend(home, workers=workers, limits="drain = 1") as node:
        with caller(node.port) as tls:
            pid = ask(tls)["pid"]
            node.send(signal.SIGTERM)
            node.until(lambda: not listens(node.port))
            os.kill(pid, signal.SIGTERM)
        assert node.wait() == 0
    assert node.told("command-ended") == []


def test_one_command_behind_several_doors(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "second.sock"
    with serving(
        home, "--listen", f"unix:{path}", "--speaks", "tcp", "--", sys.executable, BACKEND, workers=1, relay=False, read=True
    ) as node:
        node.hears("listening", times=2)
        (started,) = node.told("command-started")
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(DEADLINE_S)
            plain.connect(str(path))
            with Caller(identity("alice")).context.wrap_socket(plain, server_hostname="node") as tls:
                assert ask(tls)["pid"] == started["pid"]
        assert asked(node.port)["pid"] == started["pid"]


def listens(port: int) -> bool:
    """Whether anybody accepts there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@BOTH
def test_command_ends_although_we_are_killed(home: Home, workers: int) -> None:
    with backend(home, "deaf", "child", workers=workers, program=with_patch(QUICK)) as node:
        said = asked(node.port)
        node.process.kill()
        node.wait()
        until(lambda: not is_alive(said["pid"]) and not is_alive(said["child"]))
        until(lambda: leftovers(home) == [])


def test_deaf_command_is_killed_after_a_grace(home: Home) -> None:
    with backend(home, "deaf", program=with_patch(QUICK)) as node:
        pid = asked(node.port)["pid"]
        began = time.monotonic()
        node.send(signal.SIGINT)
        assert node.wait() == 0
        assert 0.5 <= time.monotonic() - began < 10
    assert not is_alive(pid)


@BOTH
@pytest.mark.parametrize(("end", "code", "text"), [("kill", 137, "by signal 9 (SIGKILL)"), ("end", 0, "with exit code 0")])
def test_command_that_ends_by_itself_ends_us_with_its_code(home: Home, workers: int, end: str, code: int, text: str) -> None:
    with backend(home, workers=workers, limits="drain = 0.2") as node, caller(node.port) as tls:
        pid = ask(tls)["pid"]
        if end == "kill":
            os.kill(pid, signal.SIGKILL)
        else:
            tls.sendall(b"end\n")
        said = node.hears("command-ended")
        assert node.wait() == code
    assert said["message"] == f"{Path(sys.executable).name} (process {pid}) ended {text}, and serve ends with it"
    assert (said["service"], said["pid"]) == ("command", pid)
    assert leftovers(home) == []


def test_command_that_ends_before_it_serves(home: Home) -> None:
    with backend(home, "exit=3") as node:
        assert node.wait() == 1
    assert node.told("listening") == []
    assert "ended with exit code 3 before it served" in node.errors
    assert "$PEERAUTH_BACKEND" in node.errors
    assert leftovers(home) == []


@BOTH
def test_told_to_stop_before_the_command_serves(home: Home, workers: int) -> None:
    with backend(home, "never", workers=workers) as node:
        pid = node.hears("command-started")["pid"]
        node.send(signal.SIGINT if workers == 1 else signal.SIGTERM)
        assert node.wait() == (130 if workers == 1 else -signal.SIGTERM)
        until(lambda: not is_alive(pid) and leftovers(home) == [])


def test_ctrl_c_once_more_does_not_wait_for_a_deaf_command(home: Home) -> None:
    patient = "import peerauth.server.keeper as k; k.GRACE_S = 30.0"
    with backend(home, "deaf", program=with_patch(patient)) as node:
        pid = asked(node.port)["pid"]
        began = time.monotonic()
        while node.process.poll() is None:
            node.send(signal.SIGINT)
            time.sleep(0.05)
        assert time.monotonic() - began < 20, "it gets 30 seconds otherwise"
        assert node.wait() in {0, 130, -signal.SIGINT}, "the last one may find Python on its way out"
        until(lambda: not is_alive(pid))


def test_command_ends_with_us_although_its_keeper_was_killed(home: Home) -> None:
    with backend(home) as node:
        pid = asked(node.port)["pid"]
        children = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text().split()
        (keeper,) = [int(child) for child in children if int(child) != pid]
        os.kill(keeper, signal.SIGKILL)
        until(lambda: not is_alive(keeper))
        node.send(signal.SIGTERM)
        assert node.wait() == 0
    assert not is_alive(pid)
    assert leftovers(home) == []


def test_command_without_a_socket_is_not_waited_for_for_ever(home: Home) -> None:
    with backend(home, "never", program=with_patch(QUICK)) as node:
        pid = node.hears("command-started")["pid"]
        assert node.wait() == 1
    assert "has made no socket within 1 s" in node.errors
    assert not is_alive(pid)


def test_nobody_is_let_in_before_the_command_serves(home: Home) -> None:
    with backend(home, "late=0.5") as node:
        started = node.hears("command-started")
        assert node.told("listening") == []
        node.hears("listening")
        assert asked(node.port)["pid"] == started["pid"]


def test_it_is_the_command_of_config_toml_beside_other_services(home: Home) -> None:
    words = json.dumps([sys.executable, BACKEND, "from", "config"])
    other = '[[serve]]\nname = "hello"\nlisten = "127.0.0.1:0"\n'
    settings = f'{other}[[serve]]\nname = "app"\nlisten = "127.0.0.1:0"\nspeaks = "tcp"\ncommand = {words}\n'
    with serving(home, listen=None, settings=settings, workers=2) as node:
        place = node.hears("listening", service="app")["address"]
        said = asked(int(place.rpartition(":")[2]))
        assert (said["words"], said["directory"]) == (["from", "config"], str(home.home))
        node.send(signal.SIGTERM)
        assert node.wait() == 0


def test_path_of_a_socket_is_short_enough_wherever_the_home_is(tmp_path: Path) -> None:
    """107 bytes are all that a socket's path can have (unix(7))."""
    far = tmp_path / ("d" * 60) / ("e" * 60)
    far.mkdir(parents=True)
    commands = Commands(far, lambda _: None)
    with commands.running((service(run([sys.executable, BACKEND])),)) as services:
        (kind,) = [one.kind for one in services]
        assert isinstance(kind, Command)
        assert kind.backend is not None
        place = Path(str(kind.backend.path))
        assert len(os.fsencode(place)) <= 107
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
        assert kind.front == Http((kind.backend,), patient=True)
    assert not place.parent.exists()


def service(kind: Command) -> Service:
    """A service by this command."""
    (made,) = parse_config(b'[node]\nname = "x"\n[[serve]]\nlisten = ":0"\n', Path("/home")).services
    return Service(made.name, made.listen, kind)


@pytest.mark.parametrize("words", [["/no/such/program"], ["no-such-program-anywhere"], ["/etc/passwd"]])
def test_program_that_cannot_be_run(tmp_path: Path, words: list[str]) -> None:
    commands = Commands(tmp_path, lambda _: None)
    runs = commands.running((service(run(words)),))
    with pytest.raises(PeerAuthError, match=f"cannot run {words[0]}") as caught, runs:
        raise AssertionError("it runs")
    assert caught.value.code == "cannot-run"
    assert list((tmp_path / "state").iterdir()) == []

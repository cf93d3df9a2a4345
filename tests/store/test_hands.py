"""Many files are read by several processes at once: whatever happens to the copies, all is read, and none is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import environment
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, Yard, identity
from tests.support.pool import fill
from tests.support.workers import Home, ping, serving, with_patch

SCENES = [
    "everybody_takes_part",
    "copies_die",
    "copies_fail",
    "copies_hang",
    "copies_say_half",
    "no_fork_can_be_had",
    "few_are_not_shared",
    "interrupted",
    "nobody_waits_for_children",
    "threads",
]


# As if there were two, and saying how many processes read.
PROCESSORS = """
import os, pathlib
os.sched_getaffinity = lambda _: {0, 1}
from peerauth.store import hands
real = hands._Copy
def noting(*arguments):
    with open(pathlib.Path(sys.argv[sys.argv.index('--home') + 1]) / 'forks', 'a') as file:
        print(1, file=file)
    return real(*arguments)
hands._Copy = noting
"""


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tests.store.sharing", *words]


def act(*words: str) -> None:
    done = subprocess.run(
        command(*words), capture_output=True, text=True, env=environment(), timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("scene", SCENES)
def test_work_is_shared_and_nothing_is_left(scene: str) -> None:
    act(scene)


@pytest.mark.parametrize("scene", ["killed", "killed_late"])
def test_copies_end_when_the_program_is_killed(scene: str) -> None:
    """They hold its standard output, which ends with the last of them."""
    process = subprocess.Popen(command(scene), stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline() == "here\n"
        process.kill()
        assert process.communicate(timeout=DEADLINE_S)[0] in ("", "here\n"), "the second is of the other copy"


def test_several_read_a_directory_as_one_does(tmp_path: Path) -> None:
    yard = Yard(tmp_path / "peers")
    fill(yard.path, 60)
    alice, bob = identity("alice").certificate, identity("bob").certificate
    yard.pin("alice")
    yard.place("p7.toml", "max_connections = 3")  # beside p7.crt
    yard.place("p8.pem", alice.pem)  # another file of p8, and a certificate that alice has
    yard.place("p9.toml", "nonsense")
    yard.place("P10.crt", bob.pem)
    yard.place("both.crt", alice.pem + bob.pem)
    yard.place("broken.crt", "nonsense")
    yard.place("Not A Name.crt", bob.pem)
    (yard.path / "linked.crt").symlink_to("alice.crt")
    (yard.path / "nowhere.crt").symlink_to("gone")
    (yard.path / "directory.crt").mkdir()
    act("peers", str(yard.path))


@pytest.mark.parametrize("number", [1, 2])
def test_server_with_thousands_of_peers_has_read_them_all(tmp_path: Path, number: int) -> None:
    """Also where it forks workers afterwards, who are not taken for what read the peers."""
    home = Home(tmp_path)
    fill(home.path, 4500)
    caller = Caller(home.pin("alice"))
    with serving(home, workers=number, program=with_patch(PROCESSORS)) as server, caller.open(server.port) as tls:
        ping(tls)
    assert (home.home / "forks").read_text() == "1\n"

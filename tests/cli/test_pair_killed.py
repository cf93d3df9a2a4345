"""`pair` is killed, or its time is over, at every step: nobody is pinned wrongly, and pairing again mends it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import CHECKOUT, DEADLINE_S, Result, environment, peerauth
from tests.support.pairing import pin, pins, waiting
from tests.support.workers import Home, is_alive, serving, with_patch

DIE = """
import os
def dying(owner, name, times=1):
    kept = getattr(owner, name)
    def die(*given, **named):
        nonlocal times
        times -= 1
        return kept(*given, **named) if times else os.kill(os.getpid(), 9)
    setattr(owner, name, die)
"""
KILLED = -signal.SIGKILL
SERVER = {  # where the side that waits dies, and whether it has pinned the other by then
    "the guess is counted": ("peerauth.server.pairing", "_exchange", 1, False),
    "it is proven, and not noted": ("peerauth.store.pairing.Turn", "advance", 1, False),
    "it is proven": ("peerauth.server.pairing", "_pin", 1, False),
    "it is pinned, and not noted": ("peerauth.store.pairing.Turn", "advance", 2, True),
    "it is pinned": ("peerauth.control.exchange.Exchange", "prove", 1, True),
    "all is done, and not noted": ("peerauth.store.pairing.Turn", "advance", 3, True),
}
INITIATOR = {  # where the initiator dies, and what each side has pinned: (the server, the initiator)
    "it has said hello": ("peerauth.control.exchange.Exchange", "hear", (False, False)),
    "it is about to prove": ("peerauth.control.exchange.Exchange", "prove", (False, False)),
    "it has heard the proof": ("peerauth.control.exchange.Exchange", "check", (True, False)),
    "it is about to pin": ("peerauth.store.peerdir.PeerDirectory", "enrol", (True, False)),
    "it has pinned": ("peerauth.cli.pair", "tell", (True, True)),
}


def deadly(owner: str, name: str, times: int = 1) -> tuple[str, str]:
    """The program, which kills itself when this is called for that time."""
    module, _, attribute = owner.rpartition(".")
    is_class = attribute[:1].isupper()
    imported = (
        f"from {module} import {attribute} as owner" if is_class else f"import {owner}\nowner = sys.modules['{owner}']"
    )
    return with_patch(f"{DIE}\n{imported}\ndying(owner, '{name}', {times})")


@pytest.fixture
def node(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def alice(tmp_path: Path) -> Home:
    return Home(tmp_path, "alice")


def initiate(home: Home, *words: str) -> Result:
    return peerauth("pair", "--json", "--home", home.home, *words)


def mended(node: Home, alice: Home) -> None:
    """Pairing again comes to what it should have come to at once, and to nothing else."""
    with waiting(node) as wait:
        result = initiate(alice, wait.address, wait.code)
        other = wait.end()
    assert (result.code, other.code) == (0, 0), result.err + other.err
    assert pins(node) == {"alice": [pin("alice")]}
    assert pins(alice) == {"node": [pin("node")]}


@pytest.mark.parametrize("step", SERVER)
def test_the_side_that_waits_is_killed(node: Home, alice: Home, step: str) -> None:
    owner, name, times, pinned = SERVER[step]
    with waiting(node, program=deadly(owner, name, times)) as wait:
        result = initiate(alice, wait.address, wait.code)
        assert wait.end().code == KILLED
        paired = step == "all is done, and not noted"  # the initiator has pinned by then, and knows that it is pinned
        assert result.code == (0 if paired else 4), result.err
        assert pins(node) == ({"alice": [pin("alice")]} if pinned else {})
        assert pins(alice) == ({"node": [pin("node")]} if paired else {})
        if not paired:
            early = step == "the guess is counted"
            said = "neither side has pinned the other" if early else "it may have pinned this node"
            assert said in result.json["error"]["message"]
        with serving(node, workers=1, relay=False) as server:  # the code that was shown opens nothing any more
            late = initiate(Home(node.home.parent, "mallory"), f"127.0.0.1:{server.port}", wait.code)
            assert late.json["error"]["code"] == "not-pairing"
    mended(node, alice)


@pytest.mark.parametrize("step", INITIATOR)
def test_the_initiator_is_killed(node: Home, alice: Home, step: str) -> None:
    owner, name, (there, here) = INITIATOR[step]
    with waiting(node) as wait:
        done = subprocess.run(
            [sys.executable, *deadly(owner, name), "pair", "--home", str(alice.home), wait.address, wait.code],
            cwd=CHECKOUT,
            env=environment(),
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == KILLED
        if there:
            other = wait.end()
            assert (other.code, other.json["paired"]) == (0, here)
            assert ("it has not said that it pinned this node" in other.err) is not here
        else:
            wait.wait_for("did not know the code")
            wait.process.send_signal(signal.SIGINT)
            assert wait.end().code == 130
    assert pins(node) == ({"alice": [pin("alice")]} if there else {})
    assert pins(alice) == ({"node": [pin("node")]} if here else {})
    mended(node, alice)


def test_a_worker_that_is_killed_with_a_guess_leaves_it_used_up_and_the_others_go_on(node: Home, alice: Home) -> None:
    program = deadly("peerauth.server.pairing", "_exchange")
    with serving(node, workers=2, relay=False, program=program) as server, waiting(node, listen=None) as wait:
        address = f"127.0.0.1:{server.port}"
        for _ in range(3):
            assert initiate(alice, address, wait.code).json["error"]["code"] == "pair-broken"
        assert initiate(alice, address, wait.code).json["error"]["code"] == "not-pairing"
        wait.process.send_signal(signal.SIGINT)
        assert wait.end().code == 130
    assert pins(node) == pins(alice) == {}


def test_the_window_ends_with_the_process_that_opened_it(node: Home, alice: Home) -> None:
    with serving(node, workers=2, relay=False) as server, waiting(node, listen=None) as wait:
        wait.process.kill()
        wait.end()
        assert not is_alive(wait.process.pid)
        result = initiate(alice, f"127.0.0.1:{server.port}", wait.code)
        assert result.json["error"]["code"] == "not-pairing"
    mended(node, alice)


@pytest.mark.parametrize("workers", [None, 2])
def test_the_window_closes_in_time(node: Home, alice: Home, workers: int | None) -> None:
    short = with_patch("import peerauth.store.pairing\npeerauth.store.pairing.SECONDS = 0.5")
    if workers is None:
        with waiting(node, program=short) as wait:
            other = wait.end()
    else:
        with serving(node, workers=workers, relay=False) as server, waiting(node, listen=None, program=short) as wait:
            other = wait.end()
            result = initiate(alice, f"127.0.0.1:{server.port}", wait.code)
            assert result.json["error"]["code"] == "not-pairing"
    assert (other.code, other.json["error"]["code"]) == (1, "nobody-came")
    mended(node, alice)


def test_what_was_proven_when_ctrl_c_came_is_said(node: Home, alice: Home) -> None:
    """It is too late then to stop it."""
    stuck = with_patch(
        "import os, signal\nimport peerauth.control.exchange as owner\nkept = owner.Exchange.prove\n"
        "def prove(*given):\n    os.kill(os.getpid(), signal.SIGINT)\n    return kept(*given)\nowner.Exchange.prove = prove"
    )
    with waiting(node, program=stuck) as wait:
        initiate(alice, wait.address, wait.code)
        other = wait.end()
    assert other.code == 130
    assert other.json["name"] == "alice"
    assert pins(node) == {"alice": [pin("alice")]}
    mended(node, alice)

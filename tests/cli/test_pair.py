"""Two people pair their nodes: the real program on both sides, alone or with its server running."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.running import DEADLINE_S, Result, Terminal, peerauth, process, short
from tests.support import needs
from tests.support.engine import Caller, files_of, hear_line, identity
from tests.support.pairing import pin, pins, waiting
from tests.support.workers import Home, serving


@pytest.fixture
def node(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def alice(tmp_path: Path) -> Home:
    return Home(tmp_path, "alice")


def initiate(home: Home, *words: str, stdin: str = "") -> Result:
    return peerauth("pair", "--home", home.home, *words, stdin=stdin.encode())


def both_have_it(node: Home, alice: Home) -> None:
    assert pins(node) == {"alice": [pin("alice")]}
    assert pins(alice) == {"node": [pin("node")]}


def greets(alice: Home, url: str, *words: str) -> None:
    """Whoever has paired is served: by the process that heard it at once, by others when they have looked."""
    give_up = time.monotonic() + DEADLINE_S
    while (result := process("get", "--home", alice.home, url, *words)).code == 3 and time.monotonic() < give_up:
        pass
    assert (result.code, result.out) == (0, f"Hello, {alice.name}!\n"), result.err


def test_they_pin_each_other_and_are_shown_whom(node: Home, alice: Home) -> None:
    with waiting(node) as wait:
        result = initiate(alice, wait.address, wait.code)
        other = wait.end()
    assert (result.code, other.code) == (0, 0), result.err + other.err
    both_have_it(node, alice)
    rows = [line.split(maxsplit=2)[-1] if "words" in line else line.strip() for line in result.out.splitlines()[2:]]
    assert " ".join(rows) == pin("node").words
    assert f"fingerprint:     {pin('node')}" in result.out
    assert "paired: node and this node have pinned each other" in result.err
    assert other.json == {
        "name": "alice", "fingerprint": str(pin("alice")), "words": pin("alice").words, "paired": True,
    }  # fmt: skip
    assert "peerauth peer remove alice" in short(other.err)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_running_server_is_paired_with_and_then_both_directions_work(node: Home, alice: Home, workers: int) -> None:
    with serving(node, workers=workers, relay=False) as server:
        port = server.port
        with waiting(node, listen=None) as wait:
            result = initiate(alice, f"127.0.0.1:{port}", *wait.code.split("-"))
            other = wait.end()
        assert (result.code, other.code) == (0, 0), result.err + other.err
        both_have_it(node, alice)
        greets(alice, "https://node/hello")  # at the address where it was paired with
        certificate, key = files_of(identity("alice"))
        ours = files_of(identity("node"))[0]
        curl = [
            needs("curl"),
            "-sS",
            "--cert",
            certificate,
            "--key",
            key,
            "--cacert",
            ours,
            f"https://localhost:{port}/hello",
        ]
        assert subprocess.run(curl, capture_output=True, text=True, check=True, timeout=30).stdout == "Hello, alice!\n"
    with serving(alice, workers=1, relay=False) as server:
        greets(node, f"https://127.0.0.1:{server.port}/hello", "--peer", "alice")


def test_a_server_that_runs_without_workers_is_paired_with_as_well(node: Home, alice: Home) -> None:
    """And pairing at an address of one's own beside it works, too."""
    with serving(node, workers=1, relay=False) as server:
        with waiting(node) as wait:
            assert not wait.address.endswith(f":{server.port}")
            assert initiate(alice, wait.address, wait.code).code == 0
            assert wait.end().code == 0
        greets(alice, f"https://127.0.0.1:{server.port}/hello", "--peer", "node")


@pytest.mark.parametrize(
    "typed",
    [
        lambda code: code.split("-"),
        lambda code: [code.upper()],
        lambda code: [" ".join(word[:4] for word in code.split("-"))],
    ],
)
def test_the_code_is_typed_as_people_type(node: Home, alice: Home, typed: object) -> None:
    assert callable(typed)
    with waiting(node) as wait:
        assert initiate(alice, wait.address, *typed(wait.code)).code == 0
        assert wait.end().code == 0


def test_the_code_comes_from_standard_input_where_it_is_not_given(node: Home, alice: Home) -> None:
    with waiting(node) as wait:
        result = initiate(alice, wait.address)
        assert (result.code, "no-code" in initiate(alice, wait.address, "--json").out) == (2, True)
        result = initiate(alice, wait.address, stdin="river tiger\n")
        assert result.code == 1
        assert "a code has 3 words, and these are 2" in result.err
        result = initiate(alice, wait.address, stdin=f"{wait.code}\n")
        assert result.code == 0, result.err
        assert "warning" not in wait.end().err  # none of these was a guess


def test_on_a_terminal_it_is_asked_for_until_it_is_a_code(node: Home, alice: Home) -> None:
    with waiting(node) as wait:
        terminal = Terminal("pair", "--home", alice.home, wait.address)
        terminal.wait_for("Code: ")
        terminal.type("river tigre bamboo")
        terminal.wait_for(r"word 2, 'tigre', is none of the list")
        terminal.wait_for("Code: ")
        terminal.type(wait.code)
        code, said = terminal.end()
        assert code == 0, said
        assert wait.end().code == 0


def test_on_a_terminal_the_code_alone_is_data(node: Home, alice: Home) -> None:
    terminal = Terminal("pair", "--home", node.home, "--listen", "127.0.0.1:0")
    terminal.wait_for(r"^[a-z]+-[a-z]+-[a-z]+\r\n")
    terminal.wait_for(r"within 2 minutes: peerauth pair ")
    terminal.process.send_signal(signal.SIGINT)
    code, _ = terminal.end()
    assert code == 130
    assert pins(node) == pins(alice) == {}


def test_names_and_tags_of_ones_own(node: Home, alice: Home) -> None:
    with waiting(node, "--name", "laptop", "--tag", "ci", "--as", "database") as wait:
        assert initiate(alice, wait.address, wait.code, "--tag", "home", "--as", "ignored-there").code == 0
        assert wait.end().json["name"] == "laptop"
    assert (pins(node), pins(alice)) == ({"laptop": [pin("alice")]}, {"database": [pin("node")]})
    assert "ci" in (node.path / "laptop.toml").read_text()
    assert "home" in (alice.path / "database.toml").read_text()


def test_a_name_that_is_taken_gets_a_number(node: Home, alice: Home) -> None:
    node.pin("alice", identity("another-alice"))
    with waiting(node) as wait:
        assert initiate(alice, wait.address, wait.code).code == 0
        assert wait.end().json["name"] == "alice-2"


def test_a_name_of_ones_own_that_is_taken_is_noticed_before_a_guess_is_made(node: Home, alice: Home) -> None:
    alice.pin("db", identity("another"))
    with waiting(node) as wait:
        result = initiate(alice, wait.address, wait.code, "--name", "db")
        assert (result.code, "there is a peer db already" in result.err) == (1, True)
        assert initiate(alice, wait.address, wait.code, "--name", "db-2").code == 0
        assert "warning" not in wait.end().err


def test_a_name_that_a_service_is_made_for_must_be_given(node: Home, alice: Home) -> None:
    node.configure('[[serve]]\nlisten = "127.0.0.1:0"\nallow = ["alice"]\n')
    with waiting(node) as wait:
        result = initiate(alice, wait.address, wait.code)
        other = wait.end()
    assert (result.code, other.code) == (3, 1)
    assert "the name alice is kept for somebody" in result.err
    assert "--as NAME" in result.err
    assert "knew the code, and was not pinned" in other.err
    assert "peerauth pair --name NAME" in short(other.err)
    assert pins(node) == pins(alice) == {}
    with waiting(node, "--name", "alice") as wait:
        assert initiate(alice, wait.address, wait.code).code == 0
        assert wait.end().code == 0
    both_have_it(node, alice)


def test_pairing_again_changes_nothing_and_mends_a_half(node: Home, alice: Home) -> None:
    node.pin("al", identity("alice"), settings='note = "first"\n')
    with waiting(node, "--tag", "ci") as wait:
        assert initiate(alice, wait.address, wait.code).code == 0
        other = wait.end()
    assert other.json["name"] == "al"
    assert "al was pinned already" in other.err
    assert (pins(node), pins(alice)) == ({"al": [pin("alice")]}, {"node": [pin("node")]})
    assert (node.path / "al.toml").read_text() == 'note = "first"\n'


def test_wrong_codes_are_said_aloud_on_both_sides_and_three_end_it(node: Home, alice: Home) -> None:
    with waiting(node) as wait:
        wrong = "abandon-abandon-abandon" if wait.code != "abandon-abandon-abandon" else "zoo-zoo-zoo"
        for _ in range(3):
            result = initiate(alice, wait.address, wrong)
            assert result.code == 3
            assert "do not have the same code, or somebody stands in between" in result.err
        other = wait.end()
    assert other.code == 3
    assert other.json["error"]["code"] == "guessed"
    assert other.err.count("did not know the code: it presents " + str(pin("alice"))) == 3
    assert [line for line in other.err.splitlines() if "guesses left" in line][-1].endswith("guesses left: 0")
    assert pins(node) == pins(alice) == {}


def test_after_two_slips_the_third_may_be_right(node: Home, alice: Home) -> None:
    with waiting(node) as wait:
        for word in ("abandon", "zoo"):
            assert initiate(alice, wait.address, word, word, word).code == 3
        assert initiate(alice, wait.address, wait.code).code == 0
        assert wait.end().code == 0
    both_have_it(node, alice)


def test_over_a_unix_socket(node: Home, alice: Home) -> None:
    door = f"unix:{node.home}/door"
    with waiting(node, listen=door) as wait:
        assert wait.address == door
        assert initiate(alice, wait.address, wait.code).code == 0
        assert wait.end().code == 0
    both_have_it(node, alice)


def test_a_server_that_can_note_nothing_serves_all_the_same(node: Home) -> None:
    (node.home / "state").write_text("")
    node.pin("alice")
    with serving(node, workers=1, relay=False) as server:
        with Caller(identity("alice")).open(server.port) as tls:
            tls.sendall(b"GET /hello HTTP/1.1\r\nHost: node\r\n\r\n")
            assert hear_line(tls).startswith("HTTP/1.1 200")
        result = peerauth("pair", "--home", node.home, "--json")
        assert (result.code, result.json["error"]["code"]) == (1, "not-a-directory")


def test_only_one_window_at_a_time_and_ctrl_c_closes_it(node: Home, alice: Home) -> None:
    with waiting(node) as wait:
        result = peerauth("pair", "--home", node.home, "--json", "--listen", "127.0.0.1:0")
        assert (result.code, result.json["error"]["code"]) == (1, "already-pairing")
        wait.process.send_signal(signal.SIGINT)
        assert wait.end().code == 130
    with serving(node, workers=1, relay=False) as server:
        result = initiate(alice, f"127.0.0.1:{server.port}", wait.code, "--json")
        assert (result.code, result.json["error"]["code"]) == (3, "not-pairing")
    assert pins(node) == pins(alice) == {}


def test_the_code_is_nobodys_business(node: Home) -> None:
    note = node.home / "state/pairing.json"
    with waiting(node) as wait:
        assert stat.S_IMODE(note.stat().st_mode) == 0o600
        assert json.loads(note.read_text())["code"] == wait.code
        wait.process.send_signal(signal.SIGINT)
        wait.end()
    assert wait.code not in note.read_text()


def test_a_node_does_not_pair_with_itself(node: Home) -> None:
    with waiting(node) as wait:
        result = initiate(node, wait.address, wait.code, "--json")
        assert (result.code, result.json["error"]["code"]) == (3, "itself")
    assert pins(node) == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["river-tiger-bamboo"], "peerauth pair HOST:PORT river-tiger-bamboo"),
        (["127.0.0.1:1", "river", "tiger"], "CODE: a code has 3 words"),
        (["127.0.0.1:1", "river-tiger-bamboo", "--listen", ":1"], "--listen is for the side that waits"),
        (["127.0.0.1:x"], "HOST:PORT"),
        (["--name", "../evil"], "--name"),
        (["--as", "Node"], "--as"),
        (["--listen", "nowhere"], "--listen"),
        (["--tag", "a b"], "--tag"),
    ],
)
def test_what_makes_no_sense_is_explained(node: Home, words: list[str], said: str) -> None:
    result = peerauth("pair", "--home", node.home, *words)
    assert result.code == 2
    assert said in short(result.err)


def test_where_nobody_waits_or_nobody_speaks_it_that_is_said(node: Home, alice: Home) -> None:
    result = initiate(alice, "127.0.0.1:1", "river-tiger-bamboo", "--json")
    assert (result.code, result.json["error"]["code"]) == (4, "connection-refused")
    with serving(node, workers=1, relay=False) as server:
        result = initiate(alice, f"127.0.0.1:{server.port}", "river-tiger-bamboo")
        assert result.code == 3
        assert "this node is not pairing now" in result.err

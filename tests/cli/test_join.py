"""`join`: one step, from a token to two nodes that know each other; against servers that run as processes of their own."""

from __future__ import annotations

import itertools
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from peerauth.address import parse_address
from peerauth.control.invitation import Joined
from peerauth.control.messages import No
from peerauth.control.wire import Message, encode
from peerauth.server.removals import TICK
from peerauth.store.peerdir import PeerDirectory
from peerauth.trust.invitation import SECRET, make_token, read_token
from tests.cli.junk import well_said
from tests.cli.running import Result, peerauth, process, short
from tests.support.engine import files_of, identity
from tests.support.inviting import book_of, invite, pinned, users
from tests.support.programs import needs
from tests.support.targets import target, unused_port
from tests.support.workers import Home, Serving, serving

Words = str | Path


@pytest.fixture
def node(tmp_path: Path) -> Home:
    """Who invites."""
    return Home(tmp_path / "inviting")


@pytest.fixture
def alice(tmp_path: Path) -> Home:
    """Who joins."""
    return Home(tmp_path / "joining", "alice")


@pytest.fixture
def served(node: Home) -> Iterator[Serving]:
    """The inviting node, serving hello."""
    with serving(node, workers=1, relay=False) as running:
        yield running


def token_of(served: Serving, node: Home, *words: str) -> str:
    """A token that `peerauth invite` prints."""
    made = peerauth("--home", node.home, "invite", "--address", f"127.0.0.1:{served.port}", *words)
    assert made.code == 0, made.err
    return made.out.strip()


def of(home: Home, *words: Words, **options: object) -> Result:
    """A command of this node, in this process."""
    return peerauth("--home", home.home, *words, **options)  # type: ignore[arg-type]


def make(address: str, whose: str = "node") -> str:
    """A token that leads there, and that no node has noted."""
    pin = identity(whose).certificate.fingerprint
    return make_token(b"s" * SECRET, pin, datetime.now(UTC) + timedelta(hours=1), [parse_address(address)]).text


@contextmanager
def impostor(answer: Callable[[], Message]) -> Iterator[int]:
    """A program that has the node's key and answers what it likes; where it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files_of(identity("node")))
    context.set_alpn_protocols(["peerauth/1"])

    def behave(sock: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
            tls.recv(65536)
            tls.sendall(encode(answer()))
            tls.recv(1)

    with target(behave) as where:
        yield where.port


@pytest.mark.parametrize("workers", [1, 2])
def test_one_step_and_each_reaches_the_other(node: Home, alice: Home, workers: int) -> None:
    """All of it as processes of their own: alice joins, reaches the node with our program and with curl, and is reached."""
    needs("curl")
    with (
        serving(node, workers=workers, relay=False) as there,
        serving(alice, workers=1, relay=False) as here,
    ):
        made = process("invite", "--address", f"127.0.0.1:{there.port}", "--tag", "ci", "--home", node.home)
        joined = process("join", made.out.strip(), "--address", f"127.0.0.1:{here.port}", "--home", alice.home)
        assert joined.code == 0, joined.err
        assert joined.out == f"node {node.own.certificate.fingerprint}\n"
        assert "peerauth connect node" in short(joined.err)
        pair = ["--cert", alice.home / "alice.crt", "--key", alice.home / "alice.key", "--cacert", node.home / "node.crt"]
        curl = ["curl", "-sS", "--max-time", "20", *map(str, pair), f"https://localhost:{there.port}/hello"]
        assert subprocess.run(curl, capture_output=True, text=True, check=True).stdout == "Hello, alice!\n"
        assert process("get", "https://node/hello", "--home", alice.home).out == "Hello, alice!\n"
        here.hears("peer-added", peer="node")
        assert process("get", "https://alice/hello", "--home", node.home).out == "Hello, node!\n"
        facts = process("get", "https://node/hello", "-H", "Accept: application/json", "--home", alice.home)
        assert json.loads(facts.out)["tags"] == ["ci"]


def test_three_nodes_become_known_to_each_other(tmp_path: Path) -> None:
    """Each at an address of its own; one token for each pair, handed to the later one."""
    homes = [Home(tmp_path / name, name) for name in ("one", "two", "three")]
    with ExitStack() as stack:
        where = {}
        for number, home in enumerate(homes, 2):
            listen = f"127.0.0.{number}:0"
            running = stack.enter_context(serving(home, workers=1, relay=False, listen=listen))
            where[home.name] = running, f"127.0.0.{number}:{running.port}"
        for inviting, joining in itertools.combinations(homes, 2):
            token = of(inviting, "invite", "--address", where[inviting.name][1]).out.strip()
            joined = of(joining, "join", token, "--address", where[joining.name][1])
            assert joined.code == 0, joined.err
            where[joining.name][0].hears("peer-added", peer=inviting.name)
        for here, there in itertools.permutations(homes, 2):
            assert of(here, "get", f"https://{there.name}/hello", "-o", tmp_path / "answer").code == 0
            assert (tmp_path / "answer").read_text() == f"Hello, {here.name}!\n"
        assert [len(pinned(home)) for home in homes] == [2, 2, 2]


def test_the_token_comes_as_a_word_by_standard_input_or_by_the_environment(
    node: Home, served: Serving, tmp_path: Path
) -> None:
    token = token_of(served, node, "--uses", "3")
    ways: dict[str, Callable[[Home], Result]] = {
        "a": lambda home: of(home, "join", token),
        "b": lambda home: of(home, "join", "-", stdin=f" {token}\n".encode()),
        "c": lambda home: of(home, "join", env={"PEERAUTH_INVITE": token}),
    }
    for name, way in ways.items():
        result = way(Home(tmp_path / name, name))
        assert result.code == 0, result.err
    assert set(pinned(node)) == set(ways)


def test_typed_again_it_says_so_and_changes_nothing(node: Home, served: Serving, alice: Home) -> None:
    token = token_of(served, node, "--name", "first")
    once = of(alice, "join", token, "--json")
    assert once.json == {
        "peer": "node",
        "address": f"127.0.0.1:{served.port}",
        "fingerprint": str(node.own.certificate.fingerprint),
        "known_as": "first",
        "already": False,
    }
    again = of(alice, "join", token)
    assert again.code == 0
    assert "joined already" in again.err
    assert of(alice, "join", token, "--json").json["already"] is True
    assert set(pinned(node)) == {"first"}
    assert set(pinned(alice)) == {"node"}
    assert PeerDirectory(alice.path).refresh().peers["node"].address == f"127.0.0.1:{served.port}"


def test_the_names_on_either_side_are_a_persons_to_choose(node: Home, served: Serving, alice: Home) -> None:
    result = of(alice, "join", token_of(served, node), "--as", "laptop", "--name", "hub")
    assert result.code == 0, result.err
    assert (set(pinned(node)), set(pinned(alice))) == ({"laptop"}, {"hub"})
    assert "rename hub x" in of(alice, "join", token_of(served, node), "--name", "x").err


def test_a_name_that_is_taken_here_is_noticed_before_anything_is_asked(node: Home, served: Serving, alice: Home) -> None:
    alice.pin("node", identity("somebody"))
    token = token_of(served, node)
    result = of(alice, "join", token, "--name", "node")
    assert result.code == 1
    assert pinned(node) == {}
    assert of(alice, "join", token).code == 0  # the next free name, as nobody said which
    assert set(pinned(alice)) == {"node", "node-2"}


def test_who_invites_does_not_get_a_name_that_was_made_for_somebody_here(node: Home, served: Serving, alice: Home) -> None:
    alice.configure('[groups]\nops = ["node"]\n')
    token = token_of(served, node)
    result = of(alice, "join", token)
    assert (result.code, pinned(alice)) == (1, {})
    assert "--name NAME" in result.err
    result = of(alice, "join", token, "--name", "node")  # a person gives it, and the one use is not needed twice
    assert result.code == 0, result.err
    assert set(pinned(alice)) == {"node"}
    assert users(node.home, read_token(token)) == ["alice"]


def test_what_is_refused_is_said_with_what_to_do(node: Home, served: Serving, alice: Home, tmp_path: Path) -> None:
    token = token_of(served, node)
    assert of(alice, "join", token).code == 0
    bob = Home(tmp_path / "bob", "bob")
    used = of(bob, "join", token)
    well_said(used, 3)
    assert "1 of 1 times" in used.err
    assert "peerauth invite" in used.err
    revoked = token_of(served, node)
    assert of(node, "invite", "--revoke", "all").code == 0
    assert "was revoked" in of(bob, "join", revoked).err
    expired = invite(node.home, served.port, ttl=-timedelta(seconds=5))
    result = of(bob, "join", expired.text)
    well_said(result, 3)
    assert "has expired" in result.err
    assert "by this machine's clock it expired on" in result.err
    assert of(bob, "join", token_of(served, node)).code == 0


def let_the_moment_pass(peers: Path) -> None:
    """An invitation that is made in the moment of a removal, as the file system has it, counts as made before."""
    while time.time() < peers.stat().st_mtime + 2 * TICK:
        pass


def test_a_removed_peer_does_not_come_back_by_its_old_token(node: Home, served: Serving, alice: Home) -> None:
    token = token_of(served, node, "--uses", "2")
    assert of(alice, "join", token).code == 0
    removed = of(node, "peer", "remove", "alice")
    assert f"peerauth invite --revoke {read_token(token).id.hex()}" in short(removed.err)  # one use is left
    assert of(alice, "join", token).code == 3
    assert pinned(node) == {}
    let_the_moment_pass(node.path)
    assert of(alice, "join", token_of(served, node)).code == 0
    (node.path / "alice.crt").unlink()  # by hand
    assert of(alice, "join", token).code == 3
    let_the_moment_pass(node.path)
    assert of(alice, "join", token_of(served, node)).code == 0
    of(node, "invite", "--revoke", "all")
    assert "--revoke" not in of(node, "peer", "remove", "alice").err


def test_without_an_identity_it_says_keygen(tmp_path: Path) -> None:
    token = make("a.example:1")
    result = peerauth("join", token, "--home", tmp_path)
    assert result.code == 1
    assert "peerauth keygen" in short(result.err)


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        ([], 2, "usage"),
        ([""], 2, "usage"),
        (["junk"], 1, "bad-token"),
        (["peerauth1-abc"], 1, "bad-token"),
        (["-"], 1, "bad-token"),
        (["\udcff\x1b[2J"], 1, "bad-token"),
        (["x" * 100_000], 1, "bad-token"),
        (["TOKEN", "--name", "../x"], 2, "bad-name"),
        (["TOKEN", "--as", "A"], 2, "bad-name"),
        (["TOKEN", "--address", "here"], 2, "bad-address"),
        (["TOKEN", "--wait", "forever"], 2, "bad-wait"),
        (["TOKEN", "--wait", "2d"], 2, "bad-wait"),
        (["TOKEN"], 4, "connection-refused"),
    ],
    ids=lambda words: " ".join(words)[:20] if isinstance(words, list) else "",
)
def test_what_cannot_be_is_said_before_anybody_is_asked(alice: Home, words: list[str], code: int, error: str) -> None:
    token = make(f"127.0.0.1:{unused_port()}")
    result = of(alice, "join", "--json", *(token if word == "TOKEN" else word for word in words))
    assert (result.code, result.json["error"]["code"]) == (code, error)
    assert token not in result.err
    assert pinned(alice) == {}


def test_a_token_that_is_nearly_right_is_not_shown(alice: Home) -> None:
    """What is nearly a secret is one."""
    token = make("a.example:1")
    result = of(alice, "join", token[:-1])
    well_said(result, 1)
    assert "cut off" in result.err
    assert token[:40] not in result.err


def test_ones_own_invitation_is_for_others(node: Home) -> None:
    result = of(node, "join", make("a.example:1"))
    well_said(result, 2)
    assert "itself" in result.err


def test_another_certificate_than_the_tokens_is_refused(node: Home, served: Serving, alice: Home) -> None:
    result = of(alice, "join", make(f"127.0.0.1:{served.port}", "before"))
    well_said(result, 3)
    assert "new certificate since" in result.err
    assert (pinned(node), pinned(alice)) == ({}, {})
    assert of(alice, "join", token_of(served, node)).code == 0


def test_with_wait_it_goes_on_trying_until_the_server_is_there(node: Home, alice: Home) -> None:
    port = unused_port()
    token = invite(node.home, port)
    results: list[Result] = []
    joining = threading.Thread(
        target=lambda: results.append(process("join", token.text, "--wait", "20s", "--home", alice.home))
    )
    joining.start()
    with serving(node, workers=1, relay=False, listen=f"127.0.0.1:{port}"):
        joining.join(30)
    assert results
    assert results[0].code == 0, results[0].err
    assert set(pinned(node)) == {"alice"}


@pytest.mark.parametrize(
    "answer",
    [
        Joined("\x1b[2J\u202e", "../evil", already=False),
        Joined("x" * 1000, "y" * 1000, already=True),
        Joined("alice", "\x1b]0;x\x07", already=False),
        No("\x1b[2J", "\x1b[31m\n" * 100),
        No("invitation", "\u202e" * 500),
    ],
    ids=str,
)
def test_an_inviter_that_answers_junk_is_escaped_and_not_pinned_by_it(alice: Home, answer: Message) -> None:
    with impostor(lambda: answer) as port:
        result = of(alice, "join", make(f"127.0.0.1:{port}"))
    well_said(result, 1, 3)
    assert pinned(alice) == {}
    with impostor(lambda: Joined("\x1b[2J\u202e", "node", already=False)) as port:
        result = of(alice, "join", make(f"127.0.0.1:{port}"))
    assert result.code == 0
    assert all(line.isprintable() for line in (result.out + result.err).splitlines())
    assert set(pinned(alice)) == {"node"}


def test_a_server_that_is_no_peerauth_is_told_as_such(alice: Home) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files_of(identity("node")))

    def behave(sock: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
            tls.recv(1)

    with target(behave) as where:
        result = of(alice, "join", make(str(where)))
    well_said(result, 4)
    assert "does not speak peerauth/1" in result.err


def test_the_list_says_who_has_joined(node: Home, served: Serving, alice: Home) -> None:
    token = token_of(served, node, "--uses", "2")
    assert of(alice, "join", token).code == 0
    (row,) = of(node, "invite", "--list").out.splitlines()
    assert row.split("\t")[2] == "1 of 2"
    assert row.split("\t")[-1] == "alice"
    (facts,) = of(node, "invite", "--list", "--json").json
    assert facts["used"][0]["fingerprint"] == str(alice.own.certificate.fingerprint)
    assert book_of(node.home).all()[0].uses == 2

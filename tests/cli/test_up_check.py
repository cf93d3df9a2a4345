"""`up --check`: what would run, and everything that is wrong, each with its line and what to do about it."""

from __future__ import annotations

import errno
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from peerauth.trust.identity import KeyType, new_key, self_signed
from tests.cli.conftest import Run
from tests.cli.making import make, pem, write
from tests.cli.running import tree
from tests.support.targets import unused_port

NODE = '[node]\nname = "node"\n'
SERVE = f'{NODE}[[serve]]\nlisten = "127.0.0.1:0"\n'  # whose lines are 3 and 4
TUNNEL = f'{NODE}[[tunnel]]\nlisten = "127.0.0.1:0"\npeer = "bob"\n'  # 3, 4 and 5

# What is written, and what has to be said of it: (line, a part of the sentence, a part of the hint).
CORPUS: dict[str, tuple[str, list[tuple[int | None, str, str]]]] = {
    "no-node": ("", [(None, "node.name is missing", "[node]")]),
    "bad-name": ('[node]\nname = "A b"\n[[serve]]\nlisten = "127.0.0.1:0"', [(2, "'A b' cannot be a name", "a-b")]),
    "name-is-a-number": ("[node]\nname = 3\n[[serve]]\nlisten = '127.0.0.1:0'", [(2, "node.name must be a text", "")]),
    "unknown-table": (f"{SERVE}[limit]\ndrain = 1", [(5, "unknown setting 'limit'", "'limits'")]),
    "unknown-key": (f'{SERVE}traget = ":1"', [(5, "unknown setting 'serve[1].traget'", "'target'")]),
    "key-of-nothing": (f"{SERVE}zzz = 1", [(5, "unknown setting 'serve[1].zzz'", "known here: allow")]),
    "not-a-table": ("node = 3\n[[serve]]\nlisten = '127.0.0.1:0'", [(1, "node must be a table", "")]),
    "one-bracket": (f'{NODE}[serve]\nlisten = ":1"', [(3, "serve must be written as [[serve]]", "")]),
    "no-listen": (f"{NODE}[[serve]]\nname = 'x'", [(3, "serve[1].listen is missing", "listen = ")]),
    "listen-is-a-number": (f"{NODE}[[serve]]\nlisten = 8443", [(4, "serve[1].listen must be a text", "")]),
    "no-port": (f'{NODE}[[serve]]\nlisten = "0.0.0.0"', [(4, "is not HOST:PORT", "8443")]),
    "big-port": (f'{NODE}[[serve]]\nlisten = ":65536"', [(4, "is not HOST:PORT", "up to 65535")]),
    "bad-target": (f'{SERVE}target = "somewhere"', [(5, "serve[1].target is not usable", "5432")]),
    "bad-http-with-its-settings": (
        f'{SERVE}http = "https://h"\ntimeout = 5\nheaders = ["X-Peer-Name"]',
        [(5, "serve[1].http is not usable", "write http://")],
    ),
    **{
        f"{key}-is-a-number": (f"{SERVE}{key} = 3", [(5, f"serve[1].{key} must be", "")])
        for key in ("http", "app", "root", "command")
    },
    "misspelt-for-another-kind": (f"{SERVE}timout = 5", [(5, "unknown setting 'serve[1].timout'", "known here: allow")]),
    "same-name": (
        f'{SERVE}name = "x"\n[[serve]]\nlisten = ":1999"\nname = "x"',
        [(8, "serve[2].name is 'x', and so is that of another block (line 5)", "its own")],
    ),
    "two-without-a-name": (
        f'{SERVE}[[serve]]\nlisten = ":1999"',
        [(5, "serve[2].name is not set, so it is 'default', and so is that of another block (line 3)", "its own")],
    ),
    "bad-service-name": (f'{SERVE}name = "Db One"', [(5, "serve[1].name is not usable", "db-one")]),
    "allow-is-a-text": (f'{SERVE}allow = "alice"', [(5, "serve[1].allow must be a list", "")]),
    "allow-has-a-number": (f"{SERVE}allow = [\n1]", [(5, "serve[1].allow must be a list", "")]),
    "unknown-group": (f'{SERVE}allow = ["@ops"]', [(5, "does not define 'ops'", "none is defined")]),
    "group-in-group": (f'{SERVE}[groups]\na = ["@b"]\nb = []', [(6, "groups.a may not contain another group", "")]),
    "group-of-bad-names": (f'{SERVE}[groups]\na = ["X", "Y"]', [(6, "'X' cannot be", "x"), (6, "'Y' cannot be", "y")]),
    "group-is-a-text": (f'{SERVE}[groups]\na = "bob"', [(6, "groups.a must be a list", "")]),
    "same-door": (
        f'{NODE}[[serve]]\nlisten = ":1999"\n[[serve]]\nlisten = ":1999"\nname = "x"',
        [(6, "(line 4)", "own port")],
    ),
    "door-in-every-door": (
        f'{NODE}[[serve]]\nlisten = "127.0.0.1:1999"\n[[serve]]\nlisten = "0.0.0.0:1999"\nname = "x"',
        [(6, "another block listens at 127.0.0.1:1999 (line 4)", "own port")],
    ),
    "tunnel-in-a-door": (
        f'{NODE}[[serve]]\nlisten = ":1999"\n[[tunnel]]\npeer = "bob"\naddress = "b:1"\nlisten = "[::1]:1999"',
        [(8, "another block listens at :1999 (line 4)", "own port")],
    ),
    "negative": (f"{SERVE}[limits]\ndrain = -1", [(6, "limits.drain must be between 0 and 3600", "")]),
    "no-duration": (f'{SERVE}[limits]\ndrain = "soon"', [(6, 'or "2m", between 0 and 3600 seconds', "")]),
    "too-many-workers": (f"{SERVE}[limits]\nworkers = 65", [(6, "limits.workers must be between 1 and 64", "")]),
    "endless": (f"{SERVE}[rotation]\ndeadline = inf", [(6, "rotation.deadline must be between 0 and 36500 days", "")]),
    "half-a-worker": (
        f"{SERVE}[limits]\nworkers = 1.5",
        [(6, "limits.workers must be a whole number between 1 and 64", "")],
    ),
    "true-worker": (f"{SERVE}[limits]\nworkers = true", [(6, "limits.workers must be a whole number", "")]),
    "not-a-flag": (f"{SERVE}[refusals]\nremember = 1", [(6, "refusals.remember must be true or false", "")]),
    "bad-choice": (f'{SERVE}[rotation]\naccept = "maybe"', [(6, "rotation.accept must be one of auto, ask, never", "")]),
    "hourly": (f'{SERVE}[rotation]\nevery = "1h"', [(6, "rotation.every must be between 1 and 36500 days", "")]),
    "no-peer": (f'{NODE}[[tunnel]]\nlisten = "127.0.0.1:0"', [(3, "tunnel[1].peer is missing", "peer list")]),
    "bad-peer": (f'{NODE}[[tunnel]]\nlisten = "127.0.0.1:0"\npeer = "B B"', [(5, "tunnel[1].peer is not usable", "b-b")]),
    "bad-wait": (f"{TUNNEL}wait = -1", [(6, "tunnel[1].wait must be between 0 and 3600", "")]),
    "bad-address": (f'{TUNNEL}address = "bob"', [(6, "tunnel[1].address is not usable", "5432")]),
    "no-quotes": (f"{SERVE}target = 127.0.0.1:1", [(5, "not valid TOML", "quotes")]),
    "no-quotes-twice": (
        f"{NODE}[[serve]]\nlisten = 0.0.0.0:1\n[[serve]]\nlisten = 0.0.0.0:2\ntarget = 7",
        [(4, "not valid TOML", ""), (6, "not valid TOML", ""), (7, "serve[2].target must be a text", "")],
    ),
    "unclosed": (f"{SERVE}[limits\ndrain = 1\n[refusals]\nremember = 1", [(5, "not valid TOML", "")]),
    "twice": (f'{SERVE}listen = ":2"', [(5, "not valid TOML", "")]),
    "no-text": ("[node]\nname = 'x'\n# \udcff", [(3, "this is not UTF-8 text", "")]),
    "no-key": (f'{SERVE[:21]}key = "other.key"\n[[serve]]\nlisten = ":0"', [(3, "half an identity", "put it back")]),
    "no-peers": ('[node]\nname = "node"\npeers = "pears"\n[[serve]]\nlisten = ":0"', [(3, "there is no directory", "")]),
    "nul": ('[node]\nname = "node"\nkey = "a\\u0000b"\n[[serve]]\nlisten = ":0"', [(3, "no path has a NUL", "")]),
    "elsewhere": (f'{NODE}[[serve]]\nlisten = "192.0.2.7:1999"', [(4, "cannot listen on 192.0.2.7:1999", "127.0.0.1")]),
    "no-host": (f'{NODE}[[serve]]\nlisten = "no-such.invalid:1999"', [(4, "is no address of this machine", "127.0.0.1")]),
    "no-directory": (f'{NODE}[[serve]]\nlisten = "unix:/no-such/s"', [(4, "there is no directory /no-such", "mkdir")]),
    "node-and-door": (
        '[node]\n[[serve]]\nlisten = "192.0.2.7:1"',
        [(1, "node.name is missing", ""), (3, "cannot listen", "")],
    ),
    "two-things": (f'{SERVE}target = ":1"\nroot = "x"', [(5, "and root are", "one [[serve]]"), (6, "no directory", "")]),
    "no-root": (f'{SERVE}root = "no-such"', [(5, "there is no directory", "make it")]),
    "root-is-a-file": (f'{SERVE}root = "config.toml"', [(5, "is no directory", "that it is in")]),
    "root-with-the-key": (f'{SERVE}root = "."', [(5, "the private key", "nothing but")]),
    "no-command": (f'{SERVE}command = ["no-such-program"]', [(5, "there is no program no-such-program", "PATH")]),
    "command-as-text": (f'{SERVE}command = "gunicorn"', [(5, 'such as ["gunicorn", "--bind"', "")]),
    "proxy-protocol-of-http": (
        f'{SERVE}command = ["cat"]\nproxy_protocol = "v2"',
        [(6, "for no program that speaks HTTP", 'speaks = "tcp"')],
    ),
    "relay-to-a-url": (f'{SERVE}target = "http://127.0.0.1:80/x"', [(5, "is a URL", "127.0.0.1:80; what speaks HTTP")]),
    "no-app": (f'{SERVE}app = "no_such_module:app"', [(5, "there is no module 'no_such_module'", "app_dir")]),
    "bad-app": (f'{SERVE}app = "main.py"', [(5, "is not MODULE:ATTRIBUTE", "main:")]),
    "https": (f'{SERVE}http = "https://127.0.0.1:1"', [(5, "is not http://HOST:PORT", "http://")]),
    "explains-a-relay": (f'{SERVE}target = ":1"\non_unknown = "explain"', [(6, "relay's target", "leave it out")]),
    "routes-of-a-relay": (f'{SERVE}target = ":1"\nroutes = []', [(6, "which this is not", "http = ")]),
    "wrong-routes": (
        f'{SERVE}[[serve.routes]]\npath = "a"\n[[serve.routes]]\npath = "/"\nmethods = ["get"]\nallow = ["@x"]',
        [(6, "must begin with /", "/a"), (9, "methods", "GET"), (10, "does not define 'x'", "none is defined")],
    ),
    "nobodys-socket": (
        f'{NODE}[[serve]]\nlisten = "unix:s"\nowner = "no-such-user"',
        [(4, "this system has no user no-such-user", "")],
    ),
    "mode-of-a-port": (f'{SERVE}mode = "0660"', [(5, "a Unix socket's file", "unix:")]),
    "all-of-a-block": (
        f'{NODE}[[serve]]\nlisten = 1\nname = 2\ntarget = 3\nallow = 4\nfive = 5\n[limits]\ndrain = "x"\nmax_handshakes = 0',
        [
            (4, "serve[1].listen must be", ""),
            (5, "serve[1].name must be", ""),
            (6, "serve[1].target must be", ""),
            (7, "serve[1].allow must be", ""),
            (8, "unknown setting 'serve[1].five'", ""),
            (10, "limits.drain must be", ""),
            (11, "limits.max_handshakes must be", ""),
        ],
    ),
}


@pytest.mark.parametrize("case", CORPUS)
def test_every_mistake_is_found_with_its_line_and_nothing_else(run: Run, home: Path, case: str) -> None:
    text, expected = CORPUS[case]
    write(home / "peers" / "bob.crt", pem(make("bob")))
    (home / "peers" / "bob.toml").write_text('address = "localhost:1"')
    (home / "config.toml").write_bytes(text.encode(errors="surrogateescape"))
    result = run("up", "--check", "--json")
    found = result.json["mistakes"]
    assert [mistake["line"] for mistake in found] == [line for line, _, _ in expected], found
    for mistake, (_, words, hint) in zip(found, expected, strict=True):
        assert words in mistake["message"]
        assert hint in (mistake["hint"] or "")
    assert result.code == 1
    said = run("up", "--check").err
    assert said.count("error: ") == len(expected)
    assert said.endswith("it would not run as it is\n")


@pytest.mark.parametrize("case", ["all-of-a-block", "no-quotes-twice", "group-of-bad-names", "wrong-routes", "no-text"])
def test_whoever_does_not_ask_hears_the_same_of_what_is_written(run: Run, home: Path, case: str) -> None:
    text, expected = CORPUS[case]
    (home / "config.toml").write_bytes(text.encode(errors="surrogateescape"))
    checked = [line for line in run("up", "--check").err.splitlines() if line.startswith(("error: ", "hint: "))]
    assert sum(line.startswith("error: ") for line in checked) == len(expected)
    for words in (["up"], ["serve"], ["peer", "pending"]):
        result = run(*words)
        assert result.code == 1
        assert result.err.splitlines() == checked
    error = run("up", "--json").json["error"]
    said = [error, *error.get("also", [])]
    assert [one["message"] for one in said] == [line[7:] for line in checked if line.startswith("error: ")]


def test_of_many_mistakes_twenty_are_named_and_the_rest_is_counted(run: Run, home: Path) -> None:
    (home / "config.toml").write_text(NODE + "".join(f"unknown_{number} = 1\n" for number in range(30)))
    errors = [line for line in run("up").err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 21
    assert errors[-1].endswith("config.toml has 10 mistakes more")
    assert errors[19].partition(":22: ")[2]


def test_the_corpus_is_what_it_claims_to_be() -> None:
    assert len(CORPUS) >= 40
    assert sum(len(expected) > 1 for _, expected in CORPUS.values()) >= 4


def test_node_without_a_mistake_is_told_what_would_run(run: Run, home: Path) -> None:
    """The twin of the corpus."""
    write(home / "peers" / "bob.crt", pem(make("bob")))
    text = f"""{NODE}
[[serve]]
name = "db"
listen = "127.0.0.1:0"
target = "127.0.0.1:5432"
allow = ["bob"]
[[tunnel]]
listen = "127.0.0.1:0"
peer = "bob"
address = "bob.example:8444"
wait = "20s"
"""
    (home / "config.toml").write_text(text)
    before = tree(home)
    result = run("up", "--check")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "node relays to 127.0.0.1:5432 on 127.0.0.1:0, as 'db'",
        "127.0.0.1:0 leads to bob at bob.example:8444, as 'bob'",
    ]
    facts = run("up", "--check", "--json").json
    assert (facts["mistakes"], facts["warnings"]) == ([], [])
    assert facts["services"] == [
        {"name": "db", "listen": "127.0.0.1:0", "does": "relays to 127.0.0.1:5432", "target": "127.0.0.1:5432"}
    ]
    assert facts["tunnels"] == [{"name": "bob", "listen": "127.0.0.1:0", "peer": "bob", "address": "bob.example:8444"}]
    assert tree(home) == before


def warned(run: Run, home: Path, text: str) -> list[tuple[int | None, str]]:
    """The warnings about a node that has no mistakes."""
    (home / "config.toml").write_text(text)
    result = run("up", "--check", "--json")
    assert (result.code, result.json["mistakes"]) == (0, [])
    return [(warning["line"], warning["message"]) for warning in result.json["warnings"]]


def test_what_may_be_meant_so_is_a_warning(run: Run, home: Path, tmp_path: Path) -> None:
    write(home / "peers" / "bob.crt", pem(make("bob")))
    assert warned(run, home, f'{SERVE}allow = ["bob", "carol"]') == [
        (5, "the service 'default' is for carol, who is not pinned")
    ]
    assert warned(run, home, f"{SERVE}allow = []") == [(5, "the service 'default' is for nobody: its allow is empty")]
    assert warned(run, home, f'{SERVE}target = "unix:{tmp_path}/no"')[0][0] == 5
    assert warned(run, home, f'{NODE}[[tunnel]]\nlisten = ":0"\npeer = "carol"\naddress = "c:1"') == [
        (5, "the tunnel 'carol' leads to carol, who is not pinned"),
        (5, "whoever can reach :0 reaches carol as this node"),
    ]
    assert "not noted where" in warned(run, home, TUNNEL)[0][1]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (said,) = warned(run, home, f'{NODE}[[serve]]\nlisten = "127.0.0.1:{port}"')
        assert said == (4, f"cannot listen on 127.0.0.1:{port}: Address already in use")
    assert warned(run, home, f'{NODE}[[serve]]\nlisten = "127.0.0.1:{port}"') == []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        assert warned(run, home, f'{NODE}[[serve]]\nlisten = "unix:{tmp_path}/s"')[0][0] == 4
    assert warned(run, home, f'{NODE}[[serve]]\nlisten = "unix:{tmp_path}/s"') == []


def test_own_certificate_that_has_expired_and_key_of_another(run: Run, home: Path) -> None:
    (home / "config.toml").write_text(SERVE)
    old = self_signed(new_key(KeyType.P256), "node", datetime.now(UTC) - timedelta(days=400), days=30)
    (home / "node.crt").write_text(old.certificate.pem)
    found = {mistake["code"]: mistake for mistake in run("up", "--check", "--json").json["mistakes"]}
    assert set(found) == {"expired", "key-mismatch"}
    assert "expired" in found["expired"]["message"]


def test_encrypted_key_is_looked_into_where_its_passphrase_is_given_and_never_asked_for(run: Run, home: Path) -> None:
    (home / "config.toml").write_text(SERVE)
    one = self_signed(new_key(KeyType.P256), "node", datetime.now(UTC))
    other = self_signed(new_key(KeyType.P256), "node", datetime.now(UTC))
    (home / "node.crt").write_text(one.certificate.pem)
    (home / "node.key").write_bytes(other.key_pem(b"secret"))
    assert run("up", "--check").code == 0
    result = run("up", "--check", "--json", env={"PEERAUTH_PASSPHRASE": "secret"})
    assert [mistake["code"] for mistake in result.json["mistakes"]] == ["key-mismatch"]


def test_low_port_without_the_right_is_a_warning(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have the right; so the system's answer is what is made up here."""

    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", forbidden)
    (said,) = warned(run, home, f'{NODE}[[serve]]\nlisten = "127.0.0.1:443"')
    assert said == (4, "cannot listen on 127.0.0.1:443: Permission denied")


def test_a_home_that_is_none_is_an_error(run: Run, home: Path) -> None:
    (home / "config.toml").unlink()
    result = run("up", "--check", "--json")
    assert (result.code, result.json["error"]["code"]) == (1, "no-config")


def test_misuse_is_said_as_such(run: Run, home: Path) -> None:
    assert run("up", "--check", "--workers", "2").code == 2
    assert run("up", "--workers", "0").code == 2
    (home / "config.toml").write_text(NODE)
    result = run("up")
    assert (result.code, "no [[serve]] and no [[tunnel]]" in result.err) == (1, True)
    (home / "config.toml").write_text(f'{NODE}[[serve]]\nlisten = "127.0.0.1:{unused_port()}"\nx = 1\n')
    result = run("up")
    assert result.code == 1
    assert "config.toml:5: unknown setting 'serve[1].x'" in result.err

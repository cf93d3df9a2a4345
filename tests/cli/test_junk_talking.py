"""Junk for the commands that speak to others: files, words, and servers that answer something else."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.trust.invitation import SECRET, make_token
from tests.cli.conftest import Run
from tests.cli.junk import JUNK, put, well_said
from tests.cli.making import make, pem, write
from tests.cli.running import CHECKOUT, DEADLINE_S, environment, peerauth, process, tree
from tests.support.dropin import DAY, NOW
from tests.support.engine import files_of, identity
from tests.support.targets import target, unused_port

SERVE = ["serve", "--listen", "127.0.0.1:0"]
DB_1 = identity("db-1").certificate.fingerprint


def token(where: Address) -> str:
    """An invitation of db-1 to there."""
    return make_token(bytes(SECRET), DB_1, NOW + DAY, [where]).text


JOIN = ["join", token(Address("127.0.0.1", 1))]
INVITE = ["invite", "--address", "a:1"]
WITH_KEY = [SERVE, ["connect", "db-1"], ["get", "https://db-1/"], ["check", "db-1"], JOIN]
TALKING = [*WITH_KEY, ["peer", "scan", "localhost:1", "--add", "x"]]
WORDS = "\udcff\udcfe", "\x1b[2J junk", "9" * 5000, "x" * 100_000, "\0"


@pytest.fixture
def pinned(home: Path) -> Path:
    """The home, which has pinned db-1."""
    (home / "peers/db-1.crt").write_text(identity("db-1").certificate.pem)
    return home


@contextmanager
def db_1(behave: Callable[[ssl.SSLSocket], object]) -> Iterator[str]:
    """A TLS server with the certificate of db-1 that does this with each connection; where it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files_of(identity("db-1")))

    def secure(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as tls:
            heard = b""
            while b"\r\n\r\n" not in heard and (piece := tls.recv(65536)):
                heard += piece
            behave(tls)

    with target(secure) as where:
        yield str(where)


# Files


@pytest.mark.parametrize("junk", sorted(JUNK.keys() - {"half a PEM", "damaged PEM", "missing", "dangling link"}))
@pytest.mark.parametrize("words", [*TALKING, INVITE], ids=lambda words: words[0])
def test_config_toml_is_junk(run: Run, pinned: Path, junk: str, words: list[str]) -> None:
    put(junk, pinned / "config.toml")
    before = tree(pinned)
    result = run(*words)

    well_said(result, 1)
    assert "config.toml" in result.err
    assert tree(pinned) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('key = "a\\u0000b"', "node.key is not usable"),
        ('certificate = "\\u0000"', "node.certificate is not usable"),
        ('peers = "\\u0000"', "node.peers is not usable"),
        ('min_tls = "1.1"', "node.min_tls must be one of"),
        ("min_tls = 1.3", "node.min_tls must be a text"),
        ('lisen = "x"', "unknown setting 'node.lisen'"),
        ('"a\\u001b[2J" = 1', "unknown setting"),
        ("[limits]\ndrain = 1" + "0" * 400, "limits.drain"),
        ('[limits]\ndrain = "' + "9" * 400 + 'w"', "limits.drain"),
        ("[limits]\ndrain = nan", "limits.drain"),
        ("[limits]\nworkers = 0", "limits.workers must be between 1 and 64"),
        ("[limits]\nworkers = 65", "limits.workers must be between 1 and 64"),
        ('[limits]\nworkers = "2"', "limits.workers must be a whole number"),
        ("[limits]\nmax_connections = 1" + "0" * 5000, "config.toml"),
        ('[[serve]]\nlisten = "127.0.0.1:99999"', "serve[1].listen is not usable"),
        ('[[serve]]\nlisten = ":0"\ntarget = "unix:\\u0000"', "serve[1].target is not usable"),
        ('[[serve]]\nlisten = ":0"\ntarget = []', "serve[1].target is not usable: there is no target"),
        ('[[serve]]\nlisten = ":0"\ntarget = [":1", 2]', "serve[1].target must be a list of texts"),
        ('[[serve]]\nlisten = ":0"\ntarget = 1', "serve[1].target must be a text, or a list of texts"),
        (
            '[[serve]]\nlisten = ":0"\ntarget = ["h:1", "h:2", "h:1"]',
            "serve[1].target is not usable: the target h:1 is there twice",
        ),
        ('[[serve]]\nlisten = ":0"\ntarget = ":1"\nproxy_protocol = "v1"', 'serve[1].proxy_protocol must be "v2"'),
        ('[[serve]]\nlisten = ":0"\ntarget = ":1"\nproxy_protocol = ""', 'serve[1].proxy_protocol must be "v2"'),
        ('[[serve]]\nlisten = ":0"\nproxy_protocol = "v2"', "unknown setting 'serve[1].proxy_protocol'"),
        ('[[serve]]\nlisten = ":0"\ncommand = []', "serve[1].command is not usable: there is no program"),
        ('[[serve]]\nlisten = ":0"\ncommand = [""]', "serve[1].command is not usable: there is no program"),
        ('[[serve]]\nlisten = ":0"\ncommand = ["a\\u0000"]', "serve[1].command is not usable: no word of a command"),
        ('[[serve]]\nlisten = ":0"\ncommand = "gunicorn"', "serve[1].command must be a list"),
        ('[[serve]]\nlisten = ":0"\ntarget = ":1"\ncommand = ["a"]', "serve[1].target and command are two different things"),
        ('[[serve]]\nlisten = ":0"\nmode = "0660"', "serve[1].mode is of a Unix socket's file, and :0 is none"),
        ('[[serve]]\nlisten = ":0"\nowner = "root"', "serve[1].owner is of a Unix socket's file"),
        ('[[serve]]\nlisten = "unix:/x"\nmode = "rw"', "serve[1].mode must be three octal digits"),
        ('[[serve]]\nlisten = "unix:/x"\nmode = "4777"', "serve[1].mode must be three octal digits"),
        ('[[serve]]\nlisten = "unix:/x"\nmode = 660', "serve[1].mode must be a text in quotes"),
        ('[[serve]]\nlisten = "unix:/x"\nowner = ""', "serve[1].owner must be USER"),
        ('[[serve]]\nlisten = "unix:/x"\nowner = "a:b:c"', "serve[1].owner must be USER"),
        ('[[serve]]\nlisten = "unix:/x"\nowner = "-1"', "serve[1].owner must be USER"),
        ('[[serve]]\nlisten = ":0"\nallow = ["@nobody"]', "serve[1].allow is not usable"),
        ('[[serve]]\nlisten = ":0"\nallow = [1]', "serve[1].allow must be a list"),
        ('[[serve]]\nlisten = ":0"\n[[serve]]\n', "serve[2].listen is missing"),
        ('serve = "x"', "unknown setting 'node.serve'"),
        ("[x]", "unknown setting 'x'"),
        ('[groups]\ng = ["@g"]', "groups.g may not contain"),
        ('[groups]\ng = "a\\u0000"', "groups.g must be a list"),
    ],
    ids=lambda text: text[:40],
)
@pytest.mark.parametrize("words", [["serve"], ["get", "https://db-1/"]], ids=lambda words: words[0])
def test_setting_that_cannot_be_is_named(run: Run, pinned: Path, words: list[str], text: str, said: str) -> None:
    (pinned / "config.toml").write_text(f'[node]\nname = "node"\n{text}\n')
    before = tree(pinned)
    result = run(*words)

    well_said(result, 1)
    assert "config.toml" in result.err
    assert said in result.err
    assert tree(pinned) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('key = "x\\u001b[2J"', r"x\x1b[2J"),
        ('key = "."', "a directory, not a file"),
        ('certificate = "/dev/zero"', "/dev/zero"),
        ('key = "/dev/null/x"', "/dev/null/x"),
        ('key = "' + "x" * 300 + '"', "File name too long"),
    ],
)
@pytest.mark.parametrize("words", [*WITH_KEY, ["id", "--p12", "out"]], ids=lambda words: words[0])
def test_path_from_config_toml_that_leads_nowhere(
    run: Run, pinned: Path, tmp_path: Path, words: list[str], text: str, said: str
) -> None:
    (pinned / "config.toml").write_text(f'[node]\nname = "node"\n{text}\n')
    before = tree(tmp_path)
    result = run(*[str(tmp_path / word) if word == "out" else word for word in words], env={"PEERAUTH_P12_PASSWORD": "x"})

    well_said(result, 1)
    assert said in result.err
    assert tree(tmp_path) == before


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("suffix", ["key", "crt"])
@pytest.mark.parametrize("words", WITH_KEY, ids=lambda words: words[0])
def test_identity_is_junk(run: Run, pinned: Path, junk: str, suffix: str, words: list[str]) -> None:
    file = put(junk, pinned / f"node.{suffix}")
    before = tree(pinned)
    result = run(*words)

    well_said(result, 1)
    assert file.name in result.err
    assert tree(pinned) == before


@pytest.mark.parametrize("words", WITH_KEY, ids=lambda words: words[0])
def test_identity_is_of_two_nodes(run: Run, pinned: Path, words: list[str]) -> None:
    write(pinned / "node.crt", pem(make("node")))
    before = tree(pinned)
    result = run(*words)

    well_said(result, 1)
    assert "node.key" in result.err
    assert "hint: " in result.err
    assert tree(pinned) == before


@pytest.mark.parametrize("junk", ["binary", "circle of links", "FIFO", "device", "dangling link", "missing"])
@pytest.mark.parametrize("words", TALKING[1:], ids=lambda words: words[0])
def test_peers_is_no_directory(run: Run, home: Path, junk: str, words: list[str]) -> None:
    put(junk, home / "peers")
    before = tree(home)
    result = run(*words)

    well_said(result, 1, 4)  # scan has to look first
    assert "peers cannot be read" in result.err
    assert tree(home) == before


def without_state(found: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """Without what a server notes for itself, which is safe to delete; that is a lock, as long as nothing happens."""
    state = {path for path in found if "state" in Path(path).parts}
    assert {Path(path).name for path in state} <= {"state", "serving.alive"}
    return {path: facts for path, facts in found.items() if path not in state}


def test_serve_without_a_usable_peers_directory_says_so_and_admits_nobody(home: Path) -> None:
    """It waits for one to appear: a server must survive a volume that is mounted late."""
    put("binary", home / "peers")
    before = tree(home)
    with subprocess.Popen(
        [sys.executable, "-m", "peerauth", "--home", home, "--json", *SERVE],
        cwd=CHECKOUT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as serving:
        assert serving.stdout is not None
        heard = serving.stdout.readline()
        serving.send_signal(signal.SIGTERM)
        _, said = serving.communicate(timeout=DEADLINE_S)

    assert '"peers": 0' in heard
    assert re.match(r"warning: .*peers cannot be read \(Not a directory\): nobody is admitted\n", said), said
    assert serving.returncode == 0
    assert without_state(tree(home)) == before


@pytest.fixture(scope="module")
def made_locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("locked")
    (place / "right").write_text("correct horse\n")
    made = peerauth("keygen", "node", "--type", "p256", "--home", place / "home", "--passphrase-file", place / "right")
    assert made.code == 0, made.err
    return place / "home"


@pytest.mark.parametrize("junk", sorted(JUNK.keys() - {"dangling link"}))
@pytest.mark.parametrize("words", WITH_KEY, ids=lambda words: words[0])
def test_passphrase_file_is_junk(made_locked: Path, tmp_path: Path, junk: str, words: list[str]) -> None:
    home = shutil.copytree(made_locked, tmp_path / "home")
    file = put(junk, tmp_path / "junk")
    before = tree(tmp_path)
    result = peerauth("--home", home, *words, "--passphrase-file", file)

    well_said(result, 1)
    assert str(file) in result.err or "node.key" in result.err  # it is no file, or its first line does not open the key
    assert tree(tmp_path) == before


# Words


ADDRESSES = ["", " ", ":", "host", "host:", "host:x", "host:-1", "host:65536", "host:1:2", "[::1", "[::1]", "::1:x", "a b:1",
             "unix:", "unix:" + "x" * 200, "unix:\0", "é:1", "http://host:1/", *WORDS]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES, ids=lambda address: repr(address[:20]))
@pytest.mark.parametrize(
    "words",
    [["serve", "--listen", "JUNK"], [*SERVE, "--target", "JUNK"], ["connect", "db-1", "--listen", "JUNK"]],
    ids=lambda words: words[-2],
)
def test_address_that_is_none(run: Run, pinned: Path, address: str, words: list[str]) -> None:
    (pinned / "peers/db-1.toml").write_text('address = "localhost:1"\n')
    before = tree(pinned)
    result = run(*[address if word == "JUNK" else word for word in words])

    well_said(result, 2)
    assert f"{words[-2]}: the " in result.err
    assert tree(pinned) == before


@pytest.mark.parametrize(
    "address", sorted({*ADDRESSES} - {"host", "host:", "[::1]"}), ids=lambda address: repr(address[:20])
)
@pytest.mark.parametrize("words", [["connect"], ["peer", "scan"], ["get"], ["check"]], ids=lambda words: words[-1])
def test_other_side_that_nobody_can_be(run: Run, pinned: Path, address: str, words: list[str]) -> None:
    before = tree(pinned)
    result = run(*words, "--", address)

    well_said(result, 1, 2)  # 1: there is no peer of that name, or nobody says who is meant
    assert tree(pinned) == before


@pytest.mark.parametrize("url", ["http://db-1/", "ftp://db-1", "https://", "https:///x", "https://u:p@db-1/", "https://db-1:x/",
                                 "https://db-1:99999/", "https://[db-1/", "https://db-1/\n", "https://db-1/é",
                                 "https://db-1/\x7f", "https://%00/", "file:///etc/passwd"])  # fmt: skip
def test_url_that_cannot_be_asked_for(run: Run, pinned: Path, url: str) -> None:
    before = tree(pinned)
    result = run("get", url)

    well_said(result, 2)
    assert "URL" in result.err
    assert tree(pinned) == before


@pytest.mark.parametrize("words", [["connect", "nobody"], ["get", "https://nobody/"], ["connect", "localhost:1"],
                                   ["connect", "localhost:1", "--peer", "nobody"], ["get", "https://db-1/", "--peer", "\0"],
                                   ["connect", "db-1"], ["check", "nobody"], ["check", "localhost:1", "--peer", "nobody"],
                                   ["check", "db-1"]], ids=" ".join)  # fmt: skip
def test_peer_that_is_not_there_or_nowhere(run: Run, pinned: Path, words: list[str]) -> None:
    before = tree(pinned)
    result = run(*words)

    well_said(result, 1)
    assert "hint: " in result.err
    assert tree(pinned) == before


@pytest.mark.parametrize(
    "words",
    [
        ["-H", "JUNK"],
        ["-H", "X: \r\nY: z"],
        ["-H", "X: a\nb"],
        ["-H", "X: \0"],
        ["-H", "X: é"],
        ["-H", "X y: z"],
        ["-H", ": z"],
        ["-H", ""],
        ["-X", "JUNK"],
        ["-X", ""],
        ["-X", "GET / HTTP/1.1\r\nX: y\r\n\r\n"],
        ["-X", "GÉT"],
        ["--max-wait", "JUNK"],
        ["--max-wait", "0"],
        ["--max-wait", "nan"],
        ["--max-wait", "inf"],
        ["--max-wait", "1e300"],
        ["--max-wait", "-1"],
        ["--JUNK"],
        ["JUNK"],
    ],
    ids=repr,
)
@pytest.mark.parametrize("junk", WORDS, ids=range(5))
def test_get_with_words_that_cannot_be_sent(run: Run, pinned: Path, words: list[str], junk: str) -> None:
    if not any("JUNK" in word for word in words) and junk != WORDS[0]:
        return
    if junk == "9" * 5000 and words[0] in {"-X", "-H"}:
        junk = "9 9"  # digits alone are a method that nobody has, and that can be sent
    if junk == "x" * 100_000 and words[0] == "-X":
        junk = "x x"
    before = tree(pinned)
    result = run("get", "https://localhost:1/", "--peer", "db-1", *[word.replace("JUNK", junk) for word in words])

    assert result.code == 2, result.err
    assert "Traceback" not in result.err
    assert "error: " in result.err
    assert all(line.isprintable() for line in result.err.splitlines())
    assert len(result.err) < 10_000
    assert tree(pinned) == before


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize("junk", ["directory", "circle of links", "missing"])
def test_body_that_cannot_be_read(run: Run, tmp_path: Path, junk: str) -> None:
    file = put(junk, tmp_path / "body")
    result = run("get", "https://localhost:1/", "--peer", "db-1", "-d", f"@{file}")

    well_said(result, 1)
    assert f"{file} cannot be read" in result.err


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize("file", ["", "\0", "\x1b[2J", "\udcff", "x" * 10_000])
def test_body_whose_name_is_junk(run: Run, file: str) -> None:
    well_said(run("get", "https://localhost:1/", "--peer", "db-1", "-d", f"@{file}"), 1)


@pytest.mark.parametrize(
    "words",
    [
        [*SERVE, "--allow", "JUNK"],
        ["serve", "--target", "127.0.0.1:1"],
        [*SERVE, "--target", "127.0.0.1:1", "--on-unknown", "explain"],
        [*SERVE, "--on-unknown", "JUNK"],
        ["serve", "--", "true"],
        ["serve", "--proxy-protocol", "v2"],
        [*SERVE, "--proxy-protocol", "JUNK"],
        [*SERVE, "--proxy-protocol", "v2", "--", "true"],
        [*SERVE, "--target", ":1", "--target", ":1"],
        [*SERVE, "--target", ":1", "--", "true"],
        ["serve", "JUNK"],
        [*SERVE, "--JUNK"],
        ["connect"],
        ["connect", "a", "JUNK"],
        ["get"],
        ["peer", "scan"],
        ["peer", "scan", "localhost:1", "--expect", "JUNK"],
        ["peer", "scan", "localhost:1", "--add", "JUNK"],
        ["demo", "JUNK"],
        ["demo", "--JUNK"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("junk", WORDS, ids=range(5))
def test_words_that_make_no_sense(run: Run, pinned: Path, words: list[str], junk: str) -> None:
    before = tree(pinned)
    result = run(*[word.replace("JUNK", junk) for word in words])

    assert result.code == 2, result.err
    assert "Traceback" not in result.err
    assert "error: " in result.err
    assert all(line.isprintable() for line in result.err.splitlines())
    assert len(result.err) < 10_000
    assert tree(pinned) == before


@pytest.mark.parametrize("words", [[*SERVE], ["connect", "db-1", "--listen", "127.0.0.1:0"]], ids=lambda words: words[0])
@pytest.mark.parametrize(
    "where", ["unix:DIR", "unix:DIR/missing/sock", "unix:DIR/file", "unix:DIR/loop", "192.0.2.1:0", "nowhere.invalid:0"]
)
def test_place_where_nothing_can_listen(run: Run, pinned: Path, tmp_path: Path, words: list[str], where: str) -> None:
    (pinned / "peers/db-1.toml").write_text('address = "localhost:1"\n')
    write(tmp_path / "file", b"precious")
    put("circle of links", tmp_path / "loop")
    before = tree(tmp_path)
    result = run(*words[:-1], where.replace("DIR", str(tmp_path)))

    well_said(result, 1)
    assert "cannot listen on" in result.err or "no address of this machine" in result.err
    assert without_state(tree(tmp_path)) == before


@pytest.mark.usefixtures("pinned")
def test_port_that_is_taken(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = run("serve", "--listen", f"127.0.0.1:{other.getsockname()[1]}")

    well_said(result, 1)
    assert "hint: another program listens there" in result.err


# Where the answer goes


def answer(tls: ssl.SSLSocket) -> None:
    tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nyes")


@pytest.mark.usefixtures("pinned")
def test_output_file_is_written_where_it_can_be(run: Run, tmp_path: Path) -> None:
    with db_1(answer) as where:
        result = run("get", f"https://{where}/", "--peer", "db-1", "-o", tmp_path / "out")
    assert (result.code, (tmp_path / "out").read_bytes()) == (0, b"yes")


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize(
    "place", ["DIR", "", "DIR/missing/out", "/dev/full", "/dev/null/out", "DIR/" + "x" * 300, "DIR/\x1b\n"]
)
def test_output_that_cannot_be_written(run: Run, tmp_path: Path, place: str) -> None:
    put("directory", tmp_path / "\x1b\n")
    before = tree(tmp_path)
    with db_1(answer) as where:
        result = run("get", f"https://{where}/", "--peer", "db-1", "-o", place.replace("DIR", str(tmp_path)))

    well_said(result, 1)
    assert "cannot write " in result.err
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "words", [["get", "https://WHERE/"], ["peer", "scan", "WHERE"], ["check", "WHERE"]], ids=lambda words: words[0]
)
def test_standard_output_is_full(pinned: Path, words: list[str]) -> None:
    with db_1(answer) as where, Path("/dev/full").open("wb") as full:
        peer = ["--peer", "db-1"] if words[0] == "get" else []
        done = subprocess.run(
            [sys.executable, "-m", "peerauth", "--home", pinned, *[w.replace("WHERE", where) for w in words], *peer],
            cwd=CHECKOUT,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    assert done.returncode == 1, done.stderr
    assert "error: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


# Servers


def reset(sock: socket.socket) -> None:
    sock.recv(1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def says(data: bytes, *, first: bool = False) -> Callable[[socket.socket], object]:
    """Something that says this, and waits for an answer: before (`first`) or after the client has spoken."""

    def behave(sock: socket.socket) -> None:
        if not first:
            sock.recv(9999)
        sock.sendall(data)
        if first:
            sock.recv(9999)

    return behave


GARBAGE: dict[str, Callable[[socket.socket], object]] = {
    "mail": says(b"220 mail.example ESMTP\r\n", first=True),
    "HTTP": says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "noise": says(bytes(range(256)) * 100, first=True),
    "zeros": says(bytes(10_000), first=True),
    "escapes": says(b"\x1b[2J\x1b]0;owned\x07\n", first=True),
    "endless record": says(b"\x16\x03\x03\xff\xff" + b"A" * 66_000),
    "half a record": says(b"\x16\x03\x03\x01\x00\x02"),
    "odd alert": says(b"\x15\x03\x03\x00\x02\x02\xfe"),
    "end": lambda _: None,
    "reset": reset,
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("words", TALKING[1:], ids=lambda words: words[0])
def test_server_that_speaks_no_tls(run: Run, pinned: Path, garbage: str, words: list[str]) -> None:
    before = tree(pinned)
    with target(GARBAGE[garbage]) as where:
        there = {
            "check": ["check", str(where), "--peer", "db-1", "--max-wait", "1"],
            "connect": ["connect", str(where), "--peer", "db-1"],
            "get": ["get", f"https://{where}/", "--peer", "db-1"],
            "join": ["join", token(where)],
            "peer": ["peer", "scan", str(where), "--add", "x"],
        }
        result = run(*there[words[0]])

    well_said(result, 4, 3)  # 3: an alert is a refusal
    assert str(where) in result.err
    assert tree(pinned) == before


HTTP: dict[str, bytes] = {
    "noise": bytes(range(256)) * 100,
    "nothing": b"",
    "mail": b"220 mail.example ESMTP\r\n\r\n",
    "half a line": b"HTTP/1.1 2",
    "no status": b"HTTP/1.1\r\n\r\n",
    "odd status": b"HTTP/1.1 \xff\xff\xff OK\r\n\r\n",
    "huge line": b"HTTP/1.1 200 " + b"O" * 100_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
    "broken chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    "minus chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n",
    "cut off": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc",
}


@pytest.mark.parametrize("http", HTTP)
@pytest.mark.parametrize("options", [[], ["-i"], ["--json"], ["-o"]], ids=str)
def test_server_that_speaks_no_http(pinned: Path, tmp_path: Path, http: str, options: list[str]) -> None:
    before = tree(tmp_path)
    extra = [*options, tmp_path / "out"] if options == ["-o"] else options
    with db_1(lambda tls: tls.sendall(HTTP[http])) as where:
        ask = peerauth if "--json" in options or "-o" in options else process  # the others write bytes
        result = ask("get", f"https://{where}/", "--peer", "db-1", "--home", pinned, *extra)

    well_said(result, 1, 4)
    assert where in result.err
    assert tree(tmp_path) == before


ODD = {
    "control characters": b"HTTP/1.1 200 \x1b[2J\r\nX: \x1b]0;owned\x07\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\nConnection: close\r\n\r\nok",
    "odd length": b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\nConnection: close\r\n\r\nok",
    "minus length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\nConnection: close\r\n\r\nok",
    "huge length": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\nConnection: close\r\n\r\nok",
    "odd encoding": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    "not UTF-8": b"HTTP/1.1 200 \xff\r\nX: \xff\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("options", [["-i", "-v"], ["--json"], ["-o", "OUT"], ["-f"]], ids=str)
def test_odd_answer_is_shown_or_explained(pinned: Path, tmp_path: Path, odd: str, options: list[str]) -> None:
    before = tree(tmp_path)
    with db_1(lambda tls: tls.sendall(ODD[odd])) as where:
        words = [str(tmp_path / "out") if word == "OUT" else word for word in options]
        ask = peerauth if "--json" in words or "-o" in words else process
        result = ask("get", f"https://{where}/", "--peer", "db-1", "--home", pinned, *words)

    if result.code:
        well_said(result, 1)
        assert tree(tmp_path) == before
    assert all(line.isprintable() for line in (result.out + result.err).splitlines())


@pytest.mark.parametrize("words", [["connect"], ["get"], ["peer", "scan"]], ids=lambda words: words[-1])
@pytest.mark.parametrize("place", ["closed", "nowhere.invalid:1", "unix:/nowhere/sock", "unix:/dev/null", "unix:DIR"])
def test_place_where_nobody_is(run: Run, pinned: Path, tmp_path: Path, place: str, words: list[str]) -> None:
    if place.startswith("unix:") and words == ["get"]:
        (pinned / "peers/db-1.toml").write_text(f'address = "{place.replace("DIR", str(tmp_path))}"\n')
        where = "db-1"
    else:
        where = f"127.0.0.1:{unused_port()}" if place == "closed" else place.replace("DIR", str(tmp_path))
    before = tree(pinned)
    result = run(*words, where, *([] if words[-1] == "scan" else ["--peer", "db-1"]))

    well_said(result, 4)
    assert where in result.err or "nowhere.invalid" in result.err or place.startswith("unix:")
    if place == "closed":
        assert "hint: " in result.err
    assert tree(pinned) == before


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize("number", ["0", "65", "-1", "1.5", "x", "", "9" * 30])
def test_number_of_workers_that_cannot_be(run: Run, number: str) -> None:
    result = run(*SERVE, "--workers", number)

    well_said(result, 2)
    assert f"'--workers': '{number}' is no whole number between 1 and 64" in result.err


@pytest.mark.usefixtures("pinned")
def test_workers_where_the_system_has_no_fork(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.fork")
    result = run(*SERVE, "--workers", "2")

    well_said(result, 2)
    assert "hint: serve with --workers 1" in result.err

"""Promise 7: the private key stays put: created 0600, never printed, logged or sent."""

from __future__ import annotations

import base64
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from peerauth.trust.identity import Identity, load_identity
from tests.cli.running import environment, peerauth, process
from tests.promises.test_promise_9 import Impostor
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, identity


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = tmp_path / "home"
    assert process("keygen", "node", "--type", "p256", "--home", place).code == 0
    return place


def secrets_of(own: Identity) -> list[bytes]:
    """Every form in which the key could slip out: the PEM's lines, the number in hex, decimal, raw and base64."""
    pem = own.key_pem()
    traditional = own.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    number = own.key.private_numbers().private_value  # type: ignore[union-attr]
    raw = number.to_bytes(32)
    lines = [line for text in (pem, traditional) for line in text.split(b"\n") if len(line) > 10 and b"--" not in line]
    return [*lines, raw, raw.hex().encode(), raw.hex(":").encode(), str(number).encode(), base64.b64encode(raw)[:-2]]


def told(data: bytes, own: Identity) -> list[bytes]:
    return [secret for secret in secrets_of(own) if secret.lower() in data.lower()]


def own_of(home: Path) -> Identity:
    return load_identity((home / "node.key").read_bytes(), (home / "node.crt").read_bytes())


def test_test_can_tell(home: Path) -> None:
    own = own_of(home)
    assert told(b"x" + own.key_pem(), own)
    assert not told((home / "node.crt").read_bytes(), own)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_key_is_created_for_its_owner_alone_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    script = "import os, sys; os.umask(int(sys.argv[1])); from peerauth.cli.main import main; sys.exit(main(sys.argv[2:]))"
    home = tmp_path / "home"
    home.mkdir()
    words = ["keygen", "node", "--type", "p256", "--home", str(home)]
    for extra in ([], ["--force"]):
        done = subprocess.run(
            [sys.executable, "-c", script, str(mask), *words, *extra], env=environment(), capture_output=True, check=False
        )
        if mask == 0o777 and os.getuid() != 0:
            return  # then not even the owner can go on
        assert done.returncode == 0, done.stderr
        for key in home.glob("node.key*"):
            assert stat.S_IMODE(key.stat().st_mode) & 0o177 == 0, key


@pytest.mark.parametrize("how", [("--json",), ("-vv",)])
def test_no_command_prints_the_key(home: Path, tmp_path: Path, how: tuple[str, ...]) -> None:
    own = own_of(home)
    friend = tmp_path / "friend.crt"
    friend.write_text(identity("friend").certificate.pem)
    impostor = Impostor(identity("friend"))
    where = f"127.0.0.1:{impostor.port}"
    commands: list[tuple[tuple[str | Path, ...], int]] = [
        (("id",), 0),
        (("id", "--pem"), 0),
        (("id", "--fingerprint"), 0),
        (("peer", "add", friend, "--name", "friend", "--address", where), 0),
        (("peer", "add", home / "node.key"), 1),
        (("peer", "list"), 0),
        (("peer", "show", "friend"), 0),
        (("peer", "scan", where), 0),
        (("get", "https://friend/"), 0),
        (("connect", "nobody"), 1),
        (("keygen", "node"), 1),
        (("keygen", "node", "--type", "p256", "--force"), 0),
        (("serve", "--listen", "256.0.0.1:1"), 1),
    ]
    for words, code in commands:
        run = process if words[0] == "get" else peerauth  # a process of its own where bytes are written
        result = run("--home", home, *words, *how)
        said = (result.out + result.err).encode()
        assert not told(said, own), words
        assert b"PRIVATE KEY" not in said, words
        assert result.code == code, (words, result)
    impostor.stop()
    assert not told(b"".join(impostor.heard), own)
    assert not any(told(path.read_bytes(), own) for path in (home / "peers").iterdir())


def test_damaged_key_is_reported_without_repeating_it(home: Path) -> None:
    own = own_of(home)
    text = (home / "node.key").read_text()
    (home / "node.key").write_text(text.replace("-----END", "----END"))
    for words in (("id",), ("serve", "--listen", "127.0.0.1:0"), ("get", "https://x.example/"), ("peer", "list")):
        result = peerauth("--home", home, *words, "-vv")
        assert not told((result.out + result.err).encode(), own), words


def test_running_server_says_nothing_of_the_key(home: Path) -> None:
    own = own_of(home)
    (home / "peers" / "alice.crt").write_text(identity("alice").certificate.pem)
    serve = subprocess.Popen(
        [sys.executable, "-m", "peerauth", "serve", "-vv", "--home", home, "--listen", "127.0.0.1:0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert serve.stderr is not None
    said = serve.stderr.readline()
    try:
        port = int(re.search(rb":(\d+) ", said)[1])  # type: ignore[index]
        assert "ALERT" in Caller(identity("stranger")).hear(port)
        with Caller(identity("alice")).open(port) as tls:
            tls.sendall(b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            said += tls.recv(10_000)
        (home / "peers" / "node.crt").write_bytes((home / "node.key").read_bytes())  # a slip of a hand
        while b"node.crt" not in said:
            said += serve.stderr.readline()
    finally:
        serve.terminate()
        said += serve.stderr.read()
        serve.stderr.close()
        serve.wait(DEADLINE_S)
    assert b"Hello, alice!" in said or b"200 OK" in said
    assert not told(said, own)
    assert b"PRIVATE KEY" not in said


def test_an_identity_does_not_show_its_key() -> None:
    own = identity("alice")
    shown = f"{own!r} {own} {[own]}".encode()
    assert not told(shown, own)
    assert b"alice" in shown

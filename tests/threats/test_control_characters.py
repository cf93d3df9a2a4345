"""Threat: names that strangers choose, which move a terminal's cursor, colour it, or forge lines of a log."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import environment, peerauth, process
from tests.promises.test_promise_9 import Impostor
from tests.support.dropin import DEADLINE_S, mint
from tests.support.engine import Caller

EVIL = "eve\x1b[2J\x1b]0;owned\x07\r\n2026-01-01 admitted root\x00\u202edb-1\x9b31m"
UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    place = tmp_path / "home"
    assert process("keygen", "node", "--type", "p256", "--home", place).code == 0
    return place


def harmless(text: str) -> bool:
    """No control character, and no line that begins as the forged one does."""
    return UNSAFE.search(text) is None and not any(line.startswith("2026-01-01 admitted") for line in text.splitlines())


def test_test_can_tell() -> None:
    assert not harmless(EVIL)
    assert harmless("eve\\x1b[2J\n")


@pytest.mark.parametrize("how", [(), ("--json",)])
def test_commands_escape_what_a_certificate_says(home: Path, tmp_path: Path, how: tuple[str, ...]) -> None:
    eve = mint(EVIL)
    file = tmp_path / "eve.crt"
    file.write_text(eve.certificate.pem)
    impostor = Impostor(eve)
    commands = [
        ("peer", "scan", f"127.0.0.1:{impostor.port}"),
        ("peer", "add", file, "--note", "a\x1b[31m note"),
        ("peer", "list"),
        ("peer", "show", "eve"),
        ("peer", "show", "no\x1b[2Jbody"),
        ("get", f"https://127.0.0.1:{impostor.port}/\x1b[2J", "--peer", "eve"),
        ("connect", "\x1b[2J:80"),
    ]
    said = ""
    for words in commands:
        result = peerauth("--home", home, *words, *how)
        said += result.out + result.err
        assert harmless(result.out), words
        assert harmless(result.err), words
        if how and result.out:
            json.loads(result.out)
    impostor.stop()
    assert "eve\\" in said


def test_running_server_escapes_what_it_meets(home: Path) -> None:
    serve = subprocess.Popen(
        [sys.executable, "-m", "peerauth", "serve", "--home", home, "--listen", "127.0.0.1:0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert serve.stderr is not None
    lines = [serve.stderr.readline()]
    try:
        port = int(re.search(r":(\d+) ", lines[0])[1])  # type: ignore[index]
        assert "ALERT" in Caller(mint(EVIL)).hear(port)
        while "refused" not in lines[-1]:
            lines.append(serve.stderr.readline())
        evil_file = os.fsencode(home / "peers") + b"/\x1b[2J\xff.crt"
        with open(evil_file, "w") as file:  # noqa: PTH123 - a name that no text can say
            file.write(mint(EVIL).certificate.pem)
        while "\\x1b[2J" not in lines[-1]:
            lines.append(serve.stderr.readline())
    finally:
        serve.terminate()
        lines += serve.stderr.readlines()
        serve.stderr.close()
        serve.wait(DEADLINE_S)
    assert harmless("".join(lines))

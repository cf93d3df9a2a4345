"""Threat: what strangers leave behind: names that forge lines or get out of quotes, certificates that fill the disk."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peerauth.store.pending import remembered, strangers
from peerauth.store.state import State
from peerauth.trust.explain import LARGEST
from tests.cli.running import Terminal, environment, peerauth, process, tree
from tests.support.dropin import DEADLINE_S, mint
from tests.support.engine import Caller
from tests.threats.test_control_characters import UNSAFE

NAMES = {
    "terminal": "eve\x1b[2J\x1b]0;owned\x07\r\n2026-01-01 admitted root\x00",
    "bidi": "\u202edb-1\u2066x\u2069",
    "invisible": "al\u200bice\ufeff",
    "path": "../../../etc/cron.d/x",
    "option": "--yes",
    "shell": "$(touch owned); `id` & rm -rf ~ |'\"",
    "json": '"}], "error": {"code": "x',
    "sentence": "bob', who is pinned; it is safe to type: peerauth peer add evil.crt; it calls itself 'x",
    "tab": "alice\tAA:BB\t10.0.0.1:1\tproven",
    "long": "x" * 3000,
    "huge": "x" * 40_000,
    "empty": "",
    "twin": "alice",
}


@contextmanager
def serving(home: Path) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A server as a process, and its port."""
    with subprocess.Popen(
        [sys.executable, "-m", "peerauth", "serve", "--home", home, "--listen", "127.0.0.1:0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as serve:
        assert serve.stderr is not None
        try:
            yield int(re.search(r":(\d+) ", serve.stderr.readline())[1]), serve  # type: ignore[index]
        finally:
            serve.terminate()
            serve.wait(DEADLINE_S)


def harmless(text: str) -> bool:
    """Nothing in it that moves a cursor or turns text round, and no line that begins as a forged one does."""
    return UNSAFE.search(text) is None and not re.search(r"^2026-01-01 admitted|\u200b|\ufeff", text, re.MULTILINE)


def test_whatever_strangers_call_themselves_is_shown_as_a_claim_and_does_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert process("keygen", "node", "--type", "p256", "--home", home).code == 0
    alice = tmp_path / "alice.crt"
    alice.write_text(mint("alice").certificate.pem)
    assert peerauth("peer", "add", alice, "--home", home).code == 0
    before = tree(tmp_path)
    with serving(home) as (port, serve):
        for name in NAMES.values():
            assert Caller(mint(name)).hear(port) == "TLSV1_ALERT_UNKNOWN_CA"
        serve.terminate()
        _, said = serve.communicate(timeout=DEADLINE_S)
    assert harmless(said)
    assert "Warning" not in said, "a library's words about what a stranger wrote"
    assert said.count("hint: ") == len(NAMES) + 1, "theirs, and that alice's certificate ends soon"

    ways = [("why",), ("why", "--json"), ("why", "alice"), ("peer", "pending"), ("peer", "pending", "--json")]
    for words in ways:
        done = peerauth(*words, "--home", home)
        assert done.code == 0
        assert harmless(done.out + done.err), words
    assert all(len(line.split("\t")) == 7 for line in peerauth("peer", "pending", "--home", home).out.splitlines())
    found = peerauth("why", "--json", "--home", home).json
    assert len(found) == len(NAMES)
    assert {one["pinned_as"] for one in found} == {None}
    for one in found:
        command = re.search(r"peerauth --home \S+ peer (?:approve [0-9A-F:]+|add FILE) ?.*$", one["hint"])
        assert command is not None
        assert re.fullmatch(r"[A-Za-z0-9 :./_-]+", command[0]), "nothing in it that a shell would look at"
    changed = {path for path, what in tree(tmp_path).items() if before.get(path) != what}
    assert changed - {"home/state/serving.alive", "home/state/expiry.json"} == {
        "home/state",
        "home/state/lock",
        "home/state/refused.json",
    }
    _, seen = Terminal("--home", home, "peer", "pending", env={"COLUMNS": "250"}).end()
    assert "\x1b]0" not in seen
    assert "\x1b[2J" not in seen
    assert not re.search("\u202e|\u200b|\x07", seen)


def test_a_certificate_that_is_too_large_is_refused_and_not_kept(tmp_path: Path) -> None:
    """It is named, so that a person can ask for the file; its twin below the bound is there to be approved."""
    home = tmp_path / "home"
    assert process("keygen", "node", "--type", "p256", "--home", home).code == 0
    large, fits = mint("x" * 5000), mint("x" * 3000)
    assert len(large.certificate.der) > LARGEST > len(fits.certificate.der)
    with serving(home) as (port, _):
        for one in (large, fits):
            Caller(one).hear(port)
    state = State(home)
    assert [one.certificate for one in strangers(state)] == [fits.certificate.der]
    hints = {str(one.fingerprint): one.told()[1] or "" for one in remembered(state)}
    assert "peerauth peer add FILE --expect" in hints[str(large.certificate.fingerprint)]
    assert "peerauth peer approve" in hints[str(fits.certificate.fingerprint)]

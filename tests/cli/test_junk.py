"""Junk in every file and every word: a clear error, the exit code, no traceback, and nothing changed on disk."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.junk import JUNK, put, well_said
from tests.cli.making import make, pem, write
from tests.cli.running import process, tree

P12 = {"PEERAUTH_P12_PASSWORD": "changeit"}


@pytest.mark.parametrize("junk", JUNK)
def test_peer_add_of_junk(run: Run, home: Path, tmp_path: Path, junk: str) -> None:
    file = put(junk, tmp_path / "junk.crt")
    before = tree(home)
    result = run("peer", "add", file)

    well_said(result)
    assert "junk.crt" in result.err
    assert tree(home) == before


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 50, b"A" * (2 << 20), pem(make())[:99]], ids=["empty", "binary", "huge", "cut off"]
)
def test_peer_add_of_junk_from_standard_input(run: Run, home: Path, data: bytes) -> None:
    before = tree(home)
    result = run("peer", "add", "-", stdin=data)

    well_said(result)
    assert "standard input" in result.err
    assert tree(home) == before


@pytest.mark.parametrize("junk", sorted(JUNK.keys() - {"half a PEM", "damaged PEM", "missing", "dangling link"}))
@pytest.mark.parametrize(
    "words",
    [
        ["keygen", "--force"],
        ["id"],
        ["peer", "list"],
        ["peer", "show", "alice"],
        ["peer", "remove", "alice"],
        ["peer", "rename", "alice", "bob"],
        ["peer", "add", "-"],
    ],
    ids=" ".join,
)
def test_config_toml_is_junk(run: Run, home: Path, junk: str, words: list[str]) -> None:
    put(junk, home / "config.toml")
    before = tree(home)
    result = run(*words, stdin=pem(make()))

    well_said(result)
    assert "config.toml" in result.err
    assert tree(home) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[node]\nname = "x"\nnane = "x"', "did you mean 'name'?"),
        ('[node]\nname = "x"\nkeyy = "a"', "did you mean 'key'?"),
        ('[node]\nname = "../x"', "name"),
        ("[node]\nname = 5", "name"),
        ('[node]\nname = "x"\n[[serve]]\nlisten = "here"', "listen"),
        ('[node]\nname = "x"\n[surprise]\n', "surprise"),
        ('node = "x"', "node"),
        ("[node\n", "config.toml:1: "),
    ],
)
def test_a_config_that_says_the_wrong_thing_is_named_by_field(run: Run, home: Path, text: str, said: str) -> None:
    (home / "config.toml").write_text(text)
    result = run("id")

    well_said(result)
    assert result.code == 1
    assert "config.toml" in result.err
    assert said in result.err


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("suffix", ["key", "crt"])
@pytest.mark.parametrize("words", [["id"], ["id", "--p12", "out.p12"]], ids=" ".join)
def test_the_identity_is_junk(run: Run, home: Path, tmp_path: Path, junk: str, suffix: str, words: list[str]) -> None:
    file = put(junk, home / f"node.{suffix}")
    before = tree(tmp_path)
    result = run(*[str(tmp_path / word) if word == "out.p12" else word for word in words], env=P12)

    well_said(result)
    assert file.name in result.err
    assert tree(tmp_path) == before


@pytest.mark.parametrize("junk", sorted(JUNK.keys() - {"missing", "dangling link"}))
@pytest.mark.parametrize("suffix", ["crt", "toml"])
def test_a_peers_file_is_junk(run: Run, home: Path, junk: str, suffix: str) -> None:
    """The list goes on without that peer, and says why; `show` fails."""
    peers = home / "peers"
    write(peers / "bob.crt", pem(make("bob")))
    write(peers / "alice.crt", pem(make("alice")))
    put(junk, peers / f"alice.{suffix}")
    before = tree(home)
    listed, shown = run("peer", "list"), run("peer", "show", "alice")

    if suffix == "toml" and junk in {"empty", "blank"}:  # nothing noted is fine
        assert shown.code == 0
        return
    assert listed.code == 0
    assert [line.split("\t")[0] for line in listed.out.splitlines()] == ["bob"]
    assert f"alice.{suffix}" in listed.err
    well_said(shown)
    assert f"alice.{suffix}" in shown.err
    assert tree(home) == before


@pytest.mark.parametrize("junk", ["empty", "blank line", "huge", "directory", "circle of links", "FIFO", "missing"])
@pytest.mark.parametrize(
    "words",
    [
        ["keygen", "other", "--type", "p256", "--home", "new", "--passphrase-file"],
        ["id", "--p12", "out.p12", "--p12-password-file"],
    ],
    ids=lambda words: words[-1],
)
def test_a_passphrase_file_is_junk(run: Run, tmp_path: Path, junk: str, words: list[str]) -> None:
    file = tmp_path / "junk"
    if junk == "blank line":
        file.write_bytes(b"\nsecond line")
    else:
        put(junk, file)
    before = tree(tmp_path)
    result = run(*[str(tmp_path / word) if word in {"new", "out.p12"} else word for word in words], file)

    well_said(result)
    assert str(file) in result.err
    assert tree(tmp_path) == before


@pytest.mark.parametrize("junk", ["binary", "empty", "directory", "circle of links", "FIFO", "device"])
@pytest.mark.parametrize(
    "words", [["keygen", "n", "--type", "p256"], ["id"], ["peer", "list"], ["peer", "add", "-"]], ids=" ".join
)
def test_the_home_is_junk(run: Run, tmp_path: Path, junk: str, words: list[str]) -> None:
    """A directory that is there and empty is the one good place for keygen."""
    place = put(junk, tmp_path / "junk")
    before = tree(tmp_path)
    result = run(*words, "--home", place, stdin=pem(make()))

    if junk == "directory" and words[0] == "keygen":
        assert result.code == 0
        return
    well_said(result)
    assert "junk" in result.err
    assert tree(tmp_path) == before


@pytest.mark.parametrize("junk", ["binary", "circle of links", "FIFO"])
@pytest.mark.parametrize(
    "words", [["peer", "add", "-"], ["peer", "show", "alice"], ["peer", "remove", "alice"]], ids=" ".join
)
def test_peers_is_no_directory(run: Run, home: Path, junk: str, words: list[str]) -> None:
    put(junk, home / "peers")
    before = tree(home)
    well_said(run(*words, stdin=pem(make("alice"))))
    assert tree(home) == before


NAMES = ["", ".", "..", "../x", "a/b", "a b", "-", "UPPER", "\udcff", "\x1b[31m", "é", "x" * 70, "x" * 100_000, "\n"]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:10]))
@pytest.mark.parametrize(
    "words", [["keygen", "NAME"], ["peer", "show", "NAME"], ["peer", "remove", "NAME"], ["peer", "rename", "NAME", "b"],
              ["peer", "rename", "b", "NAME"], ["peer", "add", "-", "--name", "NAME"]], ids=" ".join
)  # fmt: skip
def test_names_that_cannot_be_names(run: Run, home: Path, name: str, words: list[str]) -> None:
    before = tree(home)
    result = run(*[name if word == "NAME" else word for word in words], stdin=pem(make()))

    well_said(result)
    assert result.code == 2
    assert tree(home) == before


@pytest.mark.parametrize(
    "words",
    [
        ["peer", "add", "FILE", "--expect", "JUNK"],
        ["peer", "add", "FILE", "--until", "JUNK"],
        ["peer", "add", "FILE", "--from", "JUNK"],
        ["peer", "add", "FILE", "--address", "JUNK"],
        ["peer", "add", "FILE", "--max-connections", "JUNK"],
        ["peer", "add", "FILE", "--pin", "JUNK"],
        ["keygen", "--force", "--days", "JUNK"],
        ["keygen", "--force", "--type", "JUNK"],
        ["keygen", "--force", "--san", "JUNK"],
        ["peer", "JUNK"],
        ["JUNK"],
        ["peer", "list", "JUNK"],
        ["id", "--JUNK=x"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("junk", ["", "\x1b[2J junk", "\udcff\udcfe", "9" * 5000, "x" * 100_000], ids=range(5))
def test_values_that_are_junk(run: Run, home: Path, tmp_path: Path, words: list[str], junk: str) -> None:
    file = write(tmp_path / "alice.crt", pem(make()))
    before = tree(home)
    given = [str(file) if word == "FILE" else word.replace("JUNK", junk) for word in words]
    result = run(*given)

    assert result.code == 2
    assert "Traceback" not in result.err
    assert "error: " in result.err
    assert all(line.isprintable() for line in result.err.splitlines())
    assert len(result.err) < 10_000
    assert tree(home) == before


@pytest.fixture
def unreadable_by() -> tuple[str, ...]:
    """What to put before a command so that permissions hold for it: root reads everything."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root reads everything, and setpriv is not installed")
    return (setpriv, "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture
def public(home: Path, tmp_path: Path) -> Path:
    """The home, reachable for anybody."""
    for path in (*tmp_path.parents, tmp_path):
        if path.owner() != "root" or path in {Path("/"), Path("/tmp")}:
            continue
        path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o055)
    (home / "node.key").chmod(0o644)
    return home


def test_a_certificate_that_may_not_be_read(public: Path, tmp_path: Path, unreadable_by: tuple[str, ...]) -> None:
    file = write(tmp_path / "alice.crt", pem(make()))
    file.chmod(0)
    result = process("--home", public, "peer", "add", file, prefix=unreadable_by)

    well_said(result)
    assert "alice.crt cannot be read: Permission denied" in result.err


def test_a_key_that_may_not_be_read_is_no_reason_to_hide_the_certificate(
    public: Path, tmp_path: Path, unreadable_by: tuple[str, ...]
) -> None:
    (public / "node.key").chmod(0)
    shown = process("--home", public, "id", prefix=unreadable_by)
    archived = process("--home", public, "id", "--p12", tmp_path / "x.p12", env=P12, prefix=unreadable_by)

    assert shown.code == 0, shown.err
    well_said(archived)
    assert "node.key cannot be read: Permission denied" in archived.err


def test_peers_that_may_not_be_read_admit_nobody_and_need_a_person(public: Path, unreadable_by: tuple[str, ...]) -> None:
    write(public / "peers" / "alice.crt", pem(make()))
    twin = process("--home", public, "status", "--check", prefix=unreadable_by)
    (public / "peers").chmod(0o700 if unreadable_by else 0)
    result = process("--home", public, "status", "--check", prefix=unreadable_by)
    (public / "peers").chmod(0o755)

    assert (twin.code, result.code) == (0, 1)
    assert "nobody is admitted" in result.out
    assert "Permission denied" in result.out


@pytest.mark.parametrize("words", [["keygen", "--type", "p256", "--force"], ["peer", "add", "-"]], ids=" ".join)
def test_a_home_that_may_not_be_written(public: Path, unreadable_by: tuple[str, ...], words: list[str]) -> None:
    for path in (public, public / "peers"):
        path.chmod(0o555)
    before = tree(public)
    result = process("--home", public, *words, stdin=pem(make("alice")), prefix=unreadable_by)

    well_said(result)
    assert "Permission denied" in result.err
    assert tree(public) == before

"""Promise 4: nothing is lost: every write is atomic and durable; kill -9 at any point leaves the old or the new."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from peerauth.errors import BadInput
from peerauth.store import files
from tests.cli.running import environment, process


@pytest.mark.parametrize(
    ("operation", "steps"),
    [
        *(("first", 20), ("force", 20), ("add", 15), ("remove", 5), ("rename", 10), ("retouch", 8)),
        *(("succeed", 20), ("withdraw", 20), ("drop", 15), ("withdraw-two", 15), ("drop-two", 20)),
    ],
)
def test_killed_at_any_step_the_old_or_the_new_is_left(tmp_path: Path, operation: str, steps: int) -> None:
    words = [sys.executable, "-m", "tests.promises.killing", operation, str(tmp_path)]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=50, check=False, env=environment(), cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= steps


def test_bytes_are_on_the_disk_before_they_have_their_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is what survives a power cut: the content, then the name, then the directory."""
    order: list[str] = []
    for name in ("fsync", "replace", "link"):
        real = getattr(os, name)

        def noted(*arguments: object, name: str = name, real: object = real, **options: object) -> object:
            what = name
            if name == "fsync":
                assert isinstance(arguments[0], int)
                what += " directory" if stat.S_ISDIR(os.fstat(arguments[0]).st_mode) else " file"
            order.append(what)
            return real(*arguments, **options)  # type: ignore[operator]

        monkeypatch.setattr(os, name, noted)
    files.write_atomic(tmp_path / "one", b"1")
    assert order == ["fsync file", "replace", "fsync directory"]
    order.clear()
    files.write_new(tmp_path / "two", b"2")
    assert order == ["fsync file", "link", "fsync directory"]
    with pytest.raises(BadInput, match="nothing was overwritten"):
        files.write_new(tmp_path / "two", b"3")
    assert (tmp_path / "two").read_bytes() == b"2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_key_is_never_overwritten_unasked_and_kept_when_asked(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert process("keygen", "node", "--type", "p256", "--home", home).code == 0
    key, certificate = (home / "node.key").read_bytes(), (home / "node.crt").read_bytes()
    again = process("keygen", "node", "--type", "p256", "--home", home)
    assert again.code == 1
    assert "--force" in again.err
    assert ((home / "node.key").read_bytes(), (home / "node.crt").read_bytes()) == (key, certificate)
    assert process("keygen", "node", "--type", "p256", "--home", home, "--force").code == 0
    assert (home / "node.key").read_bytes() != key
    assert key in [path.read_bytes() for path in home.glob("node.key.old-*")]
    assert certificate in [path.read_bytes() for path in home.glob("node.crt.old-*")]

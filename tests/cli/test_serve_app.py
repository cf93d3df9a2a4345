"""`serve --app` as it is mistyped: exit codes and codes, before anything listens."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.running import peerauth

LISTEN = ("--listen", "127.0.0.1:0")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--app", "main", *LISTEN), "bad-app", "--app: 'main' is not MODULE:ATTRIBUTE"),
        (("--app", "main:app"), "no-listen", "--app needs --listen"),
        (("--app", "main:app", "--target", "127.0.0.1:1", *LISTEN), "two-kinds", "--target and --app are different things"),
        (("--app-dir", "code", *LISTEN), "usage", "--app-dir goes with --app"),
        (("--interface", "asgi", *LISTEN), "usage", "--interface goes with --app"),
        (("--app", "main:app", "--interface", "cgi", *LISTEN), "usage", "cgi"),
    ],
)
def test_options_that_make_no_sense_are_a_usage_error(home: Path, words: tuple[str, ...], code: str, message: str) -> None:
    done = peerauth("serve", "--home", home, "--json", *words)
    assert done.code == 2
    assert done.json["error"]["code"] == code
    assert message in done.json["error"]["message"]


def test_a_module_that_is_not_there_is_named_with_where_it_was_looked_for(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path / "other")])
    done = peerauth("serve", "--home", home, "--app", "no_such_module:app", "--app-dir", tmp_path, *LISTEN)
    assert done.code == 1
    error, hint = done.err.splitlines()[-2:]
    assert error == f"error: there is no module 'no_such_module' in {tmp_path}"
    assert "also looked in " in hint
    assert hint.endswith(f", {tmp_path}/other")

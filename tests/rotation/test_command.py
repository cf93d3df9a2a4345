"""`peerauth rotate` and `keygen --auto-rotate`, as they are typed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from peerauth.errors import BadInput
from peerauth.store.config import AutoRotation, load_config, parse_config
from tests.cli.running import peerauth
from tests.support.members import Member


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--status", "--abort"], "usage"),
        (["--abort", "--compromised"], "usage"),
        (["--status", "--deadline", "1d"], "usage"),
        (["--abort", "--wait"], "usage"),
        (["--compromised", "--deadline", "0"], "usage"),
        (["--key-type", "dsa"], "usage"),
        (["--days", "0"], "usage"),
        (["--deadline", "tomorrow"], "bad-span"),
        (["--overlap", "-1d"], "bad-span"),
        (["--deadline", "999999w"], "bad-span"),
        (["--san", "a name"], "bad-san"),
    ],
)
def test_what_makes_no_sense_changes_nothing(tmp_path: Path, words: list[str], code: str) -> None:
    node = Member.make(tmp_path, "node")
    before = sorted(path.name for path in node.home.iterdir())
    done = peerauth("rotate", *words, "--json", "--home", node.home)
    assert (done.code, done.json["error"]["code"]) == (2, code)
    assert sorted(path.name for path in node.home.iterdir()) == before


def test_where_there_is_no_node_nothing_rotates(tmp_path: Path) -> None:
    for words in ([], ["--status"], ["--abort"]):
        done = peerauth("rotate", *words, "--json", "--home", tmp_path)
        assert (done.code, done.json["error"]["code"]) == (1, "no-config")


def test_status_needs_no_passphrase_and_changes_nothing(tmp_path: Path) -> None:
    node = Member.make(tmp_path, "node", passphrase=b"a passphrase")
    before = sorted(path.name for path in node.home.iterdir())
    done = peerauth("rotate", "--status", "--json", "--home", node.home)
    assert (done.code, done.json["phase"], done.json["next"], done.json["peers"]) == (0, "done", None, [])
    assert sorted(path.name for path in node.home.iterdir()) == before


def test_a_file_of_ours_that_is_damaged_is_named_and_left_alone(tmp_path: Path) -> None:
    node = Member.make(tmp_path, "node")
    path = node.home / "node.rotation.json"
    path.write_text("{")
    before = node.pin
    for words in ([], ["--status"], ["--abort"], ["--compromised"]):
        done = peerauth("rotate", *words, "--json", "--home", node.home)
        assert (done.code, done.json["error"]["code"]) == (1, "bad-rotation")
        assert "node.rotation.json" in done.json["error"]["message"]
    assert (path.read_text(), node.pin) == ("{", before)


def test_a_next_key_that_is_none_of_ours_is_not_overwritten(tmp_path: Path) -> None:
    node = Member.make(tmp_path, "node")
    foreign = node.home / "node.next.key"
    foreign.write_text("somebody's")
    done = peerauth("rotate", "--json", "--home", node.home)
    assert (done.code, done.json["error"]["code"]) == (1, "exists")
    assert foreign.read_text() == "somebody's"


def test_options_of_a_rotation_under_way_are_not_silently_ignored(tmp_path: Path) -> None:
    node = Member.make(tmp_path, "node")
    node.knows(Member.make(tmp_path, "away"))
    assert peerauth("rotate", "--home", node.home).code == 0
    done = peerauth("rotate", "--key-type", "ed25519", "--home", node.home)
    assert done.code == 0
    assert "goes on" in done.err
    assert "away\tnext\tno address" in done.out
    assert node.certificate.key_type == "EC P-256"


def test_auto_rotate_is_written_into_a_new_config_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert peerauth("keygen", "node", "--type", "p256", "--auto-rotate", "60d", "--home", home).code == 0
    assert load_config(home).rotation == AutoRotation(timedelta(days=60))
    text = (home / "config.toml").read_text()
    done = peerauth("keygen", "--type", "p256", "--auto-rotate", "30d", "--force", "--home", home)
    assert (done.code, (home / "config.toml").read_text()) == (0, text)
    other = tmp_path / "other"
    assert peerauth("keygen", "node", "--type", "p256", "--home", other).code == 0
    done = peerauth("keygen", "--type", "p256", "--auto-rotate", "30d", "--force", "--home", other)
    assert done.code == 0
    assert 'every = "30d"' in done.err, "what is to be written is said"


def test_where_a_node_lives_already_auto_rotate_is_a_line_of_its_config_and_no_matter_of_force(tmp_path: Path) -> None:
    node = Member.make(tmp_path, "node")
    done = peerauth("keygen", "--auto-rotate", "60d", "--home", node.home)
    assert done.code == 1
    assert '[rotation]: every = "60d"' in done.err
    assert "--force" not in done.err


def test_the_kind_of_the_next_key_is_said_as_keygen_has_it(tmp_path: Path) -> None:
    node = Member.make(tmp_path, "node")
    assert peerauth("rotate", "--type", "ed25519", "--home", node.home).code == 0
    assert node.certificate.key_type == "Ed25519"


def test_after_a_compromise_it_is_said_what_to_type_on_each_peer(tmp_path: Path) -> None:
    node = Member.make(tmp_path, "node")
    done = peerauth("rotate", "--compromised", "--home", node.home)
    assert done.code == 0
    assert f"peerauth peer approve {node.pin}; " in done.err
    assert "peerauth peer add node.crt" in done.err


@pytest.mark.parametrize("span", ["6h", "0", "soon", "99999w"])
def test_auto_rotate_is_a_day_or_more(tmp_path: Path, span: str) -> None:
    done = peerauth("keygen", "node", "--auto-rotate", span, "--json", "--home", tmp_path / "home")
    assert (done.code, done.json["error"]["code"]) == (2, "bad-span")
    assert not (tmp_path / "home").exists()


def test_config_says_when_and_on_what_terms(tmp_path: Path) -> None:
    def rotation(text: str) -> AutoRotation | None:
        return parse_config(f'[node]\nname = "node"\n[rotation]\n{text}\n'.encode(), tmp_path).rotation

    assert rotation("") is rotation('deadline = "1d"') is rotation("every = 0") is None
    days = timedelta(days=1)
    assert rotation('every = "60d"\ndeadline = "1d"\noverlap = 172800') == AutoRotation(60 * days, days, 2 * days)
    for wrong in ('every = "6h"', 'every = "soon"', "every = -1", 'every = "60d"\ndeadline = "now"', "often = true"):
        with pytest.raises(BadInput):
            rotation(wrong)

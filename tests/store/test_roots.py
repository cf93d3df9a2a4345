"""Which directories may be served."""

from __future__ import annotations

from pathlib import Path

import pytest

from peerauth.errors import BadInput
from peerauth.store.config import Config, parse_config
from peerauth.store.kinds import Root
from peerauth.store.roots import check_root


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A node whose key and peers stand elsewhere than its home."""
    for name in ("home/state", "home/public/docs", "keys", "peers/old", "srv"):
        (tmp_path / name).mkdir(parents=True)
    text = '[node]\nname = "node"\nkey = "../keys/node.key"\npeers = "../peers"\n[[serve]]\nlisten = ":1"\nroot = "public"\n'
    (tmp_path / "keys/node.key").write_text("")
    return parse_config(text.encode(), tmp_path / "home")


def test_a_root_is_relative_to_the_home(config: Config, tmp_path: Path) -> None:
    assert config.services[0].kind == Root(tmp_path / "home/public")


@pytest.mark.parametrize("name", ["home/public", "home/public/docs", "srv"])
def test_a_directory_of_its_own_may_be_served(config: Config, tmp_path: Path, name: str) -> None:
    check_root(tmp_path / name, config)
    (tmp_path / "link").symlink_to(tmp_path / name)
    check_root(tmp_path / "link", config)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("home", "the home of this node"),
        (".", "the private key"),
        ("keys", "the private key"),
        ("home/state", "what the program notes"),
        ("peers", "its peers"),
        ("peers/old", "its peers"),
    ],
)
def test_a_directory_with_what_is_the_nodes_own_may_not(config: Config, tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "srv/link").symlink_to(tmp_path / name)
    for directory in (tmp_path / name, tmp_path / "srv" / ".." / name, tmp_path / "srv/link"):
        with pytest.raises(BadInput, match=what) as caught:
            check_root(directory, config)
        assert caught.value.code == "bad-root"


@pytest.mark.parametrize("name", ["nothing", "keys/node.key"])
def test_what_is_no_directory_is_not_served(config: Config, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_root(tmp_path / name, config)
    assert caught.value.code == "not-a-directory"


@pytest.mark.parametrize("value", ['""', '"a\\u0000b"'])
def test_what_is_no_path_is_an_error_that_says_where_it_stands(tmp_path: Path, value: str) -> None:
    text = f'[node]\nname = "node"\n[[serve]]\nlisten = ":1"\nroot = {value}\n'
    with pytest.raises(BadInput, match=r"serve\[1\]\.root is not usable") as caught:
        parse_config(text.encode(), tmp_path)
    assert caught.value.code == "bad-setting"


def test_a_service_is_one_thing(tmp_path: Path) -> None:
    text = '[node]\nname = "node"\n[[serve]]\nlisten = ":1"\nroot = "."\ntarget = ":2"\n'
    with pytest.raises(BadInput, match="two different things to be"):
        parse_config(text.encode(), tmp_path)

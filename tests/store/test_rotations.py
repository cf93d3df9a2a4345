"""What a node has said about its certificates is kept, in order, and nothing that is no statement."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from peerauth.errors import BadInput
from peerauth.store import rotations
from peerauth.store.config import Config, parse_config
from peerauth.store.rotations import append_statement, read_statements, rotations_path
from peerauth.trust.continuity import LARGEST, Kind, endorse
from tests.support.engine import identity

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def node(home: Path) -> Config:
    return parse_config(b'[node]\nname = "node"\n', home)


@cache
def statement(number: int) -> bytes:
    old, new = identity(f"own-{number}"), identity(f"own-{number + 1}")
    return endorse(Kind.NEXT, old, new, NOW + timedelta(days=number), NOW + timedelta(days=number + 7)).data


def test_statements_come_back_in_order_and_once(tmp_path: Path) -> None:
    assert read_statements(node(tmp_path)) == ()
    for number in (0, 1, 0, 2, 1):
        append_statement(node(tmp_path), statement(number))
    assert read_statements(node(tmp_path)) == (statement(0), statement(1), statement(2))
    assert rotations_path(node(tmp_path)) == tmp_path / "node.rotations"


def test_what_is_no_statement_is_not_written(tmp_path: Path) -> None:
    append_statement(node(tmp_path), statement(0))
    for junk in (b"", b"junk", statement(1)[:-9], statement(1).replace(b",", b",\n", 1)):
        with pytest.raises(BadInput) as error:
            append_statement(node(tmp_path), junk)
        assert error.value.code == "bad-statement"
    assert read_statements(node(tmp_path)) == (statement(0),)


def test_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotations, "MOST", 2)
    for number in range(4):
        append_statement(node(tmp_path), statement(number))
    assert read_statements(node(tmp_path)) == (statement(2), statement(3))


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    rotations_path(node(tmp_path)).write_bytes(b"x" * (rotations.MOST * (LARGEST + 1) + 1))
    with pytest.raises(BadInput, match="larger"):
        read_statements(node(tmp_path))


def test_several_at_once_lose_none(tmp_path: Path) -> None:
    said = [statement(number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: append_statement(node(tmp_path), one), said))
    assert sorted(read_statements(node(tmp_path))) == sorted(said)

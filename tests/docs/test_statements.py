"""docs/statements.json and docs/protocol.md say what the program does: another implementation is written from them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from peerauth.control.wire import LONGEST
from peerauth.errors import BadInput
from peerauth.server.desk import LONGEST_OF_A_STRANGER
from peerauth.trust.continuity import LARGEST, Kind, read_statement
from peerauth.trust.succession import AHEAD, LONGEST_OVERLAP, MOST
from tests.docs.pages import CHECKOUT

VECTORS: list[dict[str, Any]] = json.loads((CHECKOUT / "docs/statements.json").read_text("utf-8"))
GOOD = [vector for vector in VECTORS if vector["good"]]
BAD = [vector for vector in VECTORS if not vector["good"]]
PAGE = (CHECKOUT / "docs/protocol.md").read_text("utf-8")


@pytest.mark.parametrize("vector", GOOD, ids=lambda vector: str(vector["name"]))
def test_a_good_statement_says_what_is_listed(vector: dict[str, Any]) -> None:
    said = read_statement(vector["statement"].encode())
    moments = [f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (said.issued, said.retire)]
    assert [str(said.kind), said.old.fingerprint.digest.hex(), said.new.fingerprint.digest.hex(), *moments] == [
        vector[key] for key in ("kind", "old", "new", "issued", "retire")
    ]


@pytest.mark.parametrize("vector", BAD, ids=lambda vector: str(vector["name"]))
def test_a_bad_statement_is_none(vector: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as error:
        read_statement(vector["statement"].encode())
    assert error.value.code == "bad-statement"


def test_there_are_vectors_of_every_kind() -> None:
    assert {vector["kind"] for vector in GOOD} == {*Kind}
    assert len(BAD) >= 15
    assert len({vector["name"] for vector in VECTORS}) == len(VECTORS)


def test_the_limits_are_those_of_the_program() -> None:
    for text in (
        f"up to {LARGEST:,} bytes".replace(",", " "),
        f"Up to {LONGEST:_} bytes, {LONGEST_OF_A_STRANGER:_} from".replace("_", " "),
        f"a chain, up to {MOST} |",
        f"at most {LONGEST_OVERLAP.days} days from now",
        {3600.0: "not more than an hour ahead"}[AHEAD.total_seconds()],
    ):
        assert text in PAGE, text

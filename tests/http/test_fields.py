"""How a field is treated is remembered by its spelling, and whoever makes up spellings makes us no larger."""

from __future__ import annotations

import pytest

from peerauth.http.fields import DROPPED, PASSED, Treatment


@pytest.mark.parametrize(("length", "kept"), [(64, True), (65, False)])
def test_a_spelling_is_kept_unless_it_is_long_and_treated_alike(length: int, kept: bool) -> None:
    treatment = Treatment((b"host",), lambda name: name.startswith(b"x-peer-"))
    for name, kind in ((b"a" * length, PASSED), (b"X-Peer-".ljust(length, b"a"), DROPPED)):
        assert treatment[name] == treatment[name] == kind
        assert (name in treatment) is kept


def test_no_more_spellings_are_kept_than_a_number() -> None:
    treatment = Treatment((b"host",))
    assert {treatment[b"X-%d" % number] for number in range(5000)} == {PASSED}
    assert len(treatment) <= 1024
    assert treatment[b"HoSt"] == b"host"

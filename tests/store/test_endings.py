"""When the peers' certificates end is known from reading their files, in whichever way they were read."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from peerauth.store import files
from peerauth.store.peerdir import PeerDirectory
from peerauth.trust.identity import Identity
from tests.support.dropin import NOW, mint
from tests.support.engine import Yard

DAY = timedelta(days=1)
SOON, LATER = mint("x", until=NOW + 3 * DAY), mint("x", until=NOW + 90 * DAY)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path / "peers")


def ends(yard: Yard, directory: PeerDirectory | None = None) -> dict[str, Identity]:
    directory = directory or PeerDirectory(yard.path)
    directory.refresh()
    known = {made.certificate.fingerprint: made for made in (SOON, LATER)}
    found = list(directory.endings(NOW + 1000 * DAY))
    for ending in found:
        assert ending.not_after == known[ending.fingerprint].certificate.not_after
    assert len({ending.name for ending in found}) == len(found)
    return {ending.name: known[ending.fingerprint] for ending in found}


@pytest.mark.parametrize("form", ["pem", "der", "text", "notes"])
def test_every_form_of_a_file_says_when_its_certificate_ends(yard: Yard, form: str) -> None:
    certificate = SOON.certificate
    contents = {"der": certificate.der, "text": f"alice's\n{certificate.pem}".encode()}
    yard.place("alice.crt", contents.get(form, certificate.pem.encode()))
    if form == "notes":
        yard.place("alice.toml", 'note = "x"')
    assert ends(yard) == {"alice": SOON}


def test_a_peer_ends_with_the_pin_that_lasts_longest(yard: Yard) -> None:
    """While it changes from one certificate to the next, the old one's end is no news."""
    yard.pin("alice", SOON, LATER)
    yard.pin("bob", LATER, SOON)
    assert ends(yard) == {"alice": LATER, "bob": LATER}


def test_a_peer_whose_key_is_pinned_does_not_end(yard: Yard) -> None:
    """Its pinned certificate does, but it may have a newer one over the same key; the twin is pinned by certificate."""
    yard.pin("alice", SOON, settings='pin = "key"')
    yard.pin("bob", LATER, settings='pin = "cert"')
    assert ends(yard) == {"bob": LATER}


def test_a_peer_that_is_admitted_until_an_earlier_day_ends_by_that(yard: Yard) -> None:
    """What its certificate does afterwards is nobody's concern; the twin is admitted for longer than it is valid."""
    yard.pin("alice", SOON, settings=f"until = {NOW + 2 * DAY:%Y-%m-%d}")
    yard.pin("bob", SOON, settings=f"until = {NOW + 5 * DAY:%Y-%m-%d}")
    assert ends(yard) == {"bob": SOON}


def test_who_is_not_admitted_does_not_end(yard: Yard) -> None:
    yard.pin("alice", SOON, settings="nonsense")
    yard.place("bob.crt", "nonsense")
    yard.pin("carol", SOON)
    assert ends(yard) == {"carol": SOON}


def test_a_broken_file_leaves_the_end_that_was_known(yard: Yard) -> None:
    directory = PeerDirectory(yard.path)
    yard.pin("alice", SOON)
    assert ends(yard, directory) == {"alice": SOON}
    yard.place("alice.crt", "half a")
    assert ends(yard, directory) == {"alice": SOON}
    yard.pin("alice", LATER)
    assert ends(yard, directory) == {"alice": LATER}
    yard.unpin("alice")
    assert ends(yard, directory) == {}


def test_endings_open_no_file(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = PeerDirectory(yard.path)
    yard.pin("alice", SOON)
    yard.pin("bob", LATER, settings='note = "x"')
    directory.refresh()

    def never(*_: object) -> None:
        raise AssertionError("a file was read")

    monkeypatch.setattr(files, "read_with_status", never)
    assert {ending.name for ending in directory.endings(NOW + 90 * DAY)} == {"alice", "bob"}
    assert [ending.name for ending in directory.endings(NOW + 90 * DAY, ["bob", "nobody"])] == ["bob"]
    assert [ending.name for ending in directory.endings(NOW + 89 * DAY)] == ["alice"]
    assert list(directory.endings(NOW + 3 * DAY, ["bob"])) == []

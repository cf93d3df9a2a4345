"""A peer that proposes its own name gets a free one, and never one that was kept for somebody."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from peerauth.errors import BadInput
from peerauth.store.config import parse_config, reserved_names
from peerauth.store.peerdir import PeerDirectory
from peerauth.trust.identity import self_signed
from peerauth.trust.peers import PeerSettings
from tests.support.dropin import NOW
from tests.support.engine import identity

CONFIG = b"""
[node]
name = "node"
[[serve]]
listen = ":0"
allow = ["db-1", "tag:ci", "@ops"]
[groups]
ops = ["olga", "tag:night"]
guests = ["gus"]
"""


def test_names_of_services_and_groups_are_reserved(tmp_path: Path) -> None:
    assert reserved_names(parse_config(CONFIG, tmp_path)) == {"db-1", "olga", "gus"}


def test_a_free_name_is_taken_and_a_taken_one_gets_a_number(tmp_path: Path) -> None:
    peers = PeerDirectory(tmp_path / "peers")
    settings = PeerSettings(tags=("ci",))
    assert peers.enrol("alice", identity("a").certificate, settings) == "alice"
    assert peers.enrol("alice", identity("b").certificate) == "alice-2"
    assert peers.enrol("alice", identity("c").certificate) == "alice-3"
    assert [peers.peer(name).tags for name in ("alice", "alice-2")] == [("ci",), ()]


@pytest.mark.parametrize("pin", ["key", "cert"])
def test_whose_key_is_pinned_comes_under_no_second_name(tmp_path: Path, pin: str) -> None:
    """With a newer certificate over it; where the certificate is pinned, that is somebody else."""
    peers = PeerDirectory(tmp_path / "peers")
    first = identity("web")
    peers.add("web", [first.certificate], PeerSettings(pin="key" if pin == "key" else "cert"))
    renewed = self_signed(first.key, "web", NOW, days=7).certificate
    assert peers.enrol("mallory", renewed) == ("web" if pin == "key" else "mallory")
    assert peers.peer("web").pins == (first.certificate.fingerprint,)


def test_whoever_is_pinned_already_stays_as_it_is(tmp_path: Path) -> None:
    peers = PeerDirectory(tmp_path / "peers")
    peers.enrol("alice", identity("a").certificate)
    assert peers.enrol("mallory", identity("a").certificate, PeerSettings(tags=("admin",))) == "alice"
    assert peers.peer("alice").tags == ()
    assert set(peers.current.peers) == {"alice"}


@pytest.mark.parametrize("name", ["db-1", "../evil", "Alice", ""])
def test_a_reserved_or_bad_name_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    peers = PeerDirectory(tmp_path / "peers")
    with pytest.raises(BadInput) as error:
        peers.enrol(name, identity("a").certificate, None, frozenset({"db-1"}))
    assert error.value.code in {"name-reserved", "bad-name"}
    assert not len(peers.refresh())


def test_a_number_does_not_lead_to_a_reserved_name(tmp_path: Path) -> None:
    peers = PeerDirectory(tmp_path / "peers")
    peers.enrol("db", identity("a").certificate, None, frozenset({"db-2"}))
    with pytest.raises(BadInput, match="db-2"):
        peers.enrol("db", identity("b").certificate, None, frozenset({"db-2"}))


def test_a_race_for_a_name_gives_each_its_own(tmp_path: Path) -> None:
    who = [identity(f"racer-{number}") for number in range(6)]

    def enrol(number: int) -> str:
        settings = PeerSettings(note=f"racer-{number}") if number % 2 else None
        return PeerDirectory(tmp_path / "peers").enrol("alice", who[number].certificate, settings)

    with ThreadPoolExecutor(6) as pool:
        names = list(pool.map(enrol, range(6)))
    assert sorted(names) == ["alice", *(f"alice-{number}" for number in range(2, 7))]
    peers = PeerDirectory(tmp_path / "peers").refresh()
    notes = [peers.peers[name].settings.note for name in names]
    assert notes == ["", "racer-1", "", "racer-3", "", "racer-5"]
    assert [peers.holder(one.certificate.fingerprint) for one in who] == [peers.get(name) for name in names]

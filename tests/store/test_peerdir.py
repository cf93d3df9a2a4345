"""The peers directory as files; that a running server follows it is promise 3's."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peerauth.errors import BadInput
from peerauth.store import files
from peerauth.store.peerdir import PeerDirectory
from peerauth.trust.peers import PeerSettings
from tests.support.dropin import mint
from tests.support.engine import Yard, identity

ALICE, BOB = identity("alice").certificate, identity("bob").certificate


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path / "peers")


@pytest.mark.parametrize("suffix", [".crt", ".pem", ".cer", ".der"])
def test_stem_is_the_name_whatever_the_suffix_and_form(yard: Yard, suffix: str) -> None:
    yard.place(f"alice{suffix}", ALICE.der if suffix in {".der", ".cer"} else ALICE.pem)
    assert [(p.name, p.pins) for p in PeerDirectory(yard.path).refresh()] == [("alice", (ALICE.fingerprint,))]


@pytest.mark.parametrize("name", ["a b.crt", "-x.crt", "é.crt", "x" * 65 + ".crt", "~.crt"])
def test_file_whose_name_is_no_name_is_a_problem_and_nobody(yard: Yard, name: str) -> None:
    yard.pin("bob")
    (yard.path / name).write_text(ALICE.pem)
    directory = PeerDirectory(yard.path)
    assert list(directory.refresh().peers) == ["bob"]
    assert [problem.code for problem in directory.problems] == ["bad-name"]


def test_several_files_and_certificates_of_a_name_are_pins_of_one_peer(yard: Yard) -> None:
    yard.place("alice.crt", ALICE.pem)
    yard.place("alice.pem", ALICE.pem + BOB.pem)
    assert [p.pins for p in PeerDirectory(yard.path).refresh()] == [(ALICE.fingerprint, BOB.fingerprint)]


def test_file_with_a_whole_chain_pins_its_leaf_alone(yard: Yard) -> None:
    root = mint("root", ca=True)
    leaf = mint("leaf", issuer=root)
    yard.place("alice.crt", leaf.certificate.pem + root.certificate.pem)
    peers = PeerDirectory(yard.path).refresh()
    assert peers.holder(leaf.certificate.fingerprint) is not None
    assert peers.holder(root.certificate.fingerprint) is None


def test_only_what_changed_is_read_again(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("alice", "bob", "carol"):
        yard.pin(name)
        os.utime(yard.path / f"{name}.crt", (1, 1))
    monkeypatch.setattr("peerauth.store.usual._RACY", -1e9)
    directory = PeerDirectory(yard.path)
    directory.refresh()
    read: list[str] = []
    real = files.read_with_status

    def noting(path: Path | str, limit: int, directory: int | None = None) -> tuple[os.stat_result, bytes]:
        read.append(Path(path).name)
        return real(path, limit, directory)

    monkeypatch.setattr(files, "read_with_status", noting)
    directory.refresh()
    assert read == []
    yard.pin("bob", identity("new"))
    assert directory.refresh().peers["bob"].pins == (identity("new").certificate.fingerprint,)
    assert read == ["bob.crt"]


def test_file_that_changes_within_one_tick_of_the_clock_is_not_missed(yard: Yard) -> None:
    """Same size, same inode, same time: what was just written is read again."""
    other = mint("alice").certificate
    directory = PeerDirectory(yard.path)
    path = yard.path / "alice.crt"
    now = time.time_ns()
    seen = []
    for certificate in (ALICE, other):
        path.write_text(certificate.pem.ljust(2000))
        os.utime(path, ns=(now, now))
        seen.append(directory.refresh().peers["alice"].pins)
    assert seen == [(ALICE.fingerprint,), (other.fingerprint,)]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["alice", "bob"]),
            st.sampled_from(["good", "other", "broken", "empty", "gone", "notes", "bad notes", "no notes"]),
        ),
        max_size=12,
    )
)
def test_broken_files_leave_what_was_known_and_touch_nobody_else(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]
) -> None:
    """A model of the contract, step by step: who is known with which pin and restriction."""
    yard = Yard(tmp_path_factory.mktemp("model") / "peers")
    directory = PeerDirectory(yard.path)
    pins: dict[str, object] = {}
    notes: dict[str, int | str | None] = {}
    for name, step in steps:
        certificate, toml = yard.path / f"{name}.crt", yard.path / f"{name}.toml"
        if step in {"good", "other"}:
            own = identity(name if step == "good" else f"{name}-2").certificate
            yard.place(certificate.name, own.pem)
            pins[name] = own.fingerprint
        elif step in {"broken", "empty"}:
            certificate.write_text("nonsense" if step == "broken" else "")
        elif step == "gone":
            certificate.unlink(missing_ok=True)
            pins.pop(name, None)
        elif step == "notes":
            yard.place(toml.name, "max_connections = 7")
            notes[name] = 7
        elif step == "bad notes":
            yard.place(toml.name, "max_connections = = 7")
            if name not in notes:
                known = name in directory.current
                notes[name] = None if known else "unknown"
        else:
            toml.unlink(missing_ok=True)
            notes.pop(name, None)
        peers = directory.refresh()
        expected = {n: (p, notes.get(n)) for n, p in pins.items() if notes.get(n) != "unknown"}
        assert {p.name: (p.pins[0], p.settings.max_connections) for p in peers} == expected


def test_add_remove_and_rename_do_what_they_say(yard: Yard) -> None:
    directory = PeerDirectory(yard.path)
    noted = PeerSettings(note="x", max_connections=1)
    assert directory.add("alice", [ALICE], noted)
    assert not directory.add("alice", [ALICE])
    for name, certificate, code in (
        ("alice", BOB, "name-taken"),
        ("carol", ALICE, "already-pinned"),
        ("No", BOB, "bad-name"),
    ):
        with pytest.raises(BadInput) as refused:
            directory.add(name, [certificate])
        assert refused.value.code == code
    directory.rename("alice", "carol")
    assert directory.current.peers["carol"].settings == noted
    assert directory.remove("carol") == [ALICE.fingerprint]
    assert list(yard.path.iterdir()) == []
    with pytest.raises(BadInput, match="no peer"):
        directory.remove("carol")


@pytest.mark.parametrize("name", ["../alice", "/etc/passwd", "a/b", "..", "", "a\0b"])
def test_no_name_leads_out_of_the_directory(yard: Yard, name: str) -> None:
    directory = PeerDirectory(yard.path)
    directory.add("bob", [BOB])
    for act in (
        lambda: directory.add(name, [ALICE]),
        lambda: directory.remove(name),
        lambda: directory.rename("bob", name),
        lambda: directory.rename(name, "x"),
        lambda: directory.certificates(name),
    ):
        with pytest.raises(BadInput):
            act()
    assert [path.name for path in yard.path.parent.rglob("*")] == ["peers", "bob.crt"]

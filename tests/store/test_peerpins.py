"""One pin follows another in a peer's files, whatever these look like; and nothing else in them changes."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peerauth.errors import BadInput
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.pinfile import pinned_in, with_pin, without_pins
from peerauth.trust.certificate import Certificate
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.identity import KeyType, new_key, self_signed
from peerauth.trust.peers import PeerSettings
from tests.support.dropin import NOW, mint
from tests.support.engine import Yard, identity

A, B, C = (identity(name).certificate for name in "abc")
SOON, OVER = NOW + timedelta(days=7), NOW - timedelta(days=1)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    yard = Yard(tmp_path / "peers")
    yard.pin("bob")
    return yard


def pins(directory: PeerDirectory, name: str = "alice") -> set[Fingerprint]:
    """Who is pinned as alice, by a fresh look; bob must be as he was."""
    fresh = PeerDirectory(directory.path).refresh()
    assert fresh == directory.current, "what was changed here was not looked at here"
    assert fresh.peers["bob"].pins == (identity("bob").certificate.fingerprint,)
    peer = fresh.get(name)
    return set(peer.pins) if peer else set()


def of(*certificates: Certificate) -> set[Fingerprint]:
    return {one.fingerprint for one in certificates}


@pytest.mark.parametrize("first", [True, False])
def test_of_two_certificates_over_a_pinned_key_the_one_that_spoke_is_followed(yard: Yard, *, first: bool) -> None:
    key = new_key(KeyType.P256)
    pair = self_signed(key, "one", NOW), self_signed(key, "two", NOW)
    yard.pin("alice", *pair, settings='pin = "key"\n')
    directory = PeerDirectory(yard.path)
    directory.refresh()
    assert directory.peer("alice").keys == (pair[0].certificate.key_fingerprint,) * 2, "one for each pin"
    spoke = pair[0 if first else 1].certificate
    directory.succeed("alice", C, SOON, of=spoke, issued=NOW)
    assert noted(directory).follows == ((C.fingerprint, spoke.fingerprint),)


def noted(directory: PeerDirectory) -> PeerSettings:
    return directory.peer("alice").settings


SHAPES = {
    "PEM": {"alice.crt": A.pem.encode()},
    "PEM without an end of line": {"alice.crt": A.pem.rstrip().encode()},
    "PEM with Windows ends of lines": {"alice.crt": A.pem.replace("\n", "\r\n").encode()},
    "PEM with text": {"alice.pem": b"the laptop\n" + A.pem.encode() + b"of alice\n"},
    "DER": {"alice.der": A.der},
    "DER called crt": {"alice.crt": A.der},
    "capitals": {"Alice.CRT": A.pem.encode()},
    "DER under every name": {f"alice.{suffix}": A.der for suffix in ("crt", "pem", "cer", "der")},
    "two files": {"alice.der": A.der, "alice.pem": A.pem.encode()},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pin_comes_beside_the_old_and_goes_again(yard: Yard, shape: str) -> None:
    for name, data in SHAPES[shape].items():
        yard.place(name, data)
    directory = PeerDirectory(yard.path)
    for _ in range(2):
        directory.succeed("alice", B, SOON, of=A, issued=NOW)
        assert pins(directory) == of(A, B)
    settings = noted(directory)
    assert (settings.retire, settings.rotated) == (((A.fingerprint, SOON),), NOW)
    assert settings.follows == ((B.fingerprint, A.fingerprint),)
    for _ in range(2):
        directory.withdraw("alice", B, issued=NOW)
        assert pins(directory) == of(A)
    assert (noted(directory).retire, noted(directory).follows) == ((), ())
    assert directory.drop("alice", A.fingerprint) == [A.fingerprint]
    assert pins(directory) == set()
    assert [path.name for path in yard.path.iterdir() if "lice" in path.name] == ["alice.toml"]


@pytest.mark.parametrize("shape", sorted(SHAPES.keys() - {"PEM without an end of line", "DER under every name"}))
def test_what_the_file_said_beside_stays(yard: Yard, shape: str) -> None:
    before = {yard.place(name, data): data for name, data in SHAPES[shape].items()}
    directory = PeerDirectory(yard.path)
    directory.succeed("alice", B, SOON, of=A)
    directory.withdraw("alice", B)
    for path, data in before.items():
        assert path.read_bytes() == data


def test_a_person_s_notes_and_the_modes_of_files_stay(yard: Yard) -> None:
    yard.pin("alice", identity("a"), settings='note = "laptop"\ntags = ["ci"]\nuntil = 2999-01-01\n')
    (yard.path / "alice.crt").chmod(0o600)
    (yard.path / "alice.toml").chmod(0o640)
    directory = PeerDirectory(yard.path)
    directory.succeed("alice", B, SOON, of=A, issued=NOW)
    settings = noted(directory)
    assert (settings.note, settings.tags, settings.until) == ("laptop", ("ci",), datetime(2999, 1, 2, tzinfo=UTC))
    assert [stat.S_IMODE((yard.path / f"alice.{s}").stat().st_mode) for s in ("crt", "toml")] == [0o600, 0o640]


def test_an_earlier_date_stays_and_without_a_date_nobody_is_retired(yard: Yard) -> None:
    yard.pin("alice", identity("a"), settings=f'[retire]\n"{A.fingerprint}" = {OVER.isoformat()}\n')
    directory = PeerDirectory(yard.path)
    directory.succeed("alice", B, None)
    assert pins(directory) == of(B)  # what was retired is taken out by whoever changes the peer next
    directory.succeed("alice", C, None)
    assert noted(directory).retire == ()
    directory.succeed("alice", C, SOON, of=B)
    directory.succeed("alice", C, SOON + timedelta(days=9), of=B)
    assert dict(noted(directory).retire) == {B.fingerprint: SOON}


def test_a_person_who_says_yes_retires_all_that_was_there(yard: Yard) -> None:
    yard.pin("alice", identity("a"), identity("b"))
    directory = PeerDirectory(yard.path)
    directory.succeed("alice", C, SOON)
    assert dict(noted(directory).retire) == {A.fingerprint: SOON, B.fingerprint: SOON}
    assert dict(noted(directory).follows) == {C.fingerprint: B.fingerprint}


def test_the_last_pin_stays_although_it_is_retired(yard: Yard) -> None:
    """A refusal that says why is better than a peer that is not there."""
    yard.pin("alice", identity("a"), settings=f'[retire]\n"{A.fingerprint}" = {OVER.isoformat()}\n')
    directory = PeerDirectory(yard.path)
    directory.withdraw("alice", B)
    assert pins(directory) == of(A)


def test_what_a_lost_key_has_endorsed_goes_with_it(yard: Yard) -> None:
    yard.pin("alice", identity("x"), identity("a"))
    directory = PeerDirectory(yard.path)
    directory.succeed("alice", B, SOON, of=A)
    directory.succeed("alice", C, SOON, of=B)
    assert set(directory.drop("alice", A.fingerprint, issued=NOW)) == of(A, B, C)
    assert pins(directory) == of(identity("x").certificate)
    assert (noted(directory).rotated, noted(directory).retire, noted(directory).follows) == (NOW, (), ())


def test_what_came_before_a_lost_key_goes_with_it(yard: Yard) -> None:
    """Keys that were replaced are kept beside the present one: a thief of that may have them, too."""
    yard.pin("alice", identity("x"), identity("a"))
    directory = PeerDirectory(yard.path)
    directory.succeed("alice", B, SOON, of=A)
    directory.succeed("alice", C, SOON, of=B)
    assert set(directory.drop("alice", C.fingerprint, issued=NOW)) == of(A, B, C)
    assert pins(directory) == of(identity("x").certificate)
    assert noted(directory).retire == ()


def test_every_pin_over_a_lost_key_goes(yard: Yard) -> None:
    key = new_key(KeyType.P256)
    one, two = (self_signed(key, name, NOW) for name in ("one", "two"))
    yard.pin("alice", one, two, identity("a"))
    directory = PeerDirectory(yard.path)
    directory.drop("alice", one.certificate.fingerprint, key=one.certificate.key_fingerprint)
    assert pins(directory) == of(A)


def test_a_lost_key_goes_although_a_file_or_the_notes_are_broken(yard: Yard) -> None:
    yard.pin("alice", identity("a"), settings='note = "x"')
    directory = PeerDirectory(yard.path)
    directory.refresh()
    yard.place("alice.crt", A.pem[:200])
    yard.place("alice.toml", "note = = ")
    assert directory.refresh().peers["alice"].pins == (A.fingerprint,), "what was known stays"
    directory.drop("alice", A.fingerprint)
    assert "alice" not in directory.refresh()
    assert (yard.path / "alice.toml").read_text() == "note = = "


@pytest.mark.parametrize("broken", ["alice.crt", "alice.toml"])
def test_nothing_else_is_changed_where_something_is_broken(yard: Yard, broken: str) -> None:
    yard.pin("alice", identity("a"), settings='note = "x"')
    directory = PeerDirectory(yard.path)
    directory.refresh()
    yard.place(broken, "-----BEGIN CERTIFICATE-----" if broken == "alice.crt" else "note = = ")
    before = {path: path.read_bytes() for path in yard.path.iterdir()}
    with pytest.raises(BadInput):
        directory.succeed("alice", B, SOON, of=A)
    with pytest.raises(BadInput):
        directory.withdraw("alice", B)
    assert {path: path.read_bytes() for path in yard.path.iterdir()} == before


def test_who_is_not_there_or_somebody_else_is_not_followed(yard: Yard) -> None:
    yard.pin("alice", identity("a"))
    directory = PeerDirectory(yard.path)
    for name, certificate, code in (
        ("carol", B, "no-such-peer"),
        ("alice", identity("bob").certificate, "already-pinned"),
        ("../alice", B, "bad-name"),
    ):
        with pytest.raises(BadInput) as error:
            directory.succeed(name, certificate, SOON)
        assert error.value.code == code
    for act in (lambda: directory.withdraw("carol", B), lambda: directory.drop("carol", A.fingerprint)):
        with pytest.raises(BadInput, match="no peer"):
            act()
    assert pins(directory) == of(A)


def test_a_peer_comes_back_with_its_notes_and_somebody_else_of_its_name_without(yard: Yard) -> None:
    yard.pin("alice", identity("a"), settings='tags = ["ci"]')
    directory = PeerDirectory(yard.path)
    directory.drop("alice", A.fingerprint, issued=NOW)
    directory.succeed("alice", B, None)
    assert (pins(directory), noted(directory).tags) == (of(B), ("ci",))
    directory.drop("alice", B.fingerprint)
    assert directory.enrol("alice", C) == "alice"
    assert (pins(directory), noted(directory).tags) == (of(C), ())


def test_who_comes_back_by_a_persons_hand_may_do_no_more_than_before(yard: Yard) -> None:
    """Its restrictions hold, also where its new certificate is added as a stranger's; what it was given is given anew."""
    tight = 'tags = ["ci"]\nfrom = ["10.0.0.0/8"]\nmax_connections = 3\nrotation = "ask"\n'
    yard.pin("alice", identity("a"), settings=tight)
    directory = PeerDirectory(yard.path)
    before = directory.refresh().peers["alice"].settings
    directory.drop("alice", A.fingerprint, issued=NOW)
    directory.add("alice", [B])
    now = noted(directory)
    assert (now.sources, now.max_connections, now.rotation) == (before.sources, 3, "ask")
    assert (now.tags, now.rotated) == ((), NOW)
    directory.drop("alice", B.fingerprint, issued=NOW)
    directory.add("alice", [C], PeerSettings(tags=("new",), max_connections=9))
    assert (noted(directory).sources, noted(directory).max_connections) == (before.sources, 9)
    directory.drop("alice", C.fingerprint, issued=NOW)
    directory.remove("alice")
    assert not (yard.path / "alice.toml").exists()
    directory.add("alice", [A])
    assert noted(directory) == PeerSettings()


def test_the_issuer_in_a_file_is_not_pinned_when_its_leaf_goes(yard: Yard) -> None:
    root = mint("root", ca=True)
    leaf = mint("leaf", issuer=root)
    yard.place("alice.crt", leaf.certificate.pem + root.certificate.pem)
    directory = PeerDirectory(yard.path)
    directory.succeed("alice", B, SOON, of=leaf.certificate)
    assert pins(directory) == of(leaf.certificate, B)
    directory.succeed("alice", C, SOON, of=B)
    directory.drop("alice", leaf.certificate.fingerprint)
    assert root.certificate.fingerprint not in pins(directory)


def test_a_link_is_replaced_and_what_it_leads_to_is_not(yard: Yard, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.crt"
    elsewhere.write_text(A.pem)
    (yard.path / "alice.crt").symlink_to(elsewhere)
    directory = PeerDirectory(yard.path)
    directory.succeed("alice", B, SOON, of=A)
    assert pins(directory) == of(A, B)
    assert elsewhere.read_text() == A.pem


def test_where_the_key_is_pinned_its_date_is_noted_as_well_and_taken_back(yard: Yard) -> None:
    yard.pin("alice", identity("a"), settings='pin = "key"')
    directory = PeerDirectory(yard.path)
    directory.succeed("alice", B, SOON, of=A)
    assert {pin for pin, _ in noted(directory).retire} == {A.fingerprint, A.key_fingerprint}
    directory.withdraw("alice", B)
    assert noted(directory).retire == ()
    again = self_signed(identity("a").key, "a", NOW).certificate  # the same key in another certificate
    directory.succeed("alice", again, SOON, of=A)
    assert {pin for pin, _ in noted(directory).retire} == {A.fingerprint}


def test_a_race_of_several_leaves_every_pin(yard: Yard) -> None:
    yard.pin("alice", identity("a"))
    whose = [identity(f"racer-{number}").certificate for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda one: PeerDirectory(yard.path).succeed("alice", one, SOON, of=A), whose))
    directory = PeerDirectory(yard.path)
    directory.refresh()
    assert pins(directory) == of(A, *whose)
    assert len(noted(directory).follows) == 6


# The content of a file

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20).filter(lambda text: "-----" not in text)


def content(parts: Iterable[str | Certificate]) -> bytes:
    return "".join(part if isinstance(part, str) else f"\n{part.pem}" for part in parts).encode()


def squeezed(data: bytes) -> bytes:
    return b"".join(data.split())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXTS | st.sampled_from([A, B, identity("x").certificate]), min_size=1, max_size=6))
def test_one_pin_more_and_less_leaves_the_others_and_all_text(parts: list[str | Certificate]) -> None:
    data = content(parts)
    try:
        held = pinned_in(data)
    except BadInput:
        return
    more = with_pin(data, C, 1 << 18)
    assert more is not None
    assert pinned_in(more) == [*held, C]
    assert more.startswith(data)
    assert without_pins(more, lambda one: one == C).rstrip(b"\n") == data.rstrip(b"\n")
    fewer = without_pins(data, lambda one: one == A)
    if set(held) <= {A}:
        assert fewer == (b"" if held else data)
    else:
        assert pinned_in(fewer) == [one for one in held if one != A]
        assert squeezed(fewer) == squeezed(content(part for part in parts if part != A))


def test_a_file_does_not_grow_beyond_what_is_read(yard: Yard) -> None:
    assert with_pin(A.pem.encode(), B, len(A.pem) + len(B.pem)) is not None
    assert with_pin(A.pem.encode(), B, len(A.pem) + len(B.pem) - 1) is None
    yard.place("alice.crt", A.pem.ljust((256 << 10) - 100, "\n"))
    directory = PeerDirectory(yard.path)
    directory.succeed("alice", B, SOON, of=A)
    assert pins(directory) == of(A, B)
    assert (yard.path / "alice.pem").read_text() == B.pem

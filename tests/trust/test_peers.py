from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.errors import BadInput
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import Peer, PeerSet, PeerSettings, check_name, suggest_name
from tests.support.outcome import outcome

PINS = st.integers(0, 6).map(lambda n: Fingerprint(bytes([n]) * 32))
PEERS = st.builds(
    Peer,
    st.sampled_from("abcdef"),
    st.lists(PINS, min_size=1, max_size=3, unique=True).map(tuple),
    st.builds(PeerSettings, note=st.sampled_from(["", "x"])),
    st.lists(PINS, max_size=2).map(tuple),
)


@given(st.text(max_size=100))
def test_every_suggestion_is_a_name(text: str) -> None:
    assert check_name(suggest_name(text)) == suggest_name(text)


@given(st.text(max_size=100) | st.from_regex(r"[a-z0-9._/\\-]{0,70}", fullmatch=True))
def test_name_is_never_a_way_to_another_place(text: str) -> None:
    name = outcome(lambda: check_name(text))
    if isinstance(name, BadInput):
        assert name.code == "bad-name"
    else:
        assert name == text
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name)
        assert "/" not in name
        assert name not in {".", ".."}


@pytest.mark.parametrize(
    "text", ["alice\n", "Alice", ".alice", "-alice", "a/b", "a\0", "", "a" * 65, "\uff41lice", "alice "]
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(BadInput):
        check_name(text)


@given(st.lists(PEERS, max_size=8))
def test_every_pin_has_one_holder_the_first_by_name(peers: list[Peer]) -> None:
    known = PeerSet.of(peers)
    last = {peer.name: peer for peer in sorted(peers, key=lambda p: p.name)}
    assert dict(known.peers) == last
    assert [peer.name for peer in known] == sorted(last)
    for pin in {pin for peer in last.values() for pin in peer.pins}:
        holder = known.holder(pin)
        assert holder is not None
        assert holder.name == min(name for name, peer in last.items() if pin in peer.pins)


@given(st.lists(PEERS, max_size=6), st.lists(PEERS, max_size=6))
def test_set_is_narrowed_exactly_when_somebody_known_is_gone_or_other(before: list[Peer], after: list[Peer]) -> None:
    old, new = PeerSet.of(before), PeerSet.of(after)
    assert old.narrowed_by(new) == (not set(old) <= set(new))
    assert not old.narrowed_by(old)
    assert PeerSet.of(before) == old


ROWS = st.none() | st.integers(0, 6).map(lambda n: bytes([n]) * 32) | PEERS


@given(st.lists(st.dictionaries(st.sampled_from("abcdef"), ROWS, max_size=4), max_size=6))
def test_set_changed_step_by_step_is_the_set_made_at_once(steps: list[dict[str, Peer | bytes | None]]) -> None:
    """Who has a pin, and who else would like it, does not depend on the order in which they came and went."""
    known, plain = PeerSet(), dict[str, Peer]()
    for step in steps:
        step = {name: replace(row, name=name) if isinstance(row, Peer) else row for name, row in step.items()}  # noqa: PLW2901
        before, known = known, known.changed(step)
        for name, row in step.items():
            plain.pop(name, None)
            if row is not None:
                plain[name] = row if isinstance(row, Peer) else Peer(name, (Fingerprint(row),))
        at_once = PeerSet.of(plain.values())
        assert dict(known.peers) == plain
        assert known == at_once
        assert len(known) == len(plain)
        assert known.shared == at_once.shared
        assert dict(known._by_key) == dict(at_once._by_key)
        assert {pin: known.holder(Fingerprint(bytes([pin]) * 32)) for pin in range(7)} == {
            pin: at_once.holder(Fingerprint(bytes([pin]) * 32)) for pin in range(7)
        }
        differing = {name: (old, new) for name, old, new in before.differences(known)}
        names = {*before.peers, *known.peers}
        assert differing == {n: (before.get(n), known.get(n)) for n in names if before.get(n) != known.get(n)}


@given(st.lists(PEERS, max_size=6), st.sampled_from("abcdefg"))
def test_only_one_is_left_by_only(peers: list[Peer], name: str) -> None:
    known = PeerSet.of(peers)
    assert list(known.only(name)) == ([known.peers[name]] if name in known else [])


def test_set_cannot_be_edited() -> None:
    known = PeerSet.of([Peer("a", (Fingerprint(bytes(32)),))])
    with pytest.raises(TypeError):
        known.peers["b"] = known.peers["a"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        known.peers["a"].name = "b"  # type: ignore[misc]

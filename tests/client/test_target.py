from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.client.request import parse_url
from peerauth.client.target import resolve
from peerauth.errors import BadInput
from peerauth.trust.peers import Peer, PeerSet, PeerSettings
from tests.support.engine import identity
from tests.support.outcome import outcome


def peer(name: str, address: str | None = None) -> Peer:
    return Peer(name, (identity(name).certificate.fingerprint,), PeerSettings(address=address))


PEERS = PeerSet.of(
    [peer("db-1", "10.0.0.1:5432"), peer("db-2", "unix:/run/db"), peer("v6", "[::1]:7"), peer("bare"), peer("10.9.9.9")]
)


@pytest.mark.parametrize(
    ("text", "meant", "expected"),
    [
        ("db-1", None, ("db-1", "10.0.0.1:5432")),
        ("db-1:99", None, ("db-1", "10.0.0.1:99")),
        ("v6:99", None, ("v6", "[::1]:99")),
        ("db-2", None, ("db-2", "unix:/run/db")),
        ("db-1", "db-1", ("db-1", "10.0.0.1:5432")),
        ("10.0.0.1:5432", None, ("db-1", "10.0.0.1:5432")),
        ("10.0.0.1:5433", "db-1", ("db-1", "10.0.0.1:5433")),
        ("10.0.0.1:5432", "db-2", ("db-2", "10.0.0.1:5432")),
        ("unix:/run/other", "db-1", ("db-1", "unix:/run/other")),
        ("bare:80", None, ("bare", "bare:80")),
        ("db-1:80", "bare", ("bare", "db-1:80")),
    ],
)
def test_who_is_meant_and_where(text: str, meant: str | None, expected: tuple[str, str]) -> None:
    target = resolve(text, PEERS, meant)
    assert (target.peer.name, str(target.address)) == expected


@pytest.mark.parametrize(
    ("text", "meant", "code"),
    [
        ("10.0.0.1:5433", None, "who-is-meant"),
        ("10.0.0.1:5433", "nobody", "no-such-peer"),
        ("bare", None, "no-address"),
        ("nobody", None, "no-such-peer"),
        ("db-1", "db-2", "bad-address"),
        ("", None, "bad-address"),
        ("host:99999", None, "bad-address"),
    ],
)
def test_where_it_is_not_clear_who_is_meant_nobody_is_guessed(text: str, meant: str | None, code: str) -> None:
    with pytest.raises(BadInput) as refused:
        resolve(text, PEERS, meant)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://db-1/x?y#z", ("10.0.0.1:5432", "db-1", "/x?y")),
        ("https://db-1:1/", ("10.0.0.1:1", "db-1", "/")),
        ("db-1", ("10.0.0.1:5432", "db-1", "/")),
        ("https://bare", ("bare:443", "bare", "/")),
    ],
)
def test_peers_name_is_a_host_name(url: str, expected: tuple[str, str, str]) -> None:
    found = parse_url(url, PEERS)
    assert (str(found.target.address), found.host, found.path) == expected


@pytest.mark.parametrize(
    "url",
    ["http://db-1/", "https://", "https://user@db-1/", "https://db-1/\n", "https://db-1:99999/", "https://[db-1/", "ftp:x"],
)
def test_what_is_no_url_for_us(url: str) -> None:
    with pytest.raises(BadInput):
        parse_url(url, PEERS)


@given(st.text(max_size=40) | st.text("db-1:/[]@.?#%\x00 ", max_size=30), st.none() | st.text(max_size=5) | st.just("db-1"))
def test_any_text_is_a_target_or_bad_input(text: str, meant: str | None) -> None:
    for read in (lambda: resolve(text, PEERS, meant), lambda: parse_url(text, PEERS, meant)):
        found = outcome(read)
        assert not isinstance(found, BadInput) or found.message

"""config.toml and peers' notes: whatever is in them, only BadInput comes out, and it names the file and the field."""

from __future__ import annotations

import string
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from peerauth.errors import BadInput
from peerauth.store.config import Config, Service, make_policy, parse_config
from peerauth.store.peerfile import format_settings, parse_settings
from peerauth.store.schema import parse_moment, parse_span
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import Peer, PeerSettings
from tests.support.engine import identity
from tests.support.outcome import outcome

HOME = Path("/home/of/node")
GOOD = b'[node]\nname = "node"\n'
SCALARS: st.SearchStrategy[Any] = (
    st.text(string.printable, max_size=20)
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.booleans()
    | st.datetimes()
    | st.dates()
    | st.times()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_letters, max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
NODE_KEYS = st.sampled_from(["name", "key", "certificate", "peers", "min_tls", "nmae"])
SERVE_KEYS = st.sampled_from(["name", "listen", "target", "allow", "routes", "lisen"])
LIMIT_KEYS = st.sampled_from(["handshake_timeout", "max_handshakes", "max_connections", "drain", "drian"])
NOTE_KEYS = st.sampled_from(["note", "tags", "address", "pin", "from", "until", "max_connections", "util"])
DOCUMENTS = st.fixed_dictionaries(
    {"node": st.just({"name": "node"}) | st.dictionaries(NODE_KEYS, VALUES, max_size=3)},
    optional={
        "serve": st.lists(st.dictionaries(SERVE_KEYS, VALUES, max_size=4), max_size=2) | VALUES,
        "groups": st.dictionaries(st.text(string.ascii_lowercase, max_size=5), VALUES, max_size=2) | VALUES,
        "limits": st.dictionaries(LIMIT_KEYS, VALUES, max_size=3) | VALUES,
        "surprise": VALUES,
    },
)


def parsed(data: bytes) -> Config | None:
    found = outcome(lambda: parse_config(data, HOME))
    if isinstance(found, Config):
        return found
    assert found.code in {"bad-toml", "bad-setting", "unknown-setting", "no-such-group", "bad-name"}, found.code
    assert "config.toml" in found.message
    return None


@given(st.binary(max_size=200))
def test_bytes_are_a_configuration_or_bad_input(data: bytes) -> None:
    parsed(data)
    parsed(GOOD + data)


@settings(deadline=None)
@given(DOCUMENTS)
def test_values_of_every_type_in_every_place_are_taken_or_bad_input(document: dict[str, Any]) -> None:
    found = parsed(tomli_w.dumps(document).encode())
    if found is not None:
        assert found.path == HOME / "config.toml"
        assert found.limits.max_connections >= 1
        assert found.key.is_absolute()
        assert found.peers.is_absolute()
        assert set(document) <= {"node", "serve", "groups", "limits", "tunnel", "admin", "log"}


@settings(deadline=None)
@given(st.dictionaries(NOTE_KEYS, VALUES, max_size=4))
def test_notes_are_taken_or_bad_input(values: dict[str, Any]) -> None:
    found = outcome(lambda: parse_settings(tomli_w.dumps(values).encode(), HOME / "peers" / "alice.toml"))
    if isinstance(found, BadInput):
        assert "alice.toml" in found.message
    else:
        assert "util" not in values
        assert found.until is None or found.until.tzinfo is not None
        assert parse_settings(format_settings(found), HOME) == found


PINS = st.binary(min_size=32, max_size=32).map(Fingerprint)


def in_order(table: dict[Any, Any]) -> tuple[Any, ...]:
    return tuple(sorted(table.items()))


@given(
    st.builds(
        PeerSettings,
        note=st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
        tags=st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=5), max_size=3).map(tuple),
        pin=st.sampled_from(["cert", "key"]),
        until=st.none() | st.datetimes(timezones=st.just(UTC)),
        max_connections=st.none() | st.integers(1, 1000),
        address=st.none() | st.just("10.0.0.1:80"),
        rotation=st.sampled_from([None, "auto", "ask", "never"]),
        rotated=st.none() | st.datetimes(timezones=st.just(UTC)),
        retire=st.dictionaries(PINS, st.datetimes(timezones=st.just(UTC)), max_size=3).map(in_order),
        follows=st.dictionaries(PINS, PINS, max_size=3).map(in_order),
    )
)
def test_what_is_written_is_read_again(noted: PeerSettings) -> None:
    assert parse_settings(format_settings(noted), HOME) == noted


@pytest.mark.parametrize(
    "text",
    [
        "[retire]\nAB = 2027-01-31",
        f'[retire]\n"{"AB:" * 31}AB" = 7',
        f'[retire]\n"{"AB:" * 31}AB" = "soon"',
        "retire = 2027-01-31",
        f'[follows]\n"{"AB:" * 31}AB" = "AB"',
        f'[follows]\n"{"AB:" * 31}AB" = 2027-01-31',
        'rotation = "sometimes"',
        "rotation = true",
        'rotation = ""',
        'rotated = "lately"',
    ],
)
def test_what_a_rotation_notes_is_read_strictly(text: str) -> None:
    with pytest.raises(BadInput) as error:
        parse_settings(text.encode(), HOME / "peers" / "alice.toml")
    assert (error.value.code, "alice.toml" in error.value.message) == ("bad-setting", True)


def test_a_fingerprint_in_retire_is_read_in_every_usual_form() -> None:
    pin = Fingerprint(bytes(range(32)))
    for text in (str(pin), pin.digest.hex(), f"sha256:{pin.digest.hex()}"):
        assert parse_settings(f'[retire]\n"{text}" = 2027-01-31'.encode(), HOME).retire == (
            (pin, datetime(2027, 2, 1, tzinfo=UTC)),
        )


@pytest.mark.parametrize("text", ["auto", "ask", "never"])
def test_the_node_says_what_is_done_about_rotations(text: str) -> None:
    assert parse_config(b'[node]\nname = "x"', HOME).accept == "auto"
    assert parse_config(f'[node]\nname = "x"\n[rotation]\naccept = "{text}"'.encode(), HOME).accept == text
    for wrong in ('accept = "perhaps"', "accept = 1", 'except = "auto"'):
        with pytest.raises(BadInput, match=r"rotation\."):
            parse_config(f'[node]\nname = "x"\n[rotation]\n{wrong}'.encode(), HOME)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("until = 9999-12-31", datetime.max.replace(tzinfo=UTC)),
        ("until = 2027-01-31", datetime(2027, 2, 1, tzinfo=UTC)),
        ('until = "2027-01-31"', datetime(2027, 2, 1, tzinfo=UTC)),
        ("until = 2027-01-31T10:00:00+02:00", datetime(2027, 1, 31, 8, tzinfo=UTC)),
        ("until = 2027-01-31T10:00:00", datetime(2027, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_last_day_counts_to_its_end(text: str, expected: datetime) -> None:
    assert parse_settings(text.encode(), HOME).until == expected


@pytest.mark.parametrize(
    "text", ["until = 0001-01-01T00:00:00+01:00", "until = 9999-12-31T23:00:00-02:00", "until = 10:00:00"]
)
def test_moment_that_there_is_not_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput, match="until"):
        parse_settings(text.encode(), HOME)


@given(st.text(max_size=30))
def test_moments_and_spans_of_any_text(text: str) -> None:
    parse_span(text)
    with suppress(ValueError):
        assert parse_moment(text).tzinfo is not None


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ('[node]\nname = "n"\npeer = "x"', "peers"),
        ('[node]\nname = "n"\n[limit]\ndrain = 1', "limits"),
        ('[node]\nname = "n"\n[[serve]]\nlisten = ":1"\ntraget = ":2"', "target"),
        ('[node]\nname = "n"\n[limits]\ndrian = 1', "drain"),
    ],
)
def test_unknown_setting_names_the_nearest(text: str, near: str) -> None:
    with pytest.raises(BadInput) as unknown:
        parse_config(text.encode(), HOME)
    assert unknown.value.code == "unknown-setting"
    assert near in (unknown.value.hint or "")


def test_allow_lists_resolve_to_names_and_tags() -> None:
    policy = make_policy("db", ["alice", "tag:ci", "@ops"], {"ops": ["bob", "tag:root"]})
    pin = (identity("alice").certificate.fingerprint,)
    assert [name for name in ("alice", "bob", "carol") if policy.allows(Peer(name, pin))] == ["alice", "bob"]
    assert policy.allows(Peer("x", pin, PeerSettings(tags=("root",))))
    assert not policy.allows(Peer("x", pin, PeerSettings(tags=("alice",))))
    with pytest.raises(BadInput, match="does not define"):
        make_policy("db", ["@nobody"], {})
    with pytest.raises(BadInput):
        make_policy("db", ["Not A Name"], {})
    assert not make_policy("db", [], {}).allows(Peer("alice", pin))


def served(*lines: str) -> Service:
    """The one service of a configuration with these lines in its block."""
    text = "\n".join(["[node]", 'name = "n"', "[[serve]]", 'listen = ":1"', *lines])
    (service,) = parse_config(text.encode(), HOME).services
    return service


def test_what_speaks_http_may_explain_and_nothing_else_may() -> None:
    assert served().on_unknown == "refuse"
    assert served('on_unknown = "explain"').on_unknown == "explain"
    assert served('target = ":2"', 'on_unknown = "refuse"').on_unknown == "refuse"
    with pytest.raises(BadInput, match=r"serve\[1\].on_unknown is not usable: strangers are told in HTTP") as relay:
        served('target = ":2"', 'on_unknown = "explain"')
    assert (relay.value.code, relay.value.hint) == ("bad-setting", "leave it out: they are refused by TLS, with an alert")
    with pytest.raises(BadInput, match="must be one of refuse, explain"):
        served('on_unknown = "admit"')

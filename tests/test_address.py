import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.address import Address, parse_address
from peerauth.errors import BadInput
from tests.support.outcome import outcome

HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True)


@given(HOSTS | st.ip_addresses().map(str) | st.just(""), st.integers(0, 65535))
def test_address_prints_as_it_is_read(host: str, port: int) -> None:
    address = Address(host, port)
    assert parse_address(str(address)) == address


@given(
    st.text(max_size=60)
    | st.text(string.digits + ":[]abx.", max_size=30)
    | st.text(max_size=120).map(lambda text: f"unix:{text}")
    | st.text(st.characters(), max_size=20).map(lambda text: f"host:{text}")
)
def test_any_text_is_an_address_or_bad_input(text: str) -> None:
    for default in (None, 443):
        found = outcome(lambda: parse_address(text, default_port=default))  # noqa: B023 - used at once
        if isinstance(found, BadInput):
            assert found.code == "bad-address"
        else:
            assert 0 <= found.port <= 65535
            assert not set(found.host) & set(" /@\n\0")
            assert (found.path is None) == (not text.startswith("unix:"))


@pytest.mark.parametrize(
    "text",
    [
        "host:65536",
        "host:000065535999",
        "host:-1",
        "host:\uff18\uff10",
        "host:1e3",
        "unix:",
        "unix:a\0b",
        "unix:" + "x" * 108,
        "h@st:1",
        "a b:1",
        "host",
        "::1",
        "",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BadInput):
        parse_address(text)


def test_path_that_no_text_can_say_is_still_a_path() -> None:
    assert parse_address("unix:/run/\udcff.sock").path == "/run/\udcff.sock"


@pytest.mark.parametrize(
    ("text", "name"), [("db.example:1", "db.example"), ("10.0.0.1:1", None), ("[::1]:1", None), (":1", None)]
)
def test_an_ip_address_is_no_server_name(text: str, name: str | None) -> None:
    assert parse_address(text).server_name == name


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("db-1:99999", "a port is a number up to 65535"),
        ("8443", "with something before the port: 127.0.0.1:8443, or :8443 for every interface"),
        ("db-1", "for instance 0.0.0.0:8443, [::1]:8443, db.example:5432 or unix:/run/app.sock"),
    ],
)
def test_what_is_no_address_is_told_what_would_be(text: str, hint: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_address(text)
    assert refused.value.hint == hint

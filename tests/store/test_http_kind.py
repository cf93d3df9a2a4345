"""The key `http` of [[serve]], the option --http, and what stands with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.errors import BadInput
from peerauth.http.introduction import DEFAULT_HEADERS
from peerauth.store.config import parse_config
from peerauth.store.kinds import Http, Kind, http
from tests.cli.running import peerauth

NODE = '[node]\nname = "x"\n'


def kind(text: str) -> Kind:
    (service,) = parse_config(f'{NODE}[[serve]]\nlisten = ":1"\n{text}'.encode(), Path("home")).services
    return service.kind


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:8000", Address("127.0.0.1", 8000)),
        ("HTTP://127.0.0.1:8000/", Address("127.0.0.1", 8000)),
        ("http://[::1]:8000", Address("::1", 8000)),
        ("http://backend.example", Address("backend.example", 80)),
        ("127.0.0.1:8000", Address("127.0.0.1", 8000)),
        ("127.0.0.1:8000/", Address("127.0.0.1", 8000)),
        ("unix:/run/app.sock", Address(path="/run/app.sock")),
    ],
)
def test_where_a_program_is_that_speaks_http(text: str, address: Address) -> None:
    assert http([text]) == kind(f'http = "{text}"') == Http((address,), 60.0, DEFAULT_HEADERS)
    assert str(http([text])) == f"passes HTTP on to {address}"


@pytest.mark.parametrize(
    "text",
    ["https://127.0.0.1:8000", "http://127.0.0.1:8000/app", "http://a@b:80", "http://:x", "8000", "", "unix:", "ftp://a:21"],
)
def test_what_is_no_place_for_a_program_is_said(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        http([text])
    assert refused.value.code == "bad-address"
    with pytest.raises(BadInput) as refused:
        kind(f'http = "{text}"')
    assert refused.value.code == "bad-setting"
    assert "http" in refused.value.message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("8000", "write: http://127.0.0.1:8000"),
        ("localhost:8000/app", "write: http://localhost:8000"),
        ("http://localhost:8000/app", "write: http://localhost:8000"),
        ("localhost", "for instance http://127.0.0.1:8000 or unix:/run/app.sock"),
        ("http://", "for instance http://127.0.0.1:8000 or unix:/run/app.sock"),
        ("/run/app.sock", "write: unix:/run/app.sock"),
    ],
)
def test_what_to_write_for_a_place_is_a_place_for_a_program(text: str, hint: str) -> None:
    with pytest.raises(BadInput) as refused:
        http([text])
    assert refused.value.hint == hint


def test_the_settings_of_a_proxy() -> None:
    made = kind('http = "127.0.0.1:1"\ntimeout = "2m"\nheaders = ["forwarded"]\n')
    assert made == Http((Address("127.0.0.1", 1),), 120.0, frozenset({"Forwarded"}))
    assert made.speaks_http
    assert made.leads_to == "127.0.0.1:1"


@pytest.mark.parametrize(
    "text",
    [
        'http = "127.0.0.1:1"\ntimeout = 0\n',
        'http = "127.0.0.1:1"\ntimeout = "2h"\n',
        'target = "127.0.0.1:1"\ntimeout = 3\n',
        "timeout = 3\n",
        'http = "127.0.0.1:1"\ntarget = "127.0.0.1:1"\n',
    ],
)
def test_settings_that_do_not_belong_together_are_errors(text: str) -> None:
    with pytest.raises(BadInput):
        kind(text)


def test_the_option_is_one_thing_to_be_and_needs_a_place_to_listen(tmp_path: Path) -> None:
    assert peerauth("keygen", "node", "--type", "p256", "--home", tmp_path).code == 0
    for words, said in (
        (("--http", "https://127.0.0.1:1", "--listen", ":1"), "http://HOST:PORT"),
        (("--http", "http://127.0.0.1:1"), "--listen"),
        (("--http", "http://127.0.0.1:1", "--target", "127.0.0.1:1", "--listen", ":1"), "different things"),
    ):
        done = peerauth("serve", "--home", tmp_path, *words)
        assert done.code == 2, done.err
        assert said in done.err

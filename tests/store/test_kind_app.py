"""MODULE:ATTRIBUTE is read strictly: what is nearly one is answered with what may have been meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.errors import BadInput
from peerauth.store.config import parse_config
from peerauth.store.kind_app import App, app

HERE = Path("/srv")
NODE = '[node]\nname = "x"\n[[serve]]\nlisten = ":1"\n'


@pytest.mark.parametrize(
    ("reference", "meant"),
    [
        ("main", "main:app"),
        ("main.py", "main:app"),
        ("./main.py", "main:app"),
        ("src/orders/main.py:app", "src.orders.main:app"),
        ("main:", "main:app"),
        (":app", "main:app"),
        ("main:app(1)", "main:app"),
        ("main:app, main:other", "main:appmainother"),
        ("", "main:app"),
        ("1:2", "main:app"),
        ("main:app\n", "main:app"),
    ],
)
def test_what_is_nearly_a_reference_is_answered_with_one(reference: str, meant: str) -> None:
    with pytest.raises(BadInput, match="is not MODULE:ATTRIBUTE") as caught:
        app(reference, HERE)
    assert caught.value.hint == f"for instance: {meant}"
    assert app(meant, HERE).leads_to == meant


@given(st.text(max_size=40))
def test_any_text_is_an_application_that_is_written_the_same_or_an_error(text: str) -> None:
    found: App | BadInput
    try:
        found = app(text, HERE)
    except BadInput as error:
        found = error
    if isinstance(found, App):
        assert found.leads_to == text
    else:
        assert (found.code, found.message.isprintable()) == ("bad-app", True)


def test_a_block_names_an_application_below_the_home_or_elsewhere() -> None:
    home = Path("/home/node")
    for text, directory in (("", home), ('app_dir = "code"\n', home / "code"), ('app_dir = "/srv"\n', Path("/srv"))):
        (service,) = parse_config(f'{NODE}app = "main:app"\n{text}'.encode(), home).services
        assert service.kind == App("main", "app", directory)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('app = "main"\n', r"serve\[1\].app is not usable: 'main' is not MODULE:ATTRIBUTE"),
        ('app = "main:app"\ninterface = "cgi"\n', r"serve\[1\].interface must be one of auto, asgi, wsgi"),
        ('app = "main:app"\ntarget = "127.0.0.1:1"\n', "two different things"),
        ('target = "127.0.0.1:1"\napp_dir = "x"\n', r"unknown setting 'serve\[1\].app_dir'"),
        ('app = "main:app"\napp_dir = "a\\u0000b"\n', "has a NUL"),
    ],
)
def test_a_block_that_makes_no_sense_is_an_error_that_says_where(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse_config(f"{NODE}{text}".encode(), HERE)

"""The path of a request as names of files: decoded once, one name for one thing, nothing hidden."""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.http.filepath import LONGEST_NAME, MOST_NAMES, Asked, parse_path, reference

NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"/" not in name and b"\0" not in name and not name.startswith(b".")
)


@given(names=st.lists(NAMES, max_size=8), directory=st.booleans())
def test_every_name_that_a_file_can_have_is_found_by_its_encoded_path(names: list[bytes], *, directory: bool) -> None:
    path = "/" + "/".join(quote(name, safe="") for name in names) + ("/" if directory and names else "")
    assert parse_path(path.encode()) == Asked(tuple(names), directory or not names)


@given(name=NAMES, directory=st.booleans())
def test_a_reference_leads_from_the_directory_to_the_name(name: bytes, *, directory: bool) -> None:
    """Whatever is in the name: no scheme, no host, no query, no fragment."""
    text = reference(name, directory=directory)
    assert text.startswith("./")
    assert text.endswith("/") is directory
    assert not set(text[2:]) & set(":?#\\\"<>&' ")
    assert unquote_to_bytes(text[2:].removesuffix("/")) == name


@given(st.binary(max_size=60))
def test_whatever_is_asked_for_names_stay_names(raw: bytes) -> None:
    asked = parse_path(b"/" + raw)
    for name in asked.names if asked else ():
        assert name
        assert name not in {b".", b".."}
        assert not set(name) & set(b"/\0")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"*",
        b"file",
        b"//",
        b"/a//b",
        b"/.",
        b"/..",
        b"/a/../b",
        b"/%2e%2e/b",
        b"/%2E./b",
        b"/a%2fb",
        b"/a%00",
        b"/.git/config",
        b"/%2egit/config",
        b"/a/.env",
        b"/a/.well-known/x",
        b"/" + b"a" * (LONGEST_NAME + 1),
        b"/a" * (MOST_NAMES + 1),
    ],
)
def test_nothing_is_there(raw: bytes) -> None:
    assert parse_path(raw) is None


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        (b"/a/b", (b"a", b"b")),
        (b"/a./b..", (b"a.", b"b..")),
        (b"/%252e%252e/x", (b"%2e%2e", b"x")),  # decoded once
        (b"/a\\b", (b"a\\b",)),
        (b"/.well-known/x", (b".well-known", b"x")),
        (b"/%zz", (b"%zz",)),
        (b"/" + b"a" * LONGEST_NAME, (b"a" * LONGEST_NAME,)),
        (b"/a" * MOST_NAMES, (b"a",) * MOST_NAMES),
    ],
)
def test_twins_of_these_are_names(raw: bytes, names: tuple[bytes, ...]) -> None:
    assert parse_path(raw) == Asked(names, directory=False)

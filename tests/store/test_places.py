"""Where in a TOML file something stands: the lines that messages name."""

from __future__ import annotations

import string
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from peerauth.store.places import At, lines_of

TEXT = """\
# a comment with [brackets] and "quotes" = 1
top = 1
[node]                     # a table
name = "x"
"key" = 'a # no comment'
deep.er = 2

[[serve]]
listen = ":1"
allow = [
  "a",  # ]
  "b]",
]
[serve.more]
x = 1
[[serve]]
text = \"\"\"
listen = "this is text"
[[serve]]
\"\"\"
listen = ":2"
raw = '''
x = 1'''
inline = { a = 1, "b c" = [1, 2], d.e = 3 }
[[serve.routes]]
path = "/"
[[serve.routes]]
path = "/x"
[groups]
"with \\u0061 dot." = ["y"]
"""


def test_everything_is_found_where_it_stands() -> None:
    lines = lines_of(TEXT)
    expected: dict[At, int] = {
        ("top",): 2,
        ("node",): 3,
        ("node", "name"): 4,
        ("node", "key"): 5,
        ("node", "deep", "er"): 6,
        ("serve", 1): 8,
        ("serve", 1, "listen"): 9,
        ("serve", 1, "allow"): 10,
        ("serve", 1, "allow", 2): 12,
        ("serve", 1, "more", "x"): 15,
        ("serve", 2): 16,
        ("serve", 2, "text"): 17,
        ("serve", 2, "listen"): 21,
        ("serve", 2, "raw"): 22,
        ("serve", 2, "inline", "b c", 2): 24,
        ("serve", 2, "inline", "d", "e"): 24,
        ("serve", 2, "routes", 2): 27,
        ("serve", 2, "routes", 2, "path"): 28,
        ("groups", "with a dot."): 30,
    }
    assert {at: lines.get(at) for at in expected} == expected


KEYS = st.text(string.ascii_letters + " .#[]=\"'é", max_size=6)
VALUES = st.recursive(
    st.text(string.printable, max_size=20) | st.integers() | st.floats(allow_nan=False) | st.booleans() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


def places(value: Any, at: At = ()) -> Iterator[At]:  # noqa: ANN401 - whatever TOML can say
    if at:
        yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*at, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value, 1):
            yield from places(inner, (*at, number))


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.booleans())
def test_every_key_of_any_document_has_a_line_and_nothing_else_has(document: dict[str, Any], multiline: bool) -> None:
    text = tomli_w.dumps(document, multiline_strings=multiline)
    lines = lines_of(text)
    assert set(lines) == set(places(tomllib.loads(text)))
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


@given(st.text(max_size=60))
def test_what_is_no_toml_has_lines_as_far_as_it_is_understood(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 1 for line in lines_of(text).values())


@pytest.mark.parametrize("text", ["[" * 5000, "x = " + "[" * 5000, '"""' * 99, "a = {b = " * 500])
def test_depth_and_junk_end_the_search(text: str) -> None:
    assert len(lines_of(text)) <= 5001

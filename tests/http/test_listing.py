"""Listings: what a browser, a program and a terminal get of names that were not made for them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes, urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.http.listing import MOST_ENTRIES, Entry, Form, chosen_form, write_listing

FIREFOX = b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
NAMES = st.binary(min_size=1, max_size=30).filter(lambda name: name[:1] != b"." and not set(name) & set(b"/\0"))
ENTRIES = st.lists(
    st.builds(Entry, NAMES, st.booleans(), st.integers(0, 2**63), st.floats(allow_nan=False)),
    unique_by=lambda e: e.name,
    max_size=6,
)
EVIL = b"\"><script>alert(1)</script>&amp;'`"


class Links(HTMLParser):
    """The elements and links of a page, and what it shows."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.links: list[str] = []
        self.shown = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.links += [value for name, value in attrs if name in {"href", "src"} and value is not None]

    def handle_data(self, data: str) -> None:
        self.shown += data


@given(entries=ENTRIES)
def test_every_form_leads_to_every_name(entries: list[Entry]) -> None:
    want = {(entry.name, entry.is_directory) for entry in entries}

    def read(link: str) -> tuple[bytes, bool]:
        path = urljoin("https://node/dir/", link).removeprefix("https://node/dir/")
        return unquote_to_bytes(path.removesuffix("/")), path.endswith("/")

    page = Links(write_listing(Form.HTML, (b"dir",), entries, more=False))
    assert {read(link) for link in page.links if not link.startswith("../") and link != "./"} == want
    told = json.loads(write_listing(Form.JSON, (b"dir",), entries, more=False))
    assert {read(entry["href"]) for entry in told["entries"]} == want
    lines = write_listing(Form.PLAIN, (b"dir",), entries, more=False).decode().splitlines()
    assert len(lines) == len(entries)
    assert all(line.isprintable() for line in lines)


def test_a_name_is_text_and_never_markup() -> None:
    page = write_listing(Form.HTML, (EVIL,), [Entry(EVIL, is_directory=False, size=1, modified=0)], more=False)
    seen = Links(page)
    assert "script" not in seen.elements
    assert seen.shown.count("<script>alert(1)</script>") >= 2  # in the title, the heading and the row, as it is called


def test_a_page_loads_nothing() -> None:
    entries = [Entry(b"a", is_directory=True, size=0, modified=0)]
    seen = Links(write_listing(Form.HTML, (b"x", b"y"), entries, more=True))
    assert seen.elements.isdisjoint({"script", "img", "link", "iframe", "form", "base", "object"})
    assert seen.links == ["../../", "../", "./", "../", "./a/"]


def test_controls_and_what_turns_a_line_around_are_shown_as_codes() -> None:
    names = [b"a\nb", b"\x1b[31m", "a\u202egpj".encode(), b"\xff"]
    entries = [Entry(name, is_directory=False, size=1, modified=0) for name in names]
    shown = Links(write_listing(Form.HTML, (), entries, more=False)).shown
    assert all(text in shown for text in ("a\\nb", "\\x1b[31m", "a\\u202egpj", "\\xff"))
    plain = write_listing(Form.PLAIN, (), entries, more=False).decode().splitlines()
    assert sorted(plain) == ["%1B%5B31m", "%FF", "a%0Ab", "a%E2%80%AEgpj"]


def test_directories_come_first_then_names_as_people_count() -> None:
    names = [(b"b10", False), (b"B2", False), (b"a", False), (b"z", True)]
    entries = [Entry(name, is_directory, 0, 0) for name, is_directory in names]
    assert write_listing(Form.PLAIN, (), entries, more=False) == b"z/\na\nB2\nb10\n"


@pytest.mark.parametrize("form", Form)
def test_a_listing_that_is_not_whole_says_so(form: Form) -> None:
    entries = [Entry(b"a", is_directory=False, size=0, modified=0)]
    whole, part = (write_listing(form, (), entries, more=more) for more in (False, True))
    if form is Form.JSON:
        assert [json.loads(text)["complete"] for text in (whole, part)] == [True, False]
    else:
        assert [str(MOST_ENTRIES).encode() in text for text in (whole, part)] == [False, True]


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (b"", Form.PLAIN),
        (b"*/*", Form.PLAIN),  # curl
        (FIREFOX, Form.HTML),
        (b"application/json", Form.JSON),
        (b"Application/JSON; q=1.0", Form.JSON),
        (b"text/html;q=0.5, application/json", Form.JSON),
        (b"text/html, application/json;q=0.9", Form.HTML),
        (b"text/plain, text/html;q=0.2", Form.PLAIN),
        (b"text/html;q=0", Form.PLAIN),
        (b"image/png", Form.PLAIN),
        (b"text/html;q=nonsense", Form.HTML),
        (b",;,=;q", Form.PLAIN),
        (b"\xff" * 5000, Form.PLAIN),
    ],
)
def test_the_form_is_what_is_named_and_liked_best(accept: bytes, form: Form) -> None:
    assert chosen_form(accept) is form
